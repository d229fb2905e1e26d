// Package barrier keeps a [storage.Store] whose values and names cannot be read
// in the store below it.
//
// # Keys
//
//	root key                  given to Open, kept in memory that is not dumped
//	  | wraps the keyring     cluster id, terms, lookup keys, seal generation
//	key of a term
//	  | wraps                 one record a space, which dies with the space
//	keys of a space           random, with generations; and its name key
//	  | derive (CMAC, salt)   a key for each row
//	  | derive (CMAC, salt)   a key that wraps the data key of one value
//	data key                  random, one for each value
//
// # Spaces
//
// A [Space] is a [storage.Store]. A scope given to it is a table byte and any
// text; in the store below it becomes
//
//	table 1 | space id 16 | HMAC-SHA256(name key, scope)[:20]
//
// Rows are kept as they are and hold no user's byte. Every value is encrypted
// and bound to the cluster, the space, the scope and the row, so that nothing
// opens in another place than where it was put.
package barrier

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/memory"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

var (
	// ErrWrongKey says that the root key is not the one that the store was made with.
	ErrWrongKey = errors.New("barrier: the root key is not this store's")

	// ErrInitialized says that the store holds a keyring already.
	ErrInitialized = errors.New("barrier: the store is initialized already")

	// ErrUninitialized says that the store holds no keyring: it is to be initialized first.
	ErrUninitialized = errors.New("barrier: the store is not initialized")

	// ErrNoSpace says that a space was never added, or that its keys are destroyed.
	ErrNoSpace = errors.New("barrier: no such space")
)

// SpaceID names a space: one set of keys, and the rows that are kept under it.
type SpaceID [16]byte

var (
	// Core is the space of the server's own rows: mounts, policies and the like.
	Core = SpaceID{15: 1}

	// Tokens is the space of tokens.
	Tokens = SpaceID{15: 2}
)

// NewSpaceID returns a random id.
func NewSpaceID() SpaceID {
	var id SpaceID
	rand.Read(id[:])
	return id
}

// String returns id as 32 hexadecimal digits.
func (id SpaceID) String() string { return hex.EncodeToString(id[:]) }

// ParseSpaceID reads what [SpaceID.String] wrote.
func ParseSpaceID(s string) (SpaceID, error) {
	var id SpaceID
	if len(s) != 2*len(id) {
		return SpaceID{}, errors.New("barrier: a space id has 32 hexadecimal digits")
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return SpaceID{}, errors.New("barrier: a space id has 32 hexadecimal digits")
	}
	return id, nil
}

// Purpose says what a lookup key is for. Each purpose has a key of its own.
type Purpose byte

// The purposes of [Barrier.MAC].
const (
	ForTokens Purpose = 1 + iota // finding a token without keeping it
	ForAudit                     // values in audit records
	ForLeaks                     // fingerprints of secrets that are searched for elsewhere

	forDerive // what [Barrier.Derive] derives from
)

// The tables of the barrier itself in the physical store. Their scopes have
// other lengths than those of spaces, which have 37 bytes.
const (
	keyringScope = "K" // rows keyring, seal and unfinished
	keyringRow   = "keyring"
	sealRow      = "seal"
	unfinished   = "unfinished" // while a store that was begun is not finished
	keyTable     = "k"          // and the space's id: row k
	keyRow       = "k"
)

// Barrier is an unsealed store. It is safe for concurrent use.
type Barrier struct {
	raw     carrier
	cluster [16]byte
	macs    map[Purpose]*hasher
	closed  atomic.Bool
	counts  *counts

	mu     sync.Mutex // guards what follows, and the pages' lifetime
	pages  memory.Pages
	root   secret.Bytes
	ring   keyring
	sealed []byte // from which ring was read
	spaces map[SpaceID]*Space
}

// Create makes a keyring, the seal stanzas and the spaces [Core] and [Tokens]
// in an empty store, in one transaction. The stanzas must have been sealed
// with [BindingOf] the same root key. A store that has a keyring is refused
// with [ErrInitialized].
func Create(ctx context.Context, raw storage.Store, root secret.Bytes, stanzas []seal.Stanza) error {
	return create(ctx, raw, root, stanzas, true)
}

