package barrier

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// Space is one set of keys, and a [storage.Store] of what is kept under it.
//
// An Update may read one row less than [storage.MaxReads], and declare one
// scope less than [storage.MaxScopes]: the space's keys are read and joined in
// every one. A [storage.Rider] takes from the same bounds.
type Space struct {
	b    *Barrier
	id   SpaceID
	keys atomic.Pointer[keys] // nil once the space is dropped or the barrier closed
}

// Value names one sealed value; it cannot be opened under another name.
type Value struct {
	Secret, Version [16]byte
	Kind            byte
}

// keys are those of a space, ready for use. They do not change.
type keys struct {
	record  []byte // from which they were read
	current uint32
	gens    map[uint32]*generation
	names   *hasher
	prefix  string // the space's id
}

type generation struct {
	number       uint32
	seals        *counter
	rows, values *aead.Deriver
	rowAAD       []byte // fields that all rows share
	valueAAD     []byte
}

// A record of a space's keys is
//
//	format 1 | term 4 | box under the term's key of
//	    format 2 | count 2 | { generation 4 | since 8 | key 32 } | count 2 | { generation 4 | name key 32 }
//
// each list ascending, its last entry the current one; since in seconds since
// 1970. Format 1 of what is in the box has no since.
const (
	recordHead = 5
	maxGens    = 256

	format2 = 2
)

func recordAAD(cluster [16]byte, id SpaceID, term uint32) aead.AAD {
	return aead.For("space keys").Add(aead.FieldCluster, cluster[:]).Add(aead.FieldSpace, id[:]).Num(aead.FieldTerm, uint64(term))
}

// keySet is what a record holds.
type keySet struct {
	gens  []spaceKey
	names []spaceKey // their since is not kept
}

type spaceKey struct {
	generation uint32
	since      time.Time // zero where the record does not say
	key        []byte
}

func newSpaceKey(generation uint32, since time.Time) spaceKey {
	return spaceKey{generation, since, aead.NewKey()}
}

func (k *keySet) current() uint32 { return k.gens[len(k.gens)-1].generation }

func (k *keySet) wipe() {
	for _, list := range [][]spaceKey{k.gens, k.names} {
		for _, x := range list {
			clear(x.key)
		}
	}
}

func (k *keySet) encode() []byte {
	b := binary.BigEndian.AppendUint16([]byte{format2}, uint16(len(k.gens))) //nolint:gosec // G115: at most maxGens
	for _, x := range k.gens {
		b = binary.BigEndian.AppendUint32(b, x.generation)
		b = binary.BigEndian.AppendUint64(b, uint64(max(0, x.since.Unix())))
		b = append(b, x.key...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(k.names))) //nolint:gosec // G115: at most maxGens
	for _, x := range k.names {
		b = append(binary.BigEndian.AppendUint32(b, x.generation), x.key...)
	}
	return b
}

func parseKeySet(plain []byte) (*keySet, error) {
	d := decoder{b: plain}
	f := d.u8()
	if f != format1 && f != format2 {
		return nil, fmt.Errorf("keys of format %d: %w", f, storage.ErrNewer)
	}
	k := &keySet{}
	var last uint32
	for range d.count(maxGens) {
		x := spaceKey{generation: d.u32()}
		if f == format2 {
			if at := d.u64(); at > 0 && at < 1<<40 {
				x.since = time.Unix(int64(at), 0).UTC()
			} else if at != 0 {
				d.bad = true
			}
		}
		x.key = bytes.Clone(d.next(aead.KeySize))
		if x.generation <= last {
			d.bad = true
		}
		last = x.generation
		k.gens = append(k.gens, x)
	}
	last = 0
	for range d.count(maxGens) {
		x := spaceKey{generation: d.u32(), key: bytes.Clone(d.next(aead.KeySize))}
		if x.generation <= last {
			d.bad = true
		}
		last = x.generation
		k.names = append(k.names, x)
	}
	if !d.end() || len(k.gens) == 0 || len(k.names) == 0 {
		k.wipe()
		return nil, fmt.Errorf("malformed keys: %w", storage.ErrCorrupt)
	}
	return k, nil
}

// newRecord returns the record of a space with random keys.
func (k *keyring) newRecord(id SpaceID, now time.Time) []byte {
	set := &keySet{gens: []spaceKey{newSpaceKey(1, now)}, names: []spaceKey{newSpaceKey(1, now)}}
	defer set.wipe()
	return k.sealRecord(id, set)
}

