package gate

import (
	"crypto/rand"

	"rotunda.dev/rotunda/internal/secret"
)

// newRoot returns a fresh root key of 256 bits.
func newRoot() secret.Bytes {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return secret.NewBytes(key)
}
