// Package overlay is the part of a transaction that stores have in common:
// its own writes over what lies below, its scopes checked, its bounds kept.
//
// A store runs a function by [Run], which gives it a [Tx] over the store's
// [Base] and runs it again where it touched scopes that were not declared; then
// the store keeps [Tx.Writes].
package overlay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rotunda.dev/rotunda/internal/storage"
)

// Base is what a transaction reads where it has written nothing itself.
type Base interface {
	// Find returns the value at k, the caller's to keep and not nil, and
	// whether there is one.
	Find(k storage.Key) (value []byte, ok bool, err error)

	// Scan is [storage.Reader]'s; a limit of 0 or less is none.
	Scan(scope, after, end string, limit int) (items []storage.Item, more bool, err error)
}

// Layer is a tree of writes over a Base; it is a Base itself. Below may be nil.
type Layer struct {
	Writes Tree
	Below  Base
}

// Find implements [Base].
func (l Layer) Find(k storage.Key) ([]byte, bool, error) {
	if v, ok := l.Writes.Find(k); ok {
		if v == nil {
			return nil, false, nil
		}
		return keep(v), true, nil
	}
	if l.Below == nil {
		return nil, false, nil
	}
	return l.Below.Find(k)
}

// Scan implements [Base].
func (l Layer) Scan(scope, after, end string, limit int) ([]storage.Item, bool, error) {
	if l.Writes.Len() == 0 && l.Below != nil {
		return l.Below.Scan(scope, after, end, limit)
	}
	var (
		own  []storage.Item // at most what could be among the first limit+1 items
		gone int
	)
	for row, v := range l.Writes.Rows(scope, after, end) {
		own = append(own, storage.Item{Row: row, Value: v})
		if v == nil {
			gone++
		}
		if limit > 0 && len(own)-gone > limit {
			break
		}
	}
	var below []storage.Item
	if l.Below != nil {
		ask := 0
		if limit > 0 {
			ask = limit + 1 + len(own) // those that own hides cannot make it short
		}
		var err error
		if below, _, err = l.Below.Scan(scope, after, end, ask); err != nil {
			return nil, false, err
		}
	}
	var items []storage.Item
	for len(own)+len(below) > 0 {
		var next storage.Item
		switch {
		case len(own) == 0 || len(below) > 0 && below[0].Row < own[0].Row:
			next, below = below[0], below[1:]
		default:
			if len(below) > 0 && below[0].Row == own[0].Row {
				below = below[1:]
			}
			next, own = own[0], own[1:]
			if next.Value == nil {
				continue
			}
			next.Value = keep(next.Value)
		}
		if limit > 0 && len(items) == limit {
			return items, true, nil
		}
		items = append(items, next)
	}
	return items, false, nil
}

// Scopes is that of a [storage.Catalog], of a Layer with nothing below.
func (l Layer) Scopes(prefix string, size int, after string, limit int) (scopes []string, more bool, err error) {
	if l.Below != nil {
		return nil, false, fmt.Errorf("storage: no catalog of a transaction's scopes: %w", errors.ErrUnsupported)
	}
	for k := range l.Writes.All() {
		if len(k.Scope) != size || k.Scope <= after || !strings.HasPrefix(k.Scope, prefix) {
			continue
		}
		if limit > 0 && len(scopes) == limit {
			return scopes, true, nil
		}
		scopes, after = append(scopes, k.Scope), k.Scope
	}
	return scopes, false, nil
}

// keep copies v, so that the copy is not nil.
func keep(v []byte) []byte { return append(make([]byte, 0, len(v)), v...) }

// Tx is a transaction over a Base. It is for one goroutine and one run.
type Tx struct {
	ctx     context.Context //nolint:containedctx // of the Update that this is a run of, and no longer
	layer   Layer
	scopes  *scopes
	learned []string // touched, not declared
	mark    storage.Mark
	now     func() time.Time
	written []string // scopes, each once
	reads   int
	bytes   int
	err     error // first breach of the contract; the Update fails with it
	over    bool
}

// scopes are what an Update may touch.
type scopes struct{ own, join []string }

// Run runs fn until it has touched only scopes that it had declared. begin
// gives what the store shows to each run. If Run returns nil, the writes of
// the returned Tx are to be kept.
func Run(ctx context.Context, locks storage.Locks, now func() time.Time, begin func() (Base, storage.Mark, error), fn func(storage.Tx) error) (*Tx, error) {
	if err := CheckLocks(locks); err != nil {
		return nil, err
	}
	sc := &scopes{slices.Clone(locks.Own), locks.Join}
	for run := 0; ; run++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		base, mark, err := begin()
		if err != nil {
			return nil, err
		}
		tx := &Tx{ctx: ctx, layer: Layer{Below: base}, scopes: sc, mark: mark, now: now}
		err = fn(tx)
		tx.over = true
		switch {
		case len(tx.learned) == 0 && err != nil:
			return nil, err
		case len(tx.learned) == 0:
			return tx, tx.err
		case run == storage.MaxReruns:
			return nil, fmt.Errorf("%w: undeclared scopes in each of %d runs", storage.ErrTooLarge, run+1)
		}
		sc = &scopes{append(slices.Clone(sc.own), tx.learned...), sc.join}
		if n := len(sc.own) + len(sc.join); n > storage.MaxTouched {
			return nil, fmt.Errorf("%w: more than %d scopes touched in one transaction", storage.ErrTooLarge, storage.MaxTouched)
		}
	}
}

