package barrier

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
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

// state is an HMAC and room for what goes in and comes out, so that neither is
// allocated for each message.
type state struct {
	h    hash.Hash
	room [1024]byte
	out  [sha256.Size]byte
}

func (h *hasher) get() *state {
	s := h.pool.Get().(*state) //nolint:errcheck,forcetypeassert // New makes nothing else
	s.h.Reset()
	return s
}

// add appends p to what s is to hash, of which held bytes wait in its room, and
// returns how many do then.
func (s *state) add(held int, p []byte) int {
	for len(p) > 0 {
		if held == len(s.room) {
			held = s.flush(held)
		}
		n := copy(s.room[held:], p)
		held, p = held+n, p[n:]
	}
	return held
}

func (s *state) flush(held int) int {
	_, _ = s.h.Write(s.room[:held])
	return 0
}

// sum returns the HMAC of all that was added to s, wipes its room and gives it back.
func (h *hasher) sum(s *state, held, most int) (sum [sha256.Size]byte) {
	s.flush(held)
	s.h.Sum(s.out[:0])
	sum = s.out
	clear(s.room[:min(most, len(s.room))])
	h.pool.Put(s)
	return sum
}

// whole returns the HMAC of m.
func (h *hasher) whole(m string) [sha256.Size]byte {
	s := h.get()
	held, most := 0, len(m)
	for len(m) > 0 {
		if held == len(s.room) {
			held = s.flush(held)
		}
		n := copy(s.room[held:], m)
		held, m = held+n, m[n:]
	}
	return h.sum(s, held, most)
}

// parts returns the HMAC of each part behind its length in eight bytes.
func (h *hasher) parts(parts [][]byte) [sha256.Size]byte {
	s := h.get()
	held, most := 0, 0
	for _, p := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		held = s.add(s.add(held, n[:]), p)
		most += len(n) + len(p)
	}
	return h.sum(s, held, most)
}