// Begin is as [Create], for a store that counts as uninitialized until
// [Finish]: [Open] opens it, and another Begin makes everything in it anew.
func Begin(ctx context.Context, raw storage.Store, root secret.Bytes, stanzas []seal.Stanza) error {
	if err := discard(ctx, raw); err != nil {
		return fmt.Errorf("removing what an initialization left that did not end: %w", err)
	}
	return create(ctx, raw, root, stanzas, false)
}

// Finish makes a store that was begun count as initialized, for ever. It does
// nothing to one that is finished.
func Finish(ctx context.Context, raw storage.Store) error {
	err := raw.Update(ctx, storage.Locks{Own: []string{keyringScope}}, func(tx storage.Tx) error {
		_, err := tx.Get(storage.Key{Scope: keyringScope, Row: keyringRow})
		if errors.Is(err, storage.ErrNotFound) {
			return ErrUninitialized
		}
		if err == nil {
			tx.Delete(storage.Key{Scope: keyringScope, Row: unfinished})
		}
		return err
	})
	if errors.Is(err, storage.ErrUnknown) {
		if done, looked := Initialized(ctx, raw); looked == nil && done {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("finishing the initialization: %w", err)
	}
	return nil
}

// discard removes the rows of a store that was begun and not finished, but for
// those of its keyring: they were sealed by keys that nothing was kept under.
func discard(ctx context.Context, raw storage.Store) error {
	w, ok := raw.(storage.Whole)
	if !ok {
		return nil // what is left there is read by nobody
	}
	begun, err := isUnfinished(ctx, raw)
	if err != nil || !begun {
		return err
	}
	rows := map[string][]string{}
	err = w.Whole(ctx, func(_ storage.Reader, each func(func(storage.Key, []byte) error) error) error {
		return each(func(k storage.Key, _ []byte) error {
			if k.Scope != keyringScope {
				rows[k.Scope] = append(rows[k.Scope], k.Row)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for scope, all := range rows {
		for some := range slices.Chunk(all, storage.MaxWrites) {
			err := raw.Update(ctx, storage.Locks{Own: []string{scope}}, func(tx storage.Tx) error {
				for _, row := range some {
					tx.Delete(storage.Key{Scope: scope, Row: row})
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func isUnfinished(ctx context.Context, raw storage.Store) (bool, error) {
	_, err := readRow(ctx, raw, unfinished)
	if errors.Is(err, ErrUninitialized) {
		return false, nil
	}
	return err == nil, err
}

func create(ctx context.Context, raw storage.Store, root secret.Bytes, stanzas []seal.Stanza, whole bool) error {
	if root.Len() != aead.KeySize {
		return fmt.Errorf("barrier: a root key has %d bytes, not %d", aead.KeySize, root.Len())
	}
	var pages memory.Pages
	defer pages.Close()
	ring := newKeyring(&pages, clusterOf(root))
	slots, err := slots{cluster: ring.cluster, generation: ring.generation, stanzas: stanzas}.encode()
	if err != nil {
		return err
	}
	locks := storage.Locks{Own: []string{keyringScope, KeyScope(Core), KeyScope(Tokens)}}
	err = raw.Update(ctx, locks, func(tx storage.Tx) error {
		found, err := tx.GetMany([]storage.Key{{Scope: keyringScope, Row: keyringRow}, {Scope: keyringScope, Row: sealRow}, {Scope: keyringScope, Row: unfinished}})
		if err != nil {
			return err
		}
		if (found[0] != nil || found[1] != nil) && found[2] == nil {
			return ErrInitialized
		}
		if whole {
			tx.Delete(storage.Key{Scope: keyringScope, Row: unfinished})
		} else {
			tx.Put(storage.Key{Scope: keyringScope, Row: unfinished}, []byte{1})
		}
		ring.terms[0].since = tx.Now()
		tx.Put(storage.Key{Scope: keyringScope, Row: keyringRow}, ring.seal(root))
		tx.Put(storage.Key{Scope: keyringScope, Row: sealRow}, bytes.Clone(slots))
		for _, id := range []SpaceID{Core, Tokens} {
			tx.Put(storage.Key{Scope: KeyScope(id), Row: keyRow}, ring.newRecord(id, tx.Now()))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("creating the keyring: %w", err)
	}
	return nil
}

// clusterOf returns the cluster id of a store that is made with root: a UUID
// of version 8. It is known before the store is made, so that seals can bind
// their stanzas to it, and tells nothing of root.
func clusterOf(root secret.Bytes) [16]byte {
	id := [16]byte(aead.Expand(root, "rotunda cluster id", 16))
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return id
}

// BindingOf returns the binding with which seals wrap root, before [Create].
func BindingOf(root secret.Bytes) []byte {
	id := clusterOf(root)
	return id[:]
}

// Binding returns the binding with which seals unwrap the root key of a store,
// finished or not, before [Open]; ErrUninitialized if it has none.
func Binding(ctx context.Context, raw storage.Store) ([]byte, error) {
	s, err := readSlots(ctx, raw)
	if err != nil {
		return nil, err
	}
	return s.cluster[:], nil
}

// Initialized reports whether the store holds a keyring, and is finished.
func Initialized(ctx context.Context, raw storage.Store) (bool, error) {
	_, err := readRow(ctx, raw, keyringRow)
	if errors.Is(err, ErrUninitialized) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	begun, err := isUnfinished(ctx, raw)
	return !begun && err == nil, err
}

// Stanzas returns the seal stanzas of a store, finished or not; ErrUninitialized
// if it has none.
func Stanzas(ctx context.Context, raw storage.Store) ([]seal.Stanza, error) {
	s, err := readSlots(ctx, raw)
	return s.stanzas, err
}

func readRow(ctx context.Context, raw storage.Store, row string) (b []byte, err error) {
	err = raw.View(ctx, func(r storage.Reader) error {
		b, err = r.Get(storage.Key{Scope: keyringScope, Row: row})
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrUninitialized
	}
	if err != nil {
		return nil, fmt.Errorf("reading the %s: %w", row, err)
	}
	return b, nil
}

func readSlots(ctx context.Context, raw storage.Store) (slots, error) {
	b, err := readRow(ctx, raw, sealRow)
	if err != nil {
		return slots{}, err
	}
	return parseSlots(b)
}

// Open opens the keyring with root, of which it keeps a copy. An error wrapping
// [ErrWrongKey] says that root is another store's, one wrapping
// [storage.ErrCorrupt] that the keyring is damaged.
func Open(ctx context.Context, raw storage.Store, root secret.Bytes) (*Barrier, error) {
	if root.Len() != aead.KeySize {
		return nil, fmt.Errorf("opening the keyring: %w", ErrWrongKey)
	}
	s, err := readSlots(ctx, raw)
	if err != nil {
		return nil, err
	}
	sealed, err := readRow(ctx, raw, keyringRow)
	if err != nil {
		return nil, err
	}
	b := &Barrier{raw: carrier{raw}, cluster: s.cluster, macs: map[Purpose]*hasher{}, spaces: map[SpaceID]*Space{}, counts: newCounts(), sealed: sealed}
	b.ring, err = openKeyring(&b.pages, root, s.cluster, sealed)
	if err == nil && b.ring.generation != s.generation {
		err = fmt.Errorf("seal generation %d in the keyring and %d beside it: %w", b.ring.generation, s.generation, storage.ErrCorrupt)
	}
	if err != nil {
		_ = b.pages.Close() // nothing is in use
		return nil, fmt.Errorf("opening the keyring: %w", err)
	}
	_ = root.Use(func(k []byte) error {
		b.root = b.pages.Hold(k)
		return nil
	})
	for _, p := range []Purpose{ForTokens, ForAudit, ForLeaks} {
		b.macs[p] = newHasher(b.ring.lookup(p))
	}
	return b, nil
}

// Close wipes the root key and the keyring; what is asked of the barrier
// afterwards fails with [storage.ErrClosed]. What was expanded from the keys of
// spaces for quick use is let go of, and left to the garbage collector, as
// requests that still end may be using it. It does not close the store below.
func (b *Barrier) Close() {
	b.closed.Store(true)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.spaces {
		s.keys.Store(nil)
	}
	clear(b.spaces)
	_ = b.pages.Close() // the keys are wiped, whatever becomes of the pages
	b.root, b.ring = secret.Bytes{}, keyring{}
}

// ClusterID returns the identity of the store, as a UUID.
func (b *Barrier) ClusterID() string {
	h := hex.EncodeToString(b.cluster[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Raw returns the store below. Its Update carries the [storage.Rider] in ctx,
// as that of a [Space] does. It is a [storage.Near] where the store below is one.
func (b *Barrier) Raw() storage.Store {
	if n, ok := b.raw.Store.(storage.Near); ok {
		return nearCarrier{b.raw, n}
	}
	return b.raw
}

// Memory says how the memory is protected in which the root key is.
func (b *Barrier) Memory() memory.Kind { return b.pages.Kind() }

// Term returns the number of the term whose key wraps the keys of spaces, and
// since when it does.
func (b *Barrier) Term() (term int, since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.ring.terms {
		if t.term == b.ring.term {
			since = t.since
		}
	}
	return int(b.ring.term), since
}

// MAC returns the HMAC-SHA256 of parts, each with its length, under the lookup key of p.
func (b *Barrier) MAC(p Purpose, parts ...[]byte) [32]byte {
	h, ok := b.macs[p]
	if !ok {
		panic(fmt.Sprintf("barrier: internal error: MAC for purpose %d", p))
	}
	return h.parts(parts)
}

// AuditKey returns the key under which the audit journal is encrypted. The caller wipes it.
func (b *Barrier) AuditKey() secret.Bytes { return b.Derive("audit-journal") }

// Derive returns a 32-byte key for purpose: always the same in one store, and
// unrelated to that of any other purpose or store. The caller wipes it. It
// panics on a closed barrier.
func (b *Barrier) Derive(purpose string) secret.Bytes {
	b.mu.Lock()
	defer b.mu.Unlock()
	return secret.NewBytes(aead.Expand(b.ring.lookup(forDerive), "rotunda key: "+purpose, aead.KeySize))
}

// Root returns a copy of the root key, for sealing it in one more slot, bound
// to the cluster as [BindingOf] says. The caller wipes it.
func (b *Barrier) Root() (secret.Bytes, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return secret.Bytes{}, errClosed
	}
	return b.root.Clone(), nil
}

// SetStanzas replaces the seal stanzas by what change makes of them, in one
// transaction, and raises the seal generation. At least one stanza must be
// left. change may be called again, as what is given to an Update.
func (b *Barrier) SetStanzas(ctx context.Context, change func(old []seal.Stanza) ([]seal.Stanza, error)) error {
	var next uint64
	err := b.raw.Update(ctx, storage.Locks{Own: []string{keyringScope}}, func(tx storage.Tx) error {
		found, err := tx.GetMany([]storage.Key{{Scope: keyringScope, Row: keyringRow}, {Scope: keyringScope, Row: sealRow}})
		if err != nil {
			return err
		}
		s, err := parseSlots(found[1])
		if err != nil {
			return err
		}
		if s.stanzas, err = change(s.stanzas); err != nil {
			return err
		}
		s.generation++
		next = s.generation
		slots, err := s.encode()
		if err != nil {
			return err
		}
		sealed, err := b.reseal(found[0], next)
		if err != nil {
			return err
		}
		tx.Put(storage.Key{Scope: keyringScope, Row: keyringRow}, sealed)
		tx.Put(storage.Key{Scope: keyringScope, Row: sealRow}, slots)
		return nil
	})
	if err != nil {
		return fmt.Errorf("changing the seal: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ring.generation = max(b.ring.generation, next)
	return nil
}

// reseal returns the stored keyring with another seal generation.
func (b *Barrier) reseal(sealed []byte, generation uint64) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return nil, errClosed
	}
	var pages memory.Pages
	defer pages.Close()
	ring, err := openKeyring(&pages, b.root, b.cluster, sealed)
	if err != nil {
		return nil, err
	}
	ring.generation = generation
	return ring.seal(b.root), nil
}

var errClosed = fmt.Errorf("the barrier is sealed: %w", storage.ErrClosed)

// KeyScope returns the physical scope that holds the keys of a space.
func KeyScope(id SpaceID) string { return keyTable + string(id[:]) }

// AddSpace makes keys for a space; it leaves those that exist.
func (b *Barrier) AddSpace(ctx context.Context, id SpaceID) error {
	locks := storage.Locks{Own: []string{KeyScope(id)}, Join: []string{keyringScope}}
	return b.raw.Store.Update(ctx, locks, func(tx storage.Tx) error {
		return b.AddSpaceTx(tx, id)
	})
}

// AddSpaceTx is [Barrier.AddSpace] in a transaction of the physical store,
// which is to own [KeyScope] of id. It reads the keyring, too.
func (b *Barrier) AddSpaceTx(tx storage.Tx, id SpaceID) error {
	key := storage.Key{Scope: KeyScope(id), Row: keyRow}
	_, err := tx.Get(key)
	if !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	return b.withRing(tx, func(ring *keyring) error {
		tx.Insert(key, ring.newRecord(id, tx.Now()))
		return nil
	})
}

// DropSpace destroys the keys of a space. What was kept under them can never
// be read again. Dropping what does not exist is not an error.
func (b *Barrier) DropSpace(ctx context.Context, id SpaceID) error {
	err := b.raw.Store.Update(ctx, storage.Locks{Own: []string{KeyScope(id)}}, func(tx storage.Tx) error {
		tx.Delete(storage.Key{Scope: KeyScope(id), Row: keyRow})
		return nil
	})
	if err != nil {
		return fmt.Errorf("destroying the keys of a space: %w", err)
	}
	b.counts.forget(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.spaces[id]; s != nil {
		s.keys.Store(nil)
		delete(b.spaces, id)
	}
	return nil
}

// Space returns a space that was added, or an error wrapping [ErrNoSpace].
func (b *Barrier) Space(ctx context.Context, id SpaceID) (*Space, error) {
	b.mu.Lock()
	s := b.spaces[id]
	b.mu.Unlock()
	if s != nil {
		return s, nil
	}
	s = &Space{b: b, id: id}
	err := b.raw.View(ctx, func(r storage.Reader) error {
		_, err := s.fresh(r, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening space %s: %w", id, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return nil, errClosed
	}
	if first := b.spaces[id]; first != nil {
		return first, nil
	}
	b.spaces[id] = s
	return s, nil
}

// carrier is a physical store whose Update carries the rider in its context.
type carrier struct{ storage.Store }

// Update implements [storage.Store]. A rider is carried by the first Update
// that is kept: its Write is nil from then on.
func (c carrier) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	rider := storage.RiderOf(ctx)
	if rider == nil || rider.Write == nil {
		return c.Store.Update(ctx, locks, fn)
	}
	locks = storage.Locks{
		Own:  append(slices.Clip(rider.Locks.Own), locks.Own...),
		Join: append(slices.Clip(rider.Locks.Join), locks.Join...),
	}
	err := c.Store.Update(storage.WithRider(ctx, nil), locks, func(tx storage.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		if err := rider.Write(tx); err != nil {
			return fmt.Errorf("writing along: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	rider.Write = nil
	if rider.Done != nil {
		rider.Done()
	}
	return nil
}

// nearCarrier is a carrier over a [storage.Near].
type nearCarrier struct {
	carrier
	near storage.Near
}

// ChangesAreNear implements [storage.Near].
func (n nearCarrier) ChangesAreNear() { n.near.ChangesAreNear() }
