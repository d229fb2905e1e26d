package token

import (
	"crypto/rand"
	"encoding/base64"
	"hash/crc32"
	"math/big"
	"strings"
)

// The prefixes of what we hand out, so that scanners recognise it. A token of
// a service and a wrapping token are
//
//	prefix | 43 base62 digits: 32 random bytes | 6 base62 digits: CRC-32 of all before
//
// and a batch token is the prefix and unpadded base64url of an encrypted entry.
const (
	prefixService  = "rts_"
	prefixWrapping = "rtw_"
	prefixBatch    = "rtb_"
	prefixSecretID = "rti_" // of auth methods; never a token
	prefixRecovery = "rtr_" // of operators; never a token
)

const (
	// MaxText is the length of the longest token that is looked at.
	MaxText = 8 << 10

	maxCustom   = 512
	maxSealed   = 4 << 10 // of a batch token before base64url
	randomBytes = 32
	randomWidth = 43 // base62 digits of randomBytes
	checkWidth  = 6  // base62 digits of a CRC-32
	accessorLen = 24 // base62 digits of an accessor, 142 bits
)

const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// shape is what a presented text looks like.
type shape byte

const (
	malformed shape = iota // nothing that was ever handed out
	service
	wrapping
	batch
	custom // looked up as the id that root gave
)

// classify says which shape s has. Only what could have been handed out is
// anything but malformed, so garbage costs no look-up.
func classify(s string) shape {
	if len(s) < len(prefixService) {
		return customOr(s)
	}
	switch s[:len(prefixService)] {
	case prefixService:
		return checked(s, service)
	case prefixWrapping:
		return checked(s, wrapping)
	case prefixBatch:
		if len(s) > len(prefixBatch)+base64.RawURLEncoding.EncodedLen(maxSealed) {
			return malformed
		}
		return batch
	case prefixSecretID, prefixRecovery:
		return malformed
	}
	return customOr(s)
}

func checked(s string, as shape) shape {
	if len(s) != len(prefixService)+randomWidth+checkWidth {
		return malformed
	}
	body := s[:len(s)-checkWidth]
	if check(body) != s[len(body):] {
		return malformed
	}
	for i := len(prefixService); i < len(body); i++ {
		if !isDigit(body[i]) {
			return malformed
		}
	}
	return as
}

func isDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// customOr returns custom where s may be an id that root gave. A dot is
// refused because other products put a namespace behind one.
func customOr(s string) shape {
	if s == "" || len(s) > maxCustom {
		return malformed
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '.' {
			return malformed
		}
	}
	return custom
}

// IsBatchText reports whether text looks like that of a batch token, which is
// longer than that of any other.
func IsBatchText(text string) bool { return strings.HasPrefix(text, prefixBatch) }

// ours reports whether s begins as what we hand out, in any case of letters.
func ours(s string) bool {
	if len(s) < len(prefixService) {
		return false
	}
	switch strings.ToLower(s[:len(prefixService)]) {
	case prefixService, prefixWrapping, prefixBatch, prefixSecretID, prefixRecovery:
		return true
	}
	return false
}

func newText(prefix string) string {
	var b [randomBytes]byte
	rand.Read(b[:])
	return textOf(prefix, b[:])
}

func textOf(prefix string, random []byte) string {
	body := prefix + base62(random, randomWidth)
	return body + check(body)
}

// check is the CRC-32 (IEEE) of s in base62.
func check(s string) string {
	var out [checkWidth]byte
	var room [128]byte
	n := crc32.ChecksumIEEE(append(room[:0], s...))
	for i := checkWidth - 1; i >= 0; i-- {
		out[i] = digits[n%62]
		n /= 62
	}
	return string(out[:])
}

// base62 writes b as a number of width digits.
func base62(b []byte, width int) string {
	out := make([]byte, width)
	n, base, rest := new(big.Int).SetBytes(b), big.NewInt(62), new(big.Int)
	for i := width - 1; i >= 0; i-- {
		n.DivMod(n, base, rest)
		out[i] = digits[rest.Int64()]
	}
	return string(out)
}

// newAccessor returns random digits, unbiased.
func newAccessor() string {
	out := make([]byte, 0, accessorLen)
	var b [2 * accessorLen]byte
	for len(out) < accessorLen {
		rand.Read(b[:])
		for _, c := range b {
			if c < 4*62 && len(out) < accessorLen {
				out = append(out, digits[c%62])
			}
		}
	}
	return string(out)
}

// validAccessor reports whether s could be an accessor.
func validAccessor(s string) bool {
	if len(s) != accessorLen {
		return false
	}
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}
