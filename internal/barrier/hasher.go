package barrier

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"
	"sync"

	"rotunda.dev/rotunda/internal/secret"
)

// hasher is HMAC-SHA256 under one key, of which it keeps only what HMAC makes of it.
type hasher struct{ pool sync.Pool }

func newHasher(key secret.Bytes) *hasher {
	var first hash.Hash
	_ = key.Use(func(k []byte) error {
		first = hmac.New(sha256.New, k)
		return nil
	})
	first.Reset() // from here on, Reset restores a state and hashes nothing
	cloner, ok := first.(hash.Cloner)
	if !ok {
		panic("barrier: internal error: HMAC cannot be cloned")
	}
	return &hasher{sync.Pool{New: func() any {
		h, err := cloner.Clone()
		if err != nil {
			panic("barrier: internal error: " + err.Error())
		}
		return &state{h: h}
	}}}
}

type state struct {
	h   hash.Hash
	out [sha256.Size]byte
}

func (h *hasher) with(write func(io.Writer)) (sum [sha256.Size]byte) {
	s := h.pool.Get().(*state) //nolint:errcheck,forcetypeassert // New makes nothing else
	s.h.Reset()
	write(s.h)
	s.h.Sum(s.out[:0])
	sum = s.out
	h.pool.Put(s)
	return sum
}

// whole returns the HMAC of m.
func (h *hasher) whole(m string) [sha256.Size]byte {
	return h.with(func(w io.Writer) { _, _ = io.WriteString(w, m) })
}

// parts returns the HMAC of each part behind its length in eight bytes.
func (h *hasher) parts(parts [][]byte) [sha256.Size]byte {
	return h.with(func(w io.Writer) {
		var n [8]byte
		for _, p := range parts {
			binary.BigEndian.PutUint64(n[:], uint64(len(p)))
			_, _ = w.Write(n[:])
			_, _ = w.Write(p)
		}
	})
}
