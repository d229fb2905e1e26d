package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/secret"
)

// keys are what records are sealed under while the journal is unlocked.
type keys struct {
	id  [8]byte
	key secret.Bytes

	mu   sync.RWMutex // held to use key and macs
	gone bool
	macs *sync.Pool // of *macState under the audit key
}

// macState is an HMAC and room for what goes in and comes out.
type macState struct {
	h    hash.Hash
	room [128]byte
	sum  [32]byte
}

func newKeys(key secret.Bytes) (*keys, error) {
	if key.Len() < 32 {
		return nil, fmt.Errorf("taking an audit key of %d bytes: %w", key.Len(), ErrWrongKey)
	}
	k := &keys{key: key.Clone()}
	k.macs = &sync.Pool{New: func() any {
		var h hash.Hash
		_ = k.key.Use(func(plain []byte) error { h = hmac.New(sha256.New, plain); return nil })
		return &macState{h: h}
	}}
	id, err := k.mac("rotunda audit key id")
	copy(k.id[:], id[:])
	return k, err
}

// wipe forgets the key. Who uses k afterwards gets [ErrLocked].
func (k *keys) wipe() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone, k.macs = true, nil
	k.key.Wipe()
}

// mac returns the MAC of label and parts, whose lengths label fixes.
func (k *keys) mac(label string, parts ...[]byte) (sum [32]byte, err error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.gone {
		return sum, ErrLocked
	}
	m := k.macs.Get().(*macState) //nolint:forcetypeassert,errcheck // the pool holds nothing else
	m.h.Reset()
	m.h.Write(append(m.room[:0], label...))
	for _, p := range parts {
		for len(p) > 0 {
			n := copy(m.room[:], p)
			m.h.Write(m.room[:n])
			p = p[n:]
		}
	}
	m.h.Sum(m.sum[:0])
	sum = m.sum
	m.sum = [32]byte{}
	k.macs.Put(m)
	return sum, nil
}

// record returns the key of the record with the given sequence.
func (k *keys) record(journal [16]byte, seq uint64) ([32]byte, error) {
	var b [24]byte
	copy(b[:], journal[:])
	binary.BigEndian.PutUint64(b[16:], seq)
	return k.mac("rotunda audit record", b[:])
}

// sealRecord appends the stored bytes of a record to dst.
func (k *keys) sealRecord(dst []byte, journal [16]byte, seq uint64, plain []byte) ([]byte, error) {
	var aad [16 + storedHead]byte
	copy(aad[:], journal[:])
	aad[16] = sealedJSON
	binary.BigEndian.PutUint64(aad[17:], seq)
	key, err := k.record(journal, seq)
	if err != nil {
		return dst, err
	}
	return aead.SealOnce(append(dst, aad[16:]...), key[:], plain, aad[:]), nil
}

// openRecord appends to dst what was sealed in stored.
func (k *keys) openRecord(dst []byte, journal [16]byte, stored []byte) ([]byte, error) {
	key, err := k.record(journal, binary.BigEndian.Uint64(stored[1:]))
	if err != nil {
		return dst, err
	}
	return OpenRecord(dst, key[:], journal, stored)
}

// OpenRecord appends to dst the canonical JSON of the record whose stored
// bytes and key are given; the key opens this record and no other.
func OpenRecord(dst, key []byte, journal [16]byte, stored []byte) ([]byte, error) {
	if len(stored) < storedHead {
		return dst, fmt.Errorf("opening a record: %w", ErrCorrupt)
	}
	if stored[0] > sealedJSON {
		return dst, ErrNewer
	}
	var aad [16 + storedHead]byte
	copy(aad[:], journal[:])
	copy(aad[16:], stored)
	plain, err := aead.OpenOnce(dst, key, stored[storedHead:], aad[:])
	if err != nil {
		return dst, fmt.Errorf("opening a record: %w: %w", ErrCorrupt, err)
	}
	return plain, nil
}

// sealRow seals a record that waits in the store's outbox.
func (k *keys) sealRow(journal [16]byte, row string, plain []byte) ([]byte, error) {
	key, aad, err := k.row(journal, row)
	if err != nil {
		return nil, err
	}
	return aead.SealOnce(append(make([]byte, 0, len(plain)+64), sealedJSON), key[:], plain, aad), nil
}

// openRow returns what sealRow was given.
func (k *keys) openRow(journal [16]byte, row string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, fmt.Errorf("opening a row of the outbox: %w", ErrCorrupt)
	}
	if sealed[0] > sealedJSON {
		return nil, ErrNewer
	}
	key, aad, err := k.row(journal, row)
	if err != nil {
		return nil, err
	}
	plain, err := aead.OpenOnce(nil, key[:], sealed[1:], aad)
	if err != nil {
		return nil, fmt.Errorf("opening a row of the outbox: %w: %w", ErrCorrupt, err)
	}
	return plain, nil
}

func (k *keys) row(journal [16]byte, row string) (key [32]byte, aad []byte, err error) {
	aad = append(append(make([]byte, 0, 40), journal[:]...), row...)
	key, err = k.mac("rotunda audit outbox", aad)
	return key, aad, err
}
