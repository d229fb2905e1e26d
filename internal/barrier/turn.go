package barrier

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"rotunda.dev/rotunda/internal/memory"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// # Turning a term
//
// [Barrier.TurnTerm] adds a term to the keyring; [Barrier.RewrapRecords] brings
// the keys of every space under it, one transaction each; [Barrier.DropTerms]
// removes older terms when no record is under them. Who writes a record joins
// the keyring's scope and takes the term that it finds there, so none comes
// under an older term once the newer one is there. Each step can be ended at
// any point and done again.
//
// # Turning the key of a space
//
// [Barrier.TurnSpace] adds a generation to a space's keys. As every Update joins
// the scope of these keys and seals under the last generation that it finds,
// the same transaction closes the generation before: nothing is sealed under
// it from then on. [Barrier.Sweep] walks over the rows of the space and brings
// each under the new generation, in a transaction that owns the row's scope, so
// that it meets no row that is being changed and brings none back that is gone.
// When a walk from the first row to the last has left nothing behind,
// [Barrier.RetireSpace] destroys the older keys.

// ErrTurning says that the key of a space is being turned already, or that
// older terms are to be dropped before there are more.
var ErrTurning = errors.New("barrier: the key is being turned already")

// maxTerms is how many terms a keyring holds at most.
const maxTerms = 64

// freshRing makes the keyring in memory that of the store as r sees it.
func (b *Barrier) freshRing(r storage.Reader) error {
	return b.withRing(r, func(*keyring) error { return nil })
}