// CheckLocks reports whether there are more scopes than an Update may declare.
func CheckLocks(l storage.Locks) error {
	if n := len(l.Own) + len(l.Join); n > storage.MaxScopes {
		return fmt.Errorf("%w: %d scopes in one transaction, at most %d", storage.ErrTooLarge, n, storage.MaxScopes)
	}
	return nil
}

// Writes returns what the transaction writes.
func (t *Tx) Writes() Tree { return t.layer.Writes }

// Scopes returns the scopes that the transaction writes to.
func (t *Tx) Scopes() []string { return t.written }

// Bytes returns how much the transaction writes.
func (t *Tx) Bytes() int { return t.bytes }

type access int

const (
	read access = iota
	insert
	scan
	write
)

// touch checks that scope may be touched so. A scope that is not declared
// may: the run goes on, so that one rerun learns them all, and is not kept.
func (t *Tx) touch(scope string, how access) error {
	if t.over {
		panic("storage: transaction used after its function returned")
	}
	if err := t.ctx.Err(); err != nil {
		return t.fail(err)
	}
	if slices.Contains(t.scopes.own, scope) {
		return nil
	}
	if slices.Contains(t.scopes.join, scope) {
		if how == scan || how == write {
			return t.fail(fmt.Errorf("%w: scope %.4q", storage.ErrScope, scope))
		}
		return nil
	}
	if !slices.Contains(t.learned, scope) && len(t.learned) <= storage.MaxTouched {
		t.learned = append(t.learned, scope)
	}
	return nil
}

func (t *Tx) fail(err error) error {
	if t.err == nil {
		t.err = err
	}
	return err
}

func (t *Tx) count(n int) error {
	if t.reads += n; t.reads > storage.MaxReads {
		return t.fail(fmt.Errorf("%w: more than %d keys read in one transaction", storage.ErrTooLarge, storage.MaxReads))
	}
	return nil
}

// CheckKey reports whether k is larger than a key may be.
func CheckKey(k storage.Key) error {
	if n := len(k.Scope) + len(k.Row); n > storage.MaxKey {
		return fmt.Errorf("%w: key of %d bytes, at most %d", storage.ErrTooLarge, n, storage.MaxKey)
	}
	return nil
}

// Get implements [storage.Reader].
func (t *Tx) Get(k storage.Key) ([]byte, error) {
	if err := t.touch(k.Scope, read); err != nil {
		return nil, err
	}
	if err := t.count(1); err != nil {
		return nil, err
	}
	v, ok, err := t.layer.Find(k)
	if err != nil {
		return nil, t.fail(err)
	}
	if !ok {
		return nil, storage.ErrNotFound
	}
	return v, nil
}

// GetMany implements [storage.Reader].
func (t *Tx) GetMany(ks []storage.Key) ([][]byte, error) {
	if err := t.count(len(ks)); err != nil {
		return nil, err
	}
	vs := make([][]byte, len(ks))
	for i, k := range ks {
		if err := t.touch(k.Scope, read); err != nil {
			return nil, err
		}
		var err error
		if vs[i], _, err = t.layer.Find(k); err != nil {
			return nil, t.fail(err)
		}
	}
	return vs, nil
}

// Scan implements [storage.Reader].
func (t *Tx) Scan(scope, after, end string, limit int) ([]storage.Item, bool, error) {
	if err := t.touch(scope, scan); err != nil {
		return nil, false, err
	}
	// One item beyond what may be read tells a scan that is too large.
	if most := storage.MaxReads - t.reads + 1; limit <= 0 || limit > most {
		limit = most
	}
	items, more, err := t.layer.Scan(scope, after, end, limit)
	if err != nil {
		return nil, false, t.fail(err)
	}
	if err := t.count(len(items)); err != nil {
		return nil, false, err
	}
	return items, more, nil
}

// Mark implements [storage.Reader].
func (t *Tx) Mark() storage.Mark { return t.mark }

// Now implements [storage.Reader].
func (t *Tx) Now() time.Time { return t.now() }

// Put implements [storage.Tx].
func (t *Tx) Put(k storage.Key, value []byte) {
	if value == nil {
		value = []byte{}
	}
	t.set(k, value, write)
}

// Delete implements [storage.Tx].
func (t *Tx) Delete(k storage.Key) { t.set(k, nil, write) }

// Insert implements [storage.Tx].
func (t *Tx) Insert(k storage.Key, value []byte) {
	if t.touch(k.Scope, insert) != nil {
		return
	}
	switch _, ok, err := t.layer.Find(k); {
	case err != nil:
		_ = t.fail(err)
		return
	case ok:
		_ = t.fail(storage.ErrExists)
		return
	}
	if value == nil {
		value = []byte{}
	}
	t.set(k, value, insert)
}

func (t *Tx) set(k storage.Key, value []byte, how access) {
	if t.touch(k.Scope, how) != nil {
		return
	}
	if err := CheckKey(k); err != nil {
		_ = t.fail(err)
		return
	}
	old, again := t.layer.Writes.Find(k)
	t.bytes += len(value) - len(old)
	if !again {
		t.bytes += len(k.Scope) + len(k.Row)
	}
	switch {
	case !again && t.layer.Writes.Len() == storage.MaxWrites:
		_ = t.fail(fmt.Errorf("%w: more than %d keys written in one transaction", storage.ErrTooLarge, storage.MaxWrites))
		return
	case t.bytes > storage.MaxBytes:
		_ = t.fail(fmt.Errorf("%w: more than %d bytes written in one transaction", storage.ErrTooLarge, storage.MaxBytes))
		return
	}
	t.layer.Writes = t.layer.Writes.With(k, value)
	if !slices.Contains(t.written, k.Scope) {
		t.written = append(t.written, k.Scope)
	}
}
