package barrier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/memory"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// keyring is what the root key wraps:
//
//	"rtkr" | format 1 | cluster id 16 | seal generation 8 | current term 4
//	| count 2 | { term 4 | since 8 | key 32 }     ascending by term; since in seconds since 1970
//	| count 2 | { purpose 1 | generation 4 | key 32 } ascending
//
// Of a purpose, the highest generation is the current one.
type keyring struct {
	cluster    [16]byte
	generation uint64
	term       uint32
	terms      []termKey
	lookups    []lookupKey
}

type termKey struct {
	term  uint32
	since time.Time
	key   secret.Bytes
}

type lookupKey struct {
	purpose    Purpose
	generation uint32
	key        secret.Bytes
}

const (
	ringMagic   = "rtkr"
	slotsMagic  = "rtsl"
	format1     = 1
	maxSlots    = 16
	maxRingKeys = 4096
)

func newKeyring(pages *memory.Pages, cluster [16]byte) keyring {
	hold := func() secret.Bytes {
		k := aead.NewKey()
		defer clear(k)
		return pages.Hold(k)
	}
	k := keyring{cluster: cluster, generation: 1, term: 1, terms: []termKey{{term: 1, key: hold()}}}
	for p := ForTokens; p <= forDerive; p++ {
		k.lookups = append(k.lookups, lookupKey{p, 1, hold()})
	}
	return k
}

func ringAAD(cluster [16]byte) aead.AAD {
	return aead.For("keyring").Add(aead.FieldCluster, cluster[:])
}

func (k *keyring) encode() []byte {
	b := make([]byte, 0, len(ringMagic)+33+44*len(k.terms)+37*len(k.lookups))
	put := func(key secret.Bytes) {
		_ = key.Use(func(plain []byte) error {
			b = append(b, plain...)
			return nil
		})
	}
	b = append(append(b, ringMagic...), format1)
	b = append(b, k.cluster[:]...)
	b = binary.BigEndian.AppendUint64(b, k.generation)
	b = binary.BigEndian.AppendUint32(b, k.term)
	b = binary.BigEndian.AppendUint16(b, uint16(len(k.terms))) //nolint:gosec // G115: at most maxRingKeys
	for _, t := range k.terms {
		b = binary.BigEndian.AppendUint32(b, t.term)
		b = binary.BigEndian.AppendUint64(b, uint64(t.since.Unix())) //nolint:gosec // G115: read back as it was
		put(t.key)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(k.lookups))) //nolint:gosec // G115: at most maxRingKeys
	for _, l := range k.lookups {
		b = binary.BigEndian.AppendUint32(append(b, byte(l.purpose)), l.generation)
		put(l.key)
	}
	return b
}

func (k *keyring) seal(root secret.Bytes) []byte {
	plain := k.encode()
	defer clear(plain)
	return aead.NewBox(root).Seal(plain, ringAAD(k.cluster))
}