// sealRecord returns the record of set under the key of the current term.
func (k *keyring) sealRecord(id SpaceID, set *keySet) []byte {
	plain := set.encode()
	defer clear(plain)
	box, ok := k.box(k.term)
	if !ok {
		panic("barrier: internal error: no key of the current term")
	}
	head := binary.BigEndian.AppendUint32([]byte{format1}, k.term)
	return append(head, box.Seal(plain, recordAAD(k.cluster, id, k.term))...)
}

// termOf returns the term under whose key a record is.
func termOf(record []byte) (uint32, error) {
	if len(record) < recordHead {
		return 0, fmt.Errorf("short record of keys: %w", storage.ErrCorrupt)
	}
	if record[0] != format1 {
		return 0, fmt.Errorf("record of keys of format %d: %w", record[0], storage.ErrNewer)
	}
	return binary.BigEndian.Uint32(record[1:]), nil
}

// openRecord returns what a record holds. A term that the keyring in memory
// has not is looked for in the keyring as r sees it.
func (b *Barrier) openRecord(r storage.Reader, id SpaceID, record []byte) (*keySet, error) {
	term, err := termOf(record)
	if err != nil {
		return nil, err
	}
	var plain []byte
	known := false
	open := func(ring *keyring) (err error) {
		plain, known, err = ring.openRecord(term, id, record)
		return err
	}
	b.mu.Lock()
	closed := b.closed.Load()
	if !closed {
		err = open(&b.ring)
	}
	b.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	if !known || err != nil {
		if err = b.withRing(r, open); err == nil && !known {
			return nil, fmt.Errorf("keys of term %d, of which there is no key: %w", term, storage.ErrCorrupt)
		}
	}
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return parseKeySet(plain)
}

// openRecord opens a record of a term, if it has the key of that.
func (k *keyring) openRecord(term uint32, id SpaceID, record []byte) (plain []byte, known bool, err error) {
	box, ok := k.box(term)
	if !ok {
		return nil, false, nil
	}
	plain, err = box.Open(record[recordHead:], recordAAD(k.cluster, id, term))
	if err != nil {
		return nil, true, fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	return plain, true, nil
}

// expand makes keys of a set ready for use, which it does not keep.
func (k *keySet) expand(cluster [16]byte, id SpaceID, record []byte) *keys {
	out := &keys{record: bytes.Clone(record), gens: map[uint32]*generation{}, prefix: string(id[:])}
	for _, x := range k.gens {
		fields := func(use string) aead.AAD {
			return aead.For(use).Add(aead.FieldCluster, cluster[:]).Add(aead.FieldSpace, id[:]).Num(aead.FieldGeneration, uint64(x.generation))
		}
		key := secret.NewBytes(x.key)
		out.gens[x.generation] = &generation{
			number: x.generation, seals: &counter{},
			rows: deriver(key, "rotunda rows"), rowAAD: fields("row"),
			values: deriver(key, "rotunda data keys"), valueAAD: fields("data key"),
		}
		out.current = x.generation
	}
	out.names = newHasher(secret.NewBytes(k.names[len(k.names)-1].key))
	return out
}

func deriver(key secret.Bytes, info string) *aead.Deriver {
	k := aead.Expand(key, info, aead.KeySize)
	defer clear(k)
	return aead.NewDeriver(k)
}

// fresh returns the keys as r sees them. Where they are not have, they become
// the space's: taking them from a transaction that is not yet kept does no
// harm, as they are compared with the store in the next.
func (s *Space) fresh(r storage.Reader, have *keys) (*keys, error) {
	record, err := r.Get(storage.Key{Scope: KeyScope(s.id), Row: keyRow})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrNoSpace
	}
	if err != nil {
		return nil, fmt.Errorf("reading the keys of a space: %w", err)
	}
	if have != nil && bytes.Equal(record, have.record) {
		return have, nil
	}
	set, err := s.b.openRecord(r, s.id, record)
	if err != nil {
		return nil, fmt.Errorf("opening the keys of a space: %w", err)
	}
	defer set.wipe()
	k := set.expand(s.b.cluster, s.id, record)
	s.b.counts.attach(s.id, k)
	s.keys.CompareAndSwap(have, k)
	return k, nil
}

// gone says why there are no keys.
func (s *Space) gone() error {
	if s.b.closed.Load() {
		return errClosed
	}
	return ErrNoSpace
}

