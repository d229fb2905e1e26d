// Package aead encrypts. It is the one package of the build that uses AES.
//
// It offers three things, each AES-256-GCM underneath:
//
//   - A [Box] is for what is sealed seldom and may be tried with several keys:
//     slots of the root key, the keyring, the keys of a space. It commits to
//     its key, so that a wrong key and damage are told apart.
//   - A [Deriver] is for rows that change often. Every message has a key of
//     its own, derived from the Deriver's and a random salt by CMAC, so the
//     2^32 messages that one GCM key may seal under random nonces are out of
//     sight. The construction is XAES-256-GCM (https://c2sp.org/XAES-256-GCM).
//   - [SealOnce] is for a key that seals one message and no other.
//
// Additional data is a list of typed fields; see [AAD].
package aead

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"

	"rotunda.dev/rotunda/internal/secret"
)

const (
	// KeySize is the length of every key, in bytes.
	KeySize = 32

	// NonceSize is the length of the nonce before a ciphertext, in bytes.
	NonceSize = 12

	// TagSize is the length of the tag behind a ciphertext, in bytes.
	TagSize = 16

	// SaltSize is the length of the salt from which a [Deriver] derives a key.
	SaltSize = 12

	// OnceOverhead is what [SealOnce] adds to a message.
	OnceOverhead = NonceSize + TagSize

	// DeriverOverhead is what [Deriver.Seal] adds to a message.
	DeriverOverhead = SaltSize + NonceSize + TagSize
)

var (
	// ErrWrongKey says that a Box is whole and was sealed under another key: try the next one.
	ErrWrongKey = errors.New("aead: sealed under another key")

	// ErrDamaged says that what is to be opened is not what was sealed, or
	// was sealed with other additional data.
	ErrDamaged = errors.New("aead: damaged, or moved from another place")
)

// NewKey returns a random key.
func NewKey() []byte {
	k := make([]byte, KeySize)
	rand.Read(k)
	return k
}

// newGCM returns AES-256-GCM that puts a random nonce before each ciphertext:
// the one form of GCM that GODEBUG=fips140=only allows.
func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil || len(key) != KeySize {
		panic(fmt.Sprintf("aead: internal error: key of %d bytes", len(key)))
	}
	g, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("aead: internal error: " + err.Error())
	}
	return g
}

// SealOnce appends nonce, ciphertext and tag of plain to dst. The key must
// seal nothing else.
func SealOnce(dst, key, plain, aad []byte) []byte {
	return newGCM(key).Seal(dst, nil, plain, aad) //nolint:gosec // G407: nil asks for a random nonce
}

