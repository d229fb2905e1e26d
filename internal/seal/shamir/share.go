package shamir

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
)

// Share is what one person keeps. Its bytes are
//
//	format 1 | set id 6 | threshold 1 | index 1 | value 32 | checksum 4
//
// which are 90 hexadecimal digits, or 60 characters of base64. The checksum is
// the beginning of the SHA-256 of what is before it: it finds typing errors.
type Share struct{ b secret.Bytes }

const (
	format1   = 1
	setSize   = 6
	headSize  = 1 + setSize + 2
	checkSize = 4
	shareSize = headSize + aead.KeySize + checkSize
)

func newShare(set []byte, threshold, index int, value []byte) Share {
	b := append(make([]byte, 0, shareSize), format1)
	b = append(b, set...)
	b = append(b, byte(threshold), byte(index)) //nolint:gosec // G115: at most MaxShares
	b = append(b, value...)
	sum := sha256.Sum256(b)
	return Share{secret.NewBytes(append(b, sum[:checkSize]...))}
}

// ParseShare reads a share from its hexadecimal or base64 form. An error wraps
// [seal.ErrBadShare] and names the share where it can.
func ParseShare(text secret.Text) (Share, error) {
	s := strings.TrimSpace(text.Reveal())
	var b []byte
	var err error
	switch len(s) {
	case hex.EncodedLen(shareSize):
		b, err = hex.DecodeString(s)
	case base64.StdEncoding.EncodedLen(shareSize):
		b, err = base64.StdEncoding.Strict().DecodeString(strings.NewReplacer("-", "+", "_", "/").Replace(s))
	default:
		return Share{}, fmt.Errorf("a share has %d hexadecimal digits or %d characters of base64, not %d characters: %w",
			hex.EncodedLen(shareSize), base64.StdEncoding.EncodedLen(shareSize), len(s), seal.ErrBadShare)
	}
	if err != nil || len(b) != shareSize {
		return Share{}, fmt.Errorf("share is neither hexadecimal nor base64: %w", seal.ErrBadShare)
	}
	share := Share{secret.NewBytes(b)}
	sum := sha256.Sum256(b[:shareSize-checkSize])
	if subtle.ConstantTimeCompare(sum[:checkSize], b[shareSize-checkSize:]) != 1 {
		index := share.Index()
		share.Wipe()
		return Share{}, fmt.Errorf("share %d is mistyped, its checksum does not match: %w", index, seal.ErrBadShare)
	}
	if b[0] != format1 || share.Index() == 0 || share.Threshold() == 0 {
		share.Wipe()
		return Share{}, fmt.Errorf("share is of a format that this version does not know: %w", seal.ErrBadShare)
	}
	return share, nil
}

func (s Share) take(from, to int) (out []byte) {
	_ = s.b.Use(func(plain []byte) error {
		if len(plain) == shareSize {
			out = bytes.Clone(plain[from:to])
		} else {
			out = make([]byte, to-from)
		}
		return nil
	})
	return out
}

// Index returns the share's number, from 1.
func (s Share) Index() int { return int(s.take(headSize-1, headSize)[0]) }

// Threshold returns how many shares its set needs.
func (s Share) Threshold() int { return int(s.take(headSize-2, headSize-1)[0]) }

// Set returns the id of the set that it belongs to, in hexadecimal.
func (s Share) Set() string { return hex.EncodeToString(s.take(1, 1+setSize)) }

// Hex returns the share as hexadecimal digits.
func (s Share) Hex() secret.Text {
	return secret.New(hex.EncodeToString(s.take(0, shareSize)))
}

// Base64 returns the share as base64.
func (s Share) Base64() secret.Text {
	return secret.New(base64.StdEncoding.EncodeToString(s.take(0, shareSize)))
}

// Wipe overwrites the share. Every copy of it is of no use afterwards.
func (s Share) Wipe() { s.b.Wipe() }

func (s Share) value() secret.Bytes { return secret.NewBytes(s.take(headSize, headSize+aead.KeySize)) }