// physical returns the scope below for scope. The empty scope is of table 0.
func (k *keys) physical(scope string) string {
	var b [1 + 16 + 20]byte
	copy(b[:1], scope)
	copy(b[1:], k.prefix)
	sum := k.names.whole(scope)
	copy(b[17:], sum[:20])
	return string(b[:])
}

// ID returns the id of the space.
func (s *Space) ID() SpaceID { return s.id }

// KeyScope returns the physical scope that a transaction joins in which [Space.OverTx] is used.
func (s *Space) KeyScope() string { return KeyScope(s.id) }

// Physical returns the scope of the physical store in which scope is kept; ""
// once the space is dropped or the barrier closed.
func (s *Space) Physical(scope string) string {
	k := s.keys.Load()
	if k == nil {
		return ""
	}
	return k.physical(scope)
}

// View implements [storage.Store].
func (s *Space) View(ctx context.Context, fn func(storage.Reader) error) error {
	if s.keys.Load() == nil {
		return s.gone()
	}
	return s.b.raw.View(ctx, func(r storage.Reader) error { return fn(s.Over(r)) })
}

// Update implements [storage.Store]. It joins the space's keys, and carries
// the [storage.Rider] in ctx.
func (s *Space) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	k := s.keys.Load()
	if k == nil {
		return s.gone()
	}
	below := storage.Locks{Own: make([]string, len(locks.Own)), Join: make([]string, len(locks.Join), len(locks.Join)+1)}
	known := make([]mapped, 0, len(locks.Own)+len(locks.Join))
	for i, scope := range locks.Own {
		below.Own[i] = k.physical(scope)
		known = append(known, mapped{scope, below.Own[i]})
	}
	for i, scope := range locks.Join {
		below.Join[i] = k.physical(scope)
		known = append(known, mapped{scope, below.Join[i]})
	}
	below.Join = append(below.Join, s.KeyScope())
	return s.b.raw.Update(ctx, below, func(raw storage.Tx) error {
		t := s.over(raw)
		if t.err != nil {
			return t.err
		}
		if t.keys == k {
			t.known = known
		}
		return fn(t)
	})
}

// Changes implements [storage.Store]. Its scopes are physical ones; see [Space.Physical].
func (s *Space) Changes(ctx context.Context, since storage.Mark) (storage.Changes, error) {
	return s.b.raw.Changes(ctx, since)
}

// Close implements [storage.Store]. It does nothing: the barrier owns the keys.
func (s *Space) Close() error { return nil }

// Over returns the space as seen through a reader of the physical store.
func (s *Space) Over(r storage.Reader) storage.Reader {
	k := s.keys.Load()
	if k == nil {
		return &reader{s: s, raw: r, err: s.gone()}
	}
	return &reader{s: s, raw: r, keys: k}
}

// OverTx returns the space as seen through a transaction of the physical
// store, which is to join [Space.KeyScope]. Where the space is dropped, reads
// fail with [ErrNoSpace], and a write makes the transaction fail.
func (s *Space) OverTx(raw storage.Tx) storage.Tx { return s.over(raw) }

func (s *Space) over(raw storage.Tx) *tx {
	t := &tx{reader: reader{s: s, raw: raw}, raw: raw}
	t.keys, t.err = s.fresh(raw, s.keys.Load())
	if s.b.closed.Load() {
		t.err = errClosed
	}
	return t
}

// A row's value is
//
//	format 1 | generation 4 | salt 12 | nonce 12 | ciphertext | tag 16
const rowHead = 5

func (k *keys) head(size int) []byte {
	return binary.BigEndian.AppendUint32(append(make([]byte, 0, rowHead+aead.DeriverOverhead+size), format1), k.current)
}

// split takes the head off, and returns the generation whose key the rest is
// sealed under; nil if k has none.
func (k *keys) split(b []byte) (*generation, []byte, error) {
	if len(b) < rowHead+aead.DeriverOverhead {
		return nil, nil, fmt.Errorf("short value: %w", storage.ErrCorrupt)
	}
	if b[0] != format1 {
		return nil, nil, fmt.Errorf("value of format %d: %w", b[0], storage.ErrNewer)
	}
	return k.gens[binary.BigEndian.Uint32(b[1:])], b[rowHead:], nil
}

// rooms hold arrays in which additional data are laid out: what lies there is
// in the store in the clear.
var rooms = sync.Pool{New: func() any { return new([256]byte) }}

func takeRoom() *[256]byte { return rooms.Get().(*[256]byte) } //nolint:errcheck,forcetypeassert // New makes nothing else

