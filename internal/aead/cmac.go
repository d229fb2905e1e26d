package aead

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"fmt"
)

// cmac is CMAC with AES-256 (NIST SP 800-38B, RFC 4493).
type cmac struct {
	block  cipher.Block
	k1, k2 [aes.BlockSize]byte
}

func newCMAC(key []byte) *cmac {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(fmt.Sprintf("aead: internal error: key of %d bytes", len(key)))
	}
	c := &cmac{block: block}
	block.Encrypt(c.k1[:], c.k1[:])
	double(&c.k1)
	c.k2 = c.k1
	double(&c.k2)
	return c
}

// double multiplies by x in GF(2^128), in constant time.
func double(b *[aes.BlockSize]byte) {
	var carry byte
	for i := len(b) - 1; i >= 0; i-- {
		b[i], carry = b[i]<<1|carry, b[i]>>7
	}
	b[len(b)-1] ^= -carry & 0x87
}

// one writes the CMAC of a message of exactly one block to dst, by way of x.
func (c *cmac) one(dst []byte, m, x *[aes.BlockSize]byte) {
	subtle.XORBytes(x[:], m[:], c.k1[:])
	c.block.Encrypt(dst, x[:])
}

// sum returns the CMAC of m.
func (c *cmac) sum(m []byte) (x [aes.BlockSize]byte) {
	for len(m) > aes.BlockSize {
		xor(&x, m[:aes.BlockSize])
		c.block.Encrypt(x[:], x[:])
		m = m[aes.BlockSize:]
	}
	xor(&x, m)
	if len(m) == aes.BlockSize {
		xor(&x, c.k1[:])
	} else {
		x[len(m)] ^= 0x80
		xor(&x, c.k2[:])
	}
	c.block.Encrypt(x[:], x[:])
	return x
}

func xor(x *[aes.BlockSize]byte, b []byte) {
	for i := range b {
		x[i] ^= b[i]
	}
}
