package barrier

import (
	"context"
	"errors"
	"fmt"

	"rotunda.dev/rotunda/internal/memory"
	"rotunda.dev/rotunda/internal/storage"
)

// Head returns the keys of the rows that a store is opened with: those of the
// keyring and of the seal slots.
func Head() []storage.Key {
	return []storage.Key{{Scope: keyringScope, Row: keyringRow}, {Scope: keyringScope, Row: sealRow}}
}

// Whole is that of the store below, which is to be a [storage.Whole].
func (b *Barrier) Whole(ctx context.Context, fn func(r storage.Reader, each func(func(storage.Key, []byte) error) error) error) error {
	w, ok := b.raw.Store.(storage.Whole)
	if !ok {
		return fmt.Errorf("this store does not hand over all that it keeps: %w", errors.ErrUnsupported)
	}
	return w.Whole(ctx, fn)
}

// RowKind says what a row of the physical store is.
type RowKind uint8

// What a row can be.
const (
	OtherRow RowKind = iota // none of the barrier's
	HeadRow                 // the keyring, or the seal slots
	KeysRow                 // the keys of a space
	SpaceRow                // of a space
	LostRow                 // of a space whose keys are destroyed: nobody can read it
)

// CheckRow opens a row as it lies in the physical store, and says what it is.
// The keys of its space are to be in the store that b was opened on.
func (b *Barrier) CheckRow(ctx context.Context, k storage.Key, value []byte) (RowKind, error) {
	switch {
	case k.Scope == keyringScope && k.Row == sealRow:
		_, err := parseSlots(value)
		return HeadRow, err
	case k.Scope == keyringScope && k.Row == keyringRow:
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.closed.Load() {
			return HeadRow, errClosed
		}
		var pages memory.Pages
		defer pages.Close()
		_, err := openKeyring(&pages, b.root, b.cluster, value)
		return HeadRow, err
	case len(k.Scope) == len(keyTable)+len(SpaceID{}) && k.Scope[:len(keyTable)] == keyTable:
		_, err := b.Space(ctx, SpaceID([]byte(k.Scope[len(keyTable):])))
		return KeysRow, err
	case len(k.Scope) == scopeSize:
		s, err := b.Space(ctx, SpaceID([]byte(k.Scope[1:1+len(SpaceID{})])))
		if errors.Is(err, ErrNoSpace) {
			return LostRow, nil
		}
		if err != nil {
			return SpaceRow, err
		}
		return SpaceRow, b.raw.View(ctx, func(raw storage.Reader) error {
			r := &reader{s: s, raw: raw, keys: s.keys.Load()}
			if r.keys == nil {
				return s.gone()
			}
			_, err := r.open(k, value)
			return err
		})
	}
	return OtherRow, nil
}