// rowAAD is called with the room of an array, so that it need not be allocated.
func rowAAD(room []byte, shared []byte, scope, row string) aead.AAD {
	return aead.AAD(append(room, shared...)).Str(aead.FieldScope, scope).Str(aead.FieldRow, row)
}

// reader is a space over a physical reader.
type reader struct {
	s     *Space
	raw   storage.Reader
	keys  *keys
	err   error
	known []mapped
	first [2]mapped // the room of known, for most
}

// mapped is a scope and what it is below.
type mapped struct{ scope, below string }

// most scopes that a transaction is expected to touch more than once.
const maxKnown = 16

func (r *reader) below(k storage.Key) storage.Key {
	for i := range r.known {
		if r.known[i].scope == k.Scope {
			return storage.Key{Scope: r.known[i].below, Row: k.Row}
		}
	}
	below := r.keys.physical(k.Scope)
	if r.known == nil {
		r.known = r.first[:0]
	}
	if len(r.known) < maxKnown {
		r.known = append(r.known, mapped{k.Scope, below})
	}
	return storage.Key{Scope: below, Row: k.Row}
}

func (r *reader) open(k storage.Key, sealed []byte) ([]byte, error) {
	g, rest, err := r.keys.split(sealed)
	if err != nil {
		return nil, err
	}
	if g == nil { // written since the keys were read
		fresh, err := r.s.fresh(r.raw, r.keys)
		if err != nil {
			return nil, err
		}
		if g, rest, _ = fresh.split(sealed); g == nil {
			return nil, fmt.Errorf("row under a key that there is not: %w", storage.ErrCorrupt)
		}
	}
	room := takeRoom()
	defer rooms.Put(room)
	plain, err := g.rows.Open(make([]byte, 0, len(rest)), rest, rowAAD(room[:0], g.rowAAD, k.Scope, k.Row))
	if err != nil {
		return nil, fmt.Errorf("opening a row of table %q: %w: %w", k.Scope[:1], storage.ErrCorrupt, err)
	}
	return plain, nil
}

// Get implements [storage.Reader].
func (r *reader) Get(k storage.Key) ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	below := r.below(k)
	b, err := r.raw.Get(below)
	if err != nil {
		return nil, err
	}
	return r.open(below, b)
}