// OpenOnce appends to dst what [SealOnce] sealed, or returns [ErrDamaged].
func OpenOnce(dst, key, sealed, aad []byte) ([]byte, error) {
	plain, err := newGCM(key).Open(dst, nil, sealed, aad)
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

// Box seals under a long-lived key. What it makes is
//
//	"rtdb" | format 1 | commitment 32 | nonce 12 | ciphertext | tag 16 | crc32c 4
//
// The commitment and the key that encrypts are both derived from the key by
// HKDF. The checksum has no part in the security: it tells damage from a
// wrong key, which without it would look alike in a damaged commitment.
type Box struct{ key secret.Bytes }

const (
	boxMagic  = "rtdb"
	boxFormat = 1
	commitLen = 32
	boxHead   = len(boxMagic) + 1 + commitLen

	// BoxOverhead is what a [Box] adds to a message.
	BoxOverhead = boxHead + OnceOverhead + crc32.Size
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// NewBox returns a Box that uses key, which stays the caller's to wipe.
func NewBox(key secret.Bytes) *Box { return &Box{key} }

// Expand derives n bytes from key, which must be uniformly random, for info
// (HKDF-Expand of RFC 5869 with SHA-256).
func Expand(key secret.Bytes, info string, n int) []byte {
	var out []byte
	var err error
	secret.Do(func() {
		err = key.Use(func(k []byte) (err error) {
			if len(k) < KeySize {
				return fmt.Errorf("key of %d bytes", len(k))
			}
			out, err = hkdf.Expand(sha256.New, k, info, n)
			return err
		})
	})
	if err != nil {
		panic("aead: internal error: " + err.Error())
	}
	return out
}

func (b *Box) commitment() []byte { return Expand(b.key, "rotunda box commitment", commitLen) }
func (b *Box) sealing() []byte    { return Expand(b.key, "rotunda box key", KeySize) }

// Seal returns the box of plain.
func (b *Box) Seal(plain []byte, aad AAD) []byte {
	out := make([]byte, 0, BoxOverhead+len(plain))
	out = append(out, boxMagic...)
	out = append(out, boxFormat)
	out = append(out, b.commitment()...)
	key := b.sealing()
	defer clear(key)
	out = SealOnce(out, key, plain, aad)
	return binary.BigEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
}

// Open returns what [Box.Seal] was given, or an error wrapping [ErrWrongKey] or [ErrDamaged].
func (b *Box) Open(box []byte, aad AAD) (plain []byte, err error) {
	if len(box) < BoxOverhead || string(box[:len(boxMagic)]) != boxMagic || box[len(boxMagic)] != boxFormat {
		return nil, ErrDamaged
	}
	body := box[:len(box)-crc32.Size]
	if binary.BigEndian.Uint32(box[len(body):]) != crc32.Checksum(body, castagnoli) {
		return nil, ErrDamaged
	}
	if subtle.ConstantTimeCompare(body[boxHead-commitLen:boxHead], b.commitment()) != 1 {
		return nil, ErrWrongKey
	}
	key := b.sealing()
	defer clear(key)
	secret.Do(func() { plain, err = OpenOnce(nil, key, body[boxHead:], aad) })
	return plain, err
}

// Deriver seals each message under a key derived from its own. It is safe for
// concurrent use.
type Deriver struct {
	mac   *cmac
	rooms sync.Pool // of *room
}

// room is what a derivation works in, kept so that it is not allocated for each.
type room struct {
	block, mask [aes.BlockSize]byte
	key         [KeySize]byte
}

// label is that of XAES-256-GCM.
const label = 'X'

// NewDeriver returns a Deriver that uses key, of which it keeps an expanded copy.
func NewDeriver(key []byte) (d *Deriver) {
	secret.Do(func() { d = &Deriver{mac: newCMAC(key)} })
	return d
}

// derive returns the key for salt, in a room that is given back by forget: the
// KDF in counter mode of NIST SP 800-108r1 with CMAC-AES-256, a 16-bit counter,
// a one-byte label and salt as the context. Each CMAC is over exactly one block.
func (d *Deriver) derive(salt []byte) *room {
	r, ok := d.rooms.Get().(*room)
	if !ok {
		r = new(room)
	}
	r.block = [aes.BlockSize]byte{1: 1, 2: label}
	copy(r.block[4:], salt)
	d.mac.one(r.key[:aes.BlockSize], &r.block, &r.mask)
	r.block[1] = 2
	d.mac.one(r.key[aes.BlockSize:], &r.block, &r.mask)
	return r
}

func (d *Deriver) forget(r *room) {
	*r = room{}
	d.rooms.Put(r)
}

// Seal appends salt, nonce, ciphertext and tag of plain to dst.
func (d *Deriver) Seal(dst, plain, aad []byte) []byte {
	n := len(dst)
	dst = slices.Grow(dst, DeriverOverhead+len(plain))[:n+SaltSize]
	salt := dst[n:]
	rand.Read(salt)
	r := d.derive(salt)
	defer d.forget(r)
	return SealOnce(dst, r.key[:], plain, aad)
}

// Open appends to dst what [Deriver.Seal] sealed, or returns [ErrDamaged].
func (d *Deriver) Open(dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < DeriverOverhead {
		return nil, ErrDamaged
	}
	r := d.derive(sealed[:SaltSize])
	defer d.forget(r)
	return OpenOnce(dst, r.key[:], sealed[SaltSize:], aad)
}
