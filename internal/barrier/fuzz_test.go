package barrier

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/memory"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

func FuzzParseKeyring(f *testing.F) {
	var pages memory.Pages
	f.Cleanup(func() { _ = pages.Close() })
	k := newKeyring(&pages, [16]byte{1, 2, 3})
	f.Add(k.encode())
	k.terms = append(k.terms, termKey{term: 7, key: pages.Hold(make([]byte, 32))})
	k.lookups = append(k.lookups, lookupKey{9, 1, pages.Hold(make([]byte, 32))})
	f.Add(k.encode())
	f.Add([]byte(ringMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		var pages memory.Pages
		defer pages.Close()
		k, err := parseKeyring(&pages, b)
		if err != nil {
			if !refused(err) {
				t.Errorf("parseKeyring(%x): %v", b, err)
			}
			return
		}
		if again := k.encode(); !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes as %x", b, again)
		}
	})
}

func FuzzParseSlots(f *testing.F) {
	b, err := slots{generation: 3, stanzas: []seal.Stanza{stanza, {Kind: "x"}}}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:len(b)-crc32.Size])
	f.Add([]byte(slotsMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseSlots(b); err != nil && !refused(err) {
			t.Errorf("parseSlots(%x): %v", b, err)
		}
		b = binary.BigEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, castagnoli)) // so that more than the checksum is tried
		s, err := parseSlots(b)
		if err != nil {
			if !refused(err) {
				t.Errorf("parseSlots(%x): %v", b, err)
			}
			return
		}
		if again, err := s.encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes as %x, %v", b, again, err)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	plain := append([]byte{format1, 0, 1, 0, 0, 0, 1}, make([]byte, 32)...)
	f.Add(append(plain, plain[1:]...))
	f.Add([]byte{format1})
	f.Add((&keySet{gens: []spaceKey{newSpaceKey(1, time.Time{}), newSpaceKey(3, time.Unix(7, 0))}, names: []spaceKey{newSpaceKey(1, time.Time{})}}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		set, err := parseKeySet(b)
		if err != nil {
			if !refused(err) {
				t.Errorf("parseKeySet(%x): %v", b, err)
			}
			return
		}
		if again := set.encode(); b[0] == format2 && !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes as %x", b, again)
		}
		if k := set.expand([16]byte{}, Core, nil); k.gens[k.current] == nil || k.names == nil {
			t.Errorf("%x has no current key", b)
		}
	})
}

func FuzzOpenRow(f *testing.F) {
	fields := aead.For("row")
	d := aead.NewDeriver(bytes.Repeat([]byte{1}, 32))
	k := &keys{current: 1, gens: map[uint32]*generation{1: {rows: d, rowAAD: fields}}, names: newHasher(secret.NewBytes(make([]byte, 32)))}
	r := &reader{s: &Space{}, raw: nothing{}, keys: k}
	key := storage.Key{Scope: "s", Row: "r"}
	var room [64]byte
	f.Add(d.Seal(k.head(3), []byte("abc"), rowAAD(room[:0], fields, "s", "other row")))
	f.Add(k.head(0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if plain, err := r.open(key, b); !refused(err) && !errors.Is(err, ErrNoSpace) {
			t.Errorf("open(%x) = %x, %v; nothing was ever sealed for it", b, plain, err)
		}
	})
}

// nothing is a reader of an empty store.
type nothing struct{ storage.Reader }

func (nothing) Get(storage.Key) ([]byte, error) { return nil, storage.ErrNotFound }