// GetMany implements [storage.Reader].
func (r *reader) GetMany(ks []storage.Key) ([][]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	below := make([]storage.Key, len(ks))
	for i, k := range ks {
		below[i] = r.below(k)
	}
	found, err := r.raw.GetMany(below)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(found))
	for i, b := range found {
		if b == nil {
			continue
		}
		if out[i], err = r.open(below[i], b); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Scan implements [storage.Reader].
func (r *reader) Scan(scope, after, end string, limit int) ([]storage.Item, bool, error) {
	if r.err != nil {
		return nil, false, r.err
	}
	below := r.below(storage.Key{Scope: scope})
	items, more, err := r.raw.Scan(below.Scope, after, end, limit)
	if err != nil {
		return nil, false, err
	}
	out := make([]storage.Item, len(items))
	for i, item := range items {
		plain, err := r.open(storage.Key{Scope: below.Scope, Row: item.Row}, item.Value)
		if err != nil {
			return nil, false, err
		}
		out[i] = storage.Item{Row: item.Row, Value: plain}
	}
	return out, more, nil
}

// Mark implements [storage.Reader].
func (r *reader) Mark() storage.Mark { return r.raw.Mark() }

// Now implements [storage.Reader].
func (r *reader) Now() time.Time { return r.raw.Now() }

// tx is a space over a physical transaction.
type tx struct {
	reader

	raw storage.Tx
}

// seal returns what goes below for k and value. A transaction that cannot be
// sealed is made to fail: its key is beyond what a store takes.
func (t *tx) seal(k storage.Key, value []byte) (storage.Key, []byte) {
	if t.err != nil {
		return storage.Key{Scope: t.s.KeyScope(), Row: strings.Repeat("-", storage.MaxKey)}, nil
	}
	below := t.below(k)
	return below, t.keys.sealRow(below, value)
}

// sealRow returns value as it is kept at below, a key of the physical store.
func (k *keys) sealRow(below storage.Key, value []byte) []byte {
	g := k.gens[k.current]
	g.seals.add()
	room := takeRoom()
	defer rooms.Put(room)
	return g.rows.Seal(k.head(len(value)), value, rowAAD(room[:0], g.rowAAD, below.Scope, below.Row))
}

// Put implements [storage.Tx].
func (t *tx) Put(k storage.Key, value []byte) { t.raw.Put(t.seal(k, value)) }

// Insert implements [storage.Tx].
func (t *tx) Insert(k storage.Key, value []byte) { t.raw.Insert(t.seal(k, value)) }

// Delete implements [storage.Tx].
func (t *tx) Delete(k storage.Key) {
	if t.err != nil {
		t.Put(k, nil)
		return
	}
	t.raw.Delete(t.below(k))
}

// A sealed value is
//
//	wrapped: format 1 | generation 4 | salt 12 | nonce 12 | encrypted data key 32 | tag 16
//	sealed:  format 1 | nonce 12 | ciphertext | tag 16
//
// The generation and the space bind the wrapped key only, so that wrapping it
// anew leaves the value alone.

// Seal encrypts plain under a random key of its own, which it wraps with the
// space's key. Whoever deletes wrapped has destroyed plain. In a transaction it
// is to be called by [ValueTx], which sees the keys as the transaction does.
func (s *Space) Seal(v Value, plain []byte) (wrapped, sealed []byte, err error) {
	k := s.keys.Load()
	if k == nil {
		return nil, nil, s.gone()
	}
	wrapped, sealed = s.sealValue(k, v, plain)
	return wrapped, sealed, nil
}

func (s *Space) sealValue(k *keys, v Value, plain []byte) (wrapped, sealed []byte) {
	key := aead.NewKey()
	defer clear(key)
	room := takeRoom()
	defer rooms.Put(room)
	sealed = append(make([]byte, 0, 1+aead.OnceOverhead+len(plain)), format1)
	return k.wrap(v, key), aead.SealOnce(sealed, key, plain, s.valueAAD(room[:0], v))
}

func (k *keys) wrap(v Value, key []byte) []byte {
	g := k.gens[k.current]
	g.seals.add()
	room := takeRoom()
	defer rooms.Put(room)
	return g.values.Seal(k.head(aead.KeySize), key, v.fields(append(room[:0], g.valueAAD...)))
}

// unwrap returns the data key in wrapped. The caller clears it.
func (k *keys) unwrap(v Value, wrapped []byte) ([]byte, error) {
	g, rest, err := k.split(wrapped)
	if err != nil {
		return nil, fmt.Errorf("unwrapping a data key: %w", err)
	}
	if g == nil {
		return nil, fmt.Errorf("data key under a key that there is not: %w", storage.ErrCorrupt)
	}
	room := takeRoom()
	defer rooms.Put(room)
	key, err := g.values.Open(nil, rest, v.fields(append(room[:0], g.valueAAD...)))
	if err != nil {
		return nil, fmt.Errorf("unwrapping a data key: %w: %w", storage.ErrCorrupt, err)
	}
	if len(key) != aead.KeySize {
		clear(key)
		return nil, fmt.Errorf("data key of %d bytes: %w", len(key), storage.ErrCorrupt)
	}
	return key, nil
}

// Unseal returns what [Space.Seal] was given, if both are as it returned them
// for v; otherwise an error wrapping [storage.ErrCorrupt].
func (s *Space) Unseal(v Value, wrapped, sealed []byte) ([]byte, error) {
	k := s.keys.Load()
	if k == nil {
		return nil, s.gone()
	}
	key, err := k.unwrap(v, wrapped)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	if len(sealed) < 1+aead.OnceOverhead {
		return nil, fmt.Errorf("short value: %w", storage.ErrCorrupt)
	}
	if sealed[0] != format1 {
		return nil, fmt.Errorf("value of format %d: %w", sealed[0], storage.ErrNewer)
	}
	room := takeRoom()
	defer rooms.Put(room)
	plain, err := aead.OpenOnce(make([]byte, 0, len(sealed)), key, sealed[1:], s.valueAAD(room[:0], v))
	if err != nil {
		return nil, fmt.Errorf("opening a value: %w: %w", storage.ErrCorrupt, err)
	}
	return plain, nil
}

func (s *Space) valueAAD(room []byte, v Value) aead.AAD {
	return v.fields(aead.AAD(room).Str(aead.FieldUse, "value").Add(aead.FieldCluster, s.b.cluster[:]))
}

func (v Value) fields(a aead.AAD) aead.AAD {
	return a.Add(aead.FieldSecret, v.Secret[:]).Add(aead.FieldVersion, v.Version[:]).Add(aead.FieldKind, []byte{v.Kind})
}