func openKeyring(pages *memory.Pages, root secret.Bytes, cluster [16]byte, sealed []byte) (keyring, error) {
	plain, err := aead.NewBox(root).Open(sealed, ringAAD(cluster))
	if errors.Is(err, aead.ErrWrongKey) {
		return keyring{}, ErrWrongKey
	}
	if err != nil {
		return keyring{}, fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	defer clear(plain)
	k, err := parseKeyring(pages, plain)
	if err == nil && k.cluster != cluster {
		err = fmt.Errorf("keyring of another cluster: %w", storage.ErrCorrupt)
	}
	return k, err
}

func parseKeyring(pages *memory.Pages, b []byte) (keyring, error) {
	d := decoder{b: b}
	var k keyring
	if string(d.next(len(ringMagic))) != ringMagic {
		return keyring{}, fmt.Errorf("keyring without its magic: %w", storage.ErrCorrupt)
	}
	if f := d.u8(); f != format1 {
		return keyring{}, fmt.Errorf("keyring of format %d: %w", f, storage.ErrNewer)
	}
	copy(k.cluster[:], d.next(len(k.cluster)))
	k.generation = d.u64()
	k.term = d.u32()
	for range d.count(maxRingKeys) {
		t := termKey{d.u32(), time.Unix(int64(d.u64()), 0).UTC(), pages.Hold(d.next(aead.KeySize))} //nolint:gosec // G115: written from a time
		if n := len(k.terms); n > 0 && k.terms[n-1].term >= t.term {
			d.bad = true
		}
		k.terms = append(k.terms, t)
	}
	for range d.count(maxRingKeys) {
		l := lookupKey{Purpose(d.u8()), d.u32(), pages.Hold(d.next(aead.KeySize))}
		if n := len(k.lookups); n > 0 {
			last := k.lookups[n-1]
			if last.purpose > l.purpose || last.purpose == l.purpose && last.generation >= l.generation {
				d.bad = true
			}
		}
		k.lookups = append(k.lookups, l)
	}
	if !d.end() {
		return keyring{}, fmt.Errorf("malformed keyring: %w", storage.ErrCorrupt)
	}
	if !slices.ContainsFunc(k.terms, func(t termKey) bool { return t.term == k.term }) {
		return keyring{}, fmt.Errorf("keyring without the key of its term: %w", storage.ErrCorrupt)
	}
	for p := ForTokens; p <= forDerive; p++ {
		if !slices.ContainsFunc(k.lookups, func(l lookupKey) bool { return l.purpose == p }) {
			return keyring{}, fmt.Errorf("keyring without lookup key %d: %w", p, storage.ErrCorrupt)
		}
	}
	return k, nil
}

// lookup returns the current key of p.
func (k *keyring) lookup(p Purpose) secret.Bytes {
	for _, l := range slices.Backward(k.lookups) {
		if l.purpose == p {
			return l.key
		}
	}
	panic(fmt.Sprintf("barrier: internal error: no lookup key %d", p))
}

// box returns the box of a term's key.
func (k *keyring) box(term uint32) (*aead.Box, bool) {
	for _, t := range k.terms {
		if t.term == term {
			return aead.NewBox(t.key), true
		}
	}
	return nil, false
}

// slots is the row that is read before there is a key:
//
//	"rtsl" | format 1 | cluster id 16 | seal generation 8 | count 1 | { stanza } | crc32c 4
//
// None of it is secret. Its generation must be the keyring's.
type slots struct {
	cluster    [16]byte
	generation uint64
	stanzas    []seal.Stanza
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (s slots) encode() ([]byte, error) {
	if len(s.stanzas) == 0 || len(s.stanzas) > maxSlots {
		return nil, fmt.Errorf("barrier: %d seal stanzas; there can be 1 to %d", len(s.stanzas), maxSlots)
	}
	b := append([]byte(slotsMagic), format1)
	b = append(b, s.cluster[:]...)
	b = binary.BigEndian.AppendUint64(b, s.generation)
	b = append(b, byte(len(s.stanzas))) //nolint:gosec // G115: at most maxSlots
	for _, st := range s.stanzas {
		var err error
		if b, err = st.Append(b); err != nil {
			return nil, err
		}
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

func parseSlots(b []byte) (slots, error) {
	if len(b) < crc32.Size || binary.BigEndian.Uint32(b[len(b)-crc32.Size:]) != crc32.Checksum(b[:len(b)-crc32.Size], castagnoli) {
		return slots{}, fmt.Errorf("checksum of the seal stanzas: %w", storage.ErrCorrupt)
	}
	d := decoder{b: b[:len(b)-crc32.Size]}
	if string(d.next(len(slotsMagic))) != slotsMagic {
		return slots{}, fmt.Errorf("seal stanzas without their magic: %w", storage.ErrCorrupt)
	}
	if f := d.u8(); f != format1 {
		return slots{}, fmt.Errorf("seal stanzas of format %d: %w", f, storage.ErrNewer)
	}
	var s slots
	copy(s.cluster[:], d.next(len(s.cluster)))
	s.generation = d.u64()
	n := d.u8()
	if n == 0 || n > maxSlots {
		d.bad = true
	}
	for range n {
		if d.bad {
			break
		}
		st, rest, err := seal.ParseStanza(d.b)
		if err != nil {
			return slots{}, fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
		}
		s.stanzas, d.b = append(s.stanzas, st), rest
	}
	if !d.end() {
		return slots{}, fmt.Errorf("malformed seal stanzas: %w", storage.ErrCorrupt)
	}
	return s, nil
}

// decoder takes a byte string apart. Once bad it gives zeros.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) next(n int) []byte {
	if d.bad || len(d.b) < n {
		d.bad = true
		return make([]byte, n)
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) u8() byte    { return d.next(1)[0] }
func (d *decoder) u16() uint16 { return binary.BigEndian.Uint16(d.next(2)) }
func (d *decoder) u32() uint32 { return binary.BigEndian.Uint32(d.next(4)) }
func (d *decoder) u64() uint64 { return binary.BigEndian.Uint64(d.next(8)) }

// count reads how many entries follow; 0 if that is more than most.
func (d *decoder) count(most int) int {
	n := int(d.u16())
	if n > most || n > len(d.b) {
		d.bad = true
		return 0
	}
	return n
}

func (d *decoder) end() bool { return !d.bad && len(d.b) == 0 }