// withRing makes the keyring in memory that of the store as r sees it, and calls
// fn with it. Another reader that sees an older store, or a transaction that is
// not kept, may leave another keyring in memory: what is sealed under a term,
// or depends on which one is current, is to be done in fn, which must not
// take the barrier's lock.
func (b *Barrier) withRing(r storage.Reader, fn func(ring *keyring) error) error {
	sealed, err := r.Get(storage.Key{Scope: keyringScope, Row: keyringRow})
	if err != nil {
		return fmt.Errorf("reading the keyring: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return errClosed
	}
	if !bytes.Equal(sealed, b.sealed) {
		if err := b.adoptLocked(sealed); err != nil {
			return err
		}
	}
	return fn(&b.ring)
}

func (b *Barrier) adoptLocked(sealed []byte) error {
	var pages memory.Pages
	defer pages.Close()
	ring, err := openKeyring(&pages, b.root, b.cluster, sealed)
	if err != nil {
		return fmt.Errorf("opening the keyring: %w", err)
	}
	old := b.ring.terms
	for i, t := range ring.terms {
		at := slices.IndexFunc(old, func(o termKey) bool { return o.term == t.term && equalKeys(o.key, t.key) })
		if at >= 0 {
			ring.terms[i].key = old[at].key
			old = slices.Delete(slices.Clone(old), at, at+1)
			continue
		}
		_ = t.key.Use(func(k []byte) error {
			ring.terms[i].key = b.pages.Hold(k)
			return nil
		})
	}
	for _, t := range old {
		t.key.Wipe()
	}
	ring.lookups = b.ring.lookups
	b.ring, b.sealed = ring, sealed
	return nil
}

func equalKeys(a, b secret.Bytes) (equal bool) {
	_ = a.Use(func(x []byte) error {
		return b.Use(func(y []byte) error {
			equal = subtle.ConstantTimeCompare(x, y) == 1
			return nil
		})
	})
	return equal
}

// changeRing keeps what change makes of the keyring, which is the store's.
func (b *Barrier) changeRing(ctx context.Context, change func(ring *keyring, pages *memory.Pages, now time.Time) error) error {
	key := storage.Key{Scope: keyringScope, Row: keyringRow}
	err := b.raw.Update(ctx, storage.Locks{Own: []string{keyringScope}}, func(tx storage.Tx) error {
		sealed, err := tx.Get(key)
		if err != nil {
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.closed.Load() {
			return errClosed
		}
		var pages memory.Pages
		defer pages.Close()
		ring, err := openKeyring(&pages, b.root, b.cluster, sealed)
		if err != nil {
			return err
		}
		if err := change(&ring, &pages, tx.Now()); err != nil {
			return err
		}
		tx.Put(key, ring.seal(b.root))
		return nil
	})
	if err != nil {
		return err
	}
	return b.raw.View(ctx, b.freshRing)
}

// TurnTerm adds a term to the keyring and returns its number. The error wraps
// [ErrTurning] where too many are there that are to be dropped. The rider in
// ctx is carried by the transaction that does it.
func (b *Barrier) TurnTerm(ctx context.Context) (term int, err error) {
	b.Encryptions() // what was sealed until then counts for the term before
	err = b.changeRing(ctx, func(ring *keyring, pages *memory.Pages, now time.Time) error {
		if len(ring.terms) >= maxTerms {
			return ErrTurning
		}
		key := newSpaceKey(0, now)
		defer clear(key.key)
		ring.term++
		ring.terms = append(ring.terms, termKey{ring.term, now, pages.Hold(key.key)})
		term = int(ring.term)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("adding a term to the keyring: %w", err)
	}
	return term, nil
}

// Terms returns how many terms the keyring holds: more than one while a term is
// being turned.
func (b *Barrier) Terms() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.ring.terms)
}

// catalogOfSpaces returns the scopes of the keys of spaces, in order, after one.
func catalogOfSpaces(r storage.Reader, after string) (scopes []string, more bool, err error) {
	c, ok := r.(storage.Catalog)
	if !ok {
		return nil, false, fmt.Errorf("the store does not tell its scopes: %w", errors.ErrUnsupported)
	}
	return c.Scopes(keyTable, len(keyTable)+len(SpaceID{}), after, 256)
}

// RewrapRecords brings the keys of every space under the current term. It can
// be ended at any point and called again. It returns how many it has changed.
func (b *Barrier) RewrapRecords(ctx context.Context) (changed int, err error) {
	for after, more := "", true; more; {
		var scopes []string
		err := b.raw.View(ctx, func(r storage.Reader) (err error) {
			scopes, more, err = catalogOfSpaces(r, after)
			return err
		})
		if err != nil {
			return changed, fmt.Errorf("listing the spaces: %w", err)
		}
		for _, scope := range scopes {
			after = scope
			did, err := b.rewrapRecord(ctx, SpaceID([]byte(scope[len(keyTable):])))
			if err != nil {
				return changed, fmt.Errorf("bringing the keys of a space under the term: %w", err)
			}
			if did {
				changed++
			}
		}
	}
	return changed, nil
}

func (b *Barrier) rewrapRecord(ctx context.Context, id SpaceID) (changed bool, err error) {
	key := storage.Key{Scope: KeyScope(id), Row: keyRow}
	current, err := b.recordTerm(ctx, id)
	if err != nil || current {
		return false, err
	}
	return true, b.raw.Store.Update(ctx, storage.Locks{Own: []string{key.Scope}, Join: []string{keyringScope}}, func(tx storage.Tx) error {
		record, err := tx.Get(key)
		if errors.Is(err, storage.ErrNotFound) {
			return nil // dropped meanwhile
		}
		if err != nil {
			return err
		}
		set, err := b.openRecord(tx, id, record)
		if err != nil {
			return err
		}
		defer set.wipe()
		return b.withRing(tx, func(ring *keyring) error {
			tx.Put(key, ring.sealRecord(id, set))
			return nil
		})
	})
}

// recordTerm reports whether a record is under the current term, or gone.
func (b *Barrier) recordTerm(ctx context.Context, id SpaceID) (current bool, err error) {
	err = b.raw.View(ctx, func(r storage.Reader) error {
		var now uint32
		if err := b.withRing(r, func(ring *keyring) error { now = ring.term; return nil }); err != nil {
			return err
		}
		record, err := r.Get(storage.Key{Scope: KeyScope(id), Row: keyRow})
		if errors.Is(err, storage.ErrNotFound) {
			current = true
			return nil
		}
		if err != nil {
			return err
		}
		term, err := termOf(record)
		current = term == now
		return err
	})
	return current, err
}

// DropTerms removes the terms before the current one, if no keys of a space are
// under them. It reports whether they were.
func (b *Barrier) DropTerms(ctx context.Context) (dropped bool, err error) {
	var checked uint32
	left := false
	for after, more := "", true; more && !left; {
		err := b.raw.View(ctx, func(r storage.Reader) error {
			if after == "" {
				if err := b.withRing(r, func(ring *keyring) error { checked = ring.term; return nil }); err != nil {
					return err
				}
			}
			var scopes []string
			var err error
			if scopes, more, err = catalogOfSpaces(r, after); err != nil {
				return err
			}
			for _, scope := range scopes {
				after = scope
				record, err := r.Get(storage.Key{Scope: scope, Row: keyRow})
				if errors.Is(err, storage.ErrNotFound) {
					continue
				}
				if err != nil {
					return err
				}
				term, err := termOf(record)
				if err != nil {
					return err
				}
				left = left || term < checked
			}
			return nil
		})
		if err != nil {
			return false, fmt.Errorf("looking for keys under older terms: %w", err)
		}
	}
	if left {
		return false, nil
	}
	err = b.changeRing(ctx, func(ring *keyring, _ *memory.Pages, _ time.Time) error {
		ring.terms = slices.DeleteFunc(ring.terms, func(t termKey) bool { return t.term < checked })
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("dropping older terms: %w", err)
	}
	return true, nil
}

// Generation is one key of a space.
type Generation struct {
	Number uint32
	Since  time.Time // zero for one of before this was kept
	Seals  int64     // as [Barrier.Encryptions] counts
}

// Generations returns the keys that a space has, ascending: more than one
// while its key is being turned. The error wraps [ErrNoSpace] where it has none.
func (b *Barrier) Generations(ctx context.Context, id SpaceID) (all []Generation, err error) {
	err = b.raw.View(ctx, func(r storage.Reader) error {
		set, err := b.setOf(r, id)
		if err != nil {
			return err
		}
		defer set.wipe()
		for _, x := range set.gens {
			all = append(all, Generation{x.generation, x.since, b.counts.of(id, x.generation)})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the keys of a space: %w", err)
	}
	return all, nil
}

func (b *Barrier) setOf(r storage.Reader, id SpaceID) (*keySet, error) {
	record, err := r.Get(storage.Key{Scope: KeyScope(id), Row: keyRow})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrNoSpace
	}
	if err != nil {
		return nil, err
	}
	return b.openRecord(r, id, record)
}

// changeSet keeps what change makes of the keys of a space; where it says that
// nothing is to be changed, nothing is written.
func (b *Barrier) changeSet(ctx context.Context, id SpaceID, change func(set *keySet, now time.Time) (changed bool, err error)) error {
	locks := storage.Locks{Own: []string{KeyScope(id)}, Join: []string{keyringScope}}
	return b.raw.Update(ctx, locks, func(tx storage.Tx) error {
		set, err := b.setOf(tx, id)
		if err != nil {
			return err
		}
		defer set.wipe()
		changed, err := change(set, tx.Now())
		if err != nil || !changed {
			return err
		}
		return b.withRing(tx, func(ring *keyring) error {
			tx.Put(storage.Key{Scope: KeyScope(id), Row: keyRow}, ring.sealRecord(id, set))
			return nil
		})
	})
}

// TurnSpace gives a space a key under which everything is sealed from then on,
// and returns its generation. The error wraps [ErrTurning] while an older key
// is not retired. The rider in ctx is carried by the transaction that does it.
func (b *Barrier) TurnSpace(ctx context.Context, id SpaceID) (generation uint32, err error) {
	err = b.changeSet(ctx, id, func(set *keySet, now time.Time) (bool, error) {
		if len(set.gens) > 1 {
			return false, ErrTurning
		}
		generation = set.current() + 1
		set.gens = append(set.gens, newSpaceKey(generation, now))
		return true, nil
	})
	if err != nil {
		return 0, fmt.Errorf("turning the key of a space: %w", err)
	}
	return generation, nil
}

// RetireSpace destroys the keys of a space before a generation, under which
// there must be nothing left. The caller waits for [storage.MaxView] after the
// last change that [Barrier.Sweep] made: who has read something before that
// may still open it.
func (b *Barrier) RetireSpace(ctx context.Context, id SpaceID, before uint32) error {
	err := b.changeSet(ctx, id, func(set *keySet, _ time.Time) (bool, error) {
		if before > set.current() {
			return false, fmt.Errorf("generation %d is not there yet", before)
		}
		n := len(set.gens)
		set.gens = slices.DeleteFunc(set.gens, func(x spaceKey) bool {
			if x.generation >= before {
				return false
			}
			clear(x.key)
			return true
		})
		return len(set.gens) != n, nil
	})
	if err != nil {
		return fmt.Errorf("destroying older keys of a space: %w", err)
	}
	return nil
}

// Rewrapper brings a data key under the current key of a space.
type Rewrapper interface {
	// RewrapValue returns wrapped, as [Space.Seal] returned it for v, under the
	// current generation; wrapped itself where it is so.
	RewrapValue(v Value, wrapped []byte) ([]byte, error)
}

// ValueTx is what a transaction of a [Space] can do besides: seal values under
// the keys that the transaction sees.
type ValueTx interface {
	storage.Tx
	Rewrapper

	// SealValue is [Space.Seal].
	SealValue(v Value, plain []byte) (wrapped, sealed []byte, err error)
}

var _ ValueTx = (*tx)(nil)

// SealValue implements [ValueTx].
func (t *tx) SealValue(v Value, plain []byte) (wrapped, sealed []byte, err error) {
	if t.err != nil {
		return nil, nil, t.err
	}
	wrapped, sealed = t.s.sealValue(t.keys, v, plain)
	return wrapped, sealed, nil
}

// RewrapValue implements [Rewrapper].
func (t *tx) RewrapValue(v Value, wrapped []byte) ([]byte, error) {
	if t.err != nil {
		return nil, t.err
	}
	return t.keys.rewrap(v, wrapped)
}

func (k *keys) rewrap(v Value, wrapped []byte) ([]byte, error) {
	if g, _, err := k.split(wrapped); err == nil && g != nil && g.number == k.current {
		return wrapped, nil
	}
	key, err := k.unwrap(v, wrapped)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return k.wrap(v, key), nil
}

// Holder knows the rows that hold data keys, which [Space.Seal] has wrapped.
type Holder interface {
	// Holds reports whether a row holds data keys. Table is the first byte of its scope.
	Holds(table byte, row string) bool
	// Rewrap returns the row with its data keys brought under the current key;
	// nil where they are. It takes row over.
	Rewrap(row []byte, w Rewrapper) ([]byte, error)
}

// NoDataKeys is the [Holder] of a space in which no values are sealed.
type NoDataKeys struct{}

var _ Holder = NoDataKeys{}

// Holds implements [Holder].
func (NoDataKeys) Holds(byte, string) bool { return false }

// Rewrap implements [Holder].
func (NoDataKeys) Rewrap([]byte, Rewrapper) ([]byte, error) { return nil, nil }

// Place is a row of the physical store, and all that is before it. The zero
// Place is before every row.
type Place struct{ Scope, Row string }

// The bounds of one [Barrier.Sweep].
const (
	sweepRows    = 2048    // looked at
	sweepBytes   = 4 << 20 // looked at
	sweepPage    = 16      // rows looked at at once
	rewrapRows   = 48      // in one transaction
	rewrapBytes  = 700_000 // in one transaction, which may write storage.MaxBytes
	rewrapScopes = 12      // in one transaction, which may declare storage.MaxScopes
	scopeSize    = 1 + 16 + 20
)

// Sweep looks at some of the rows of a space from a place on, and brings those
// that are under an older key, and the data keys in them, under the current
// one. It returns where it has come to, how many rows it has changed, and
// whether there is more. A nil holder is [NoDataKeys].
func (b *Barrier) Sweep(ctx context.Context, id SpaceID, from Place, h Holder) (to Place, changed int, more bool, err error) {
	s, err := b.Space(ctx, id)
	if err != nil {
		return from, 0, false, err
	}
	var stale []staleRow
	err = b.raw.View(ctx, func(r storage.Reader) error {
		stale, to, more, err = s.stale(r, from, h)
		return err
	})
	if err != nil {
		return from, 0, false, fmt.Errorf("looking for rows under an older key: %w", err)
	}
	for len(stale) > 0 {
		n := batch(stale)
		if err := s.rewrapRows(ctx, stale[:n], h); err != nil {
			return from, changed, false, fmt.Errorf("bringing rows under the current key: %w", err)
		}
		changed += n
		stale = stale[n:]
	}
	return to, changed, more, nil
}

// batch returns how many of the first rows go into one transaction.
func batch(rows []staleRow) int {
	scopes, size := 0, 0
	for n, x := range rows {
		if n == 0 || x.key.Scope != rows[n-1].key.Scope {
			scopes++
		}
		size += x.size
		if n > 0 && (n == rewrapRows || scopes > rewrapScopes || size > rewrapBytes) {
			return n
		}
	}
	return len(rows)
}

type staleRow struct {
	key  storage.Key // of the physical store
	size int
}

// stale lists rows under older keys, from a place on.
func (s *Space) stale(r storage.Reader, from Place, h Holder) (found []staleRow, to Place, more bool, err error) {
	c, ok := r.(storage.Catalog)
	if !ok {
		return nil, from, false, fmt.Errorf("the store does not tell its scopes: %w", errors.ErrUnsupported)
	}
	k, err := s.fresh(r, s.keys.Load())
	if err != nil {
		return nil, from, false, err
	}
	seen := &reader{s: s, raw: r, keys: k}
	to = from
	rows, size := 0, 0
	first := 0
	if from.Scope != "" {
		first = int(from.Scope[0])
	}
	for table := first; table < 256; table++ {
		prefix := string([]byte{byte(table)}) + k.prefix
		scope, row := "", ""
		if from.Scope != "" && table == first {
			scope, row = from.Scope, from.Row
		}
		for {
			for scope != "" {
				if rows >= sweepRows || size >= sweepBytes {
					return found, to, true, nil
				}
				items, rest, err := r.Scan(scope, row, "", sweepPage)
				if err != nil {
					return nil, from, false, err
				}
				for _, item := range items {
					key := storage.Key{Scope: scope, Row: item.Row}
					old, err := seen.isStale(key, item.Value, h)
					if err != nil {
						return nil, from, false, err
					}
					if old {
						found = append(found, staleRow{key, len(item.Value) + len(scope) + len(item.Row)})
					}
					rows, size, row = rows+1, size+len(item.Value), item.Row
					to = Place{scope, row}
				}
				if !rest {
					break
				}
			}
			next, _, err := c.Scopes(prefix, scopeSize, scope, 1)
			if err != nil {
				return nil, from, false, err
			}
			if len(next) == 0 {
				break
			}
			scope, row = next[0], ""
		}
	}
	return found, to, false, nil
}

// isStale reports whether a row is under an older key, or holds data keys that are.
func (r *reader) isStale(key storage.Key, value []byte, h Holder) (bool, error) {
	if _, _, err := r.keys.split(value); err != nil {
		return false, err
	}
	if binary.BigEndian.Uint32(value[1:]) != r.keys.current {
		return true, nil
	}
	if h == nil || !h.Holds(key.Scope[0], key.Row) {
		return false, nil
	}
	plain, err := r.open(key, value)
	if err != nil {
		return false, err
	}
	again, err := h.Rewrap(plain, r.keys)
	return again != nil, err
}

// RewrapValue implements [Rewrapper], for who only looks.
func (k *keys) RewrapValue(v Value, wrapped []byte) ([]byte, error) { return k.rewrap(v, wrapped) }

// rewrapRows brings rows under the current key, as they are then.
func (s *Space) rewrapRows(ctx context.Context, rows []staleRow, h Holder) error {
	locks := storage.Locks{Join: []string{s.KeyScope()}}
	for i, x := range rows {
		if i == 0 || x.key.Scope != rows[i-1].key.Scope {
			locks.Own = append(locks.Own, x.key.Scope)
		}
	}
	return s.b.raw.Store.Update(ctx, locks, func(raw storage.Tx) error {
		t := s.over(raw)
		if t.err != nil {
			return t.err
		}
		at := make([]storage.Key, len(rows))
		for i, x := range rows {
			at[i] = x.key
		}
		found, err := raw.GetMany(at)
		if err != nil {
			return err
		}
		for i, value := range found {
			if value == nil {
				continue // removed meanwhile, and stays so
			}
			plain, err := t.open(at[i], value)
			if err != nil {
				return err
			}
			if h != nil && h.Holds(at[i].Scope[0], at[i].Row) {
				again, err := h.Rewrap(plain, t)
				if err != nil {
					return err
				}
				if again != nil {
					plain = again
				} else if plain, err = t.open(at[i], value); err != nil { // Rewrap took it over
					return err
				}
			}
			raw.Put(at[i], t.keys.sealRow(at[i], plain))
		}
		return nil
	})
}
