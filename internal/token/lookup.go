package token

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// Target names the token that an operation is about, by its text or by its
// accessor. The zero Target is nobody.
type Target struct {
	text     secret.Text
	accessor string
	id       string
}

// ByText returns the token that has a text.
func ByText(text secret.Text) Target { return Target{text: text} }

// ByAccessor returns the token that has an accessor.
func ByAccessor(accessor string) Target { return Target{accessor: accessor} }

// ByID returns the token that is kept under an id: the one that is used. Its
// last use is over when the request is, so until then it can be looked up.
func ByID(id string) Target { return Target{id: id} }

// Locks returns what is known of the scopes that looking at t touches.
func (s *Store) Locks(t Target) storage.Locks {
	switch {
	case t.id != "":
		return s.RevokeLocks(t.id)
	case t.accessor != "":
		return storage.Locks{}
	}
	at, _, err := s.parse(t.text.Reveal())
	switch {
	case err != nil || at.key == "":
		return storage.Locks{}
	case at.alias:
		return storage.Locks{Own: []string{tableAlias + at.key}}
	}
	return s.RevokeLocks(at.key)
}

// Resolve returns the id of the token t, whether it is valid or not; found is
// false where there is none, and for a batch token, which has none.
func (s *Store) Resolve(r storage.Reader, t Target) (id string, found bool, err error) {
	switch {
	case t.id != "":
		return t.id, true, nil
	case t.accessor != "":
		id, err = s.resolveAccessor(r, t.accessor)
	default:
		var at lookup
		if at, _, err = s.parse(t.text.Reveal()); err == nil && at.key != "" {
			id, err = s.resolve(r, at)
		}
	}
	if errors.Is(err, errNone) {
		return "", false, nil
	}
	return id, id != "" && err == nil, err
}

// IsBatch reports whether text is that of a batch token that this server gave.
func (s *Store) IsBatch(text secret.Text) bool {
	_, err := s.openBatch(text.Reveal())
	return err == nil
}

func (s *Store) resolveAccessor(r storage.Reader, accessor string) (string, error) {
	if !validAccessor(accessor) {
		return "", errNone
	}
	b, err := r.Get(s.accessorKey(accessor))
	if errors.Is(err, storage.ErrNotFound) {
		return "", errNone
	}
	if err != nil {
		return "", err
	}
	id, ok := strings.CutSuffix(string(b), accessor)
	if !ok {
		return "", fmt.Errorf("reading an accessor: %w", errEntry)
	}
	return id, nil
}

// Lookup returns the valid token t, or a fault of kind Unauthenticated. One
// whose last use was taken is valid for that request alone: see [ByID].
func (s *Store) Lookup(ctx context.Context, now time.Time, t Target) (e *Entry, err error) {
	now = s.now(now)
	err = s.space.View(ctx, func(r storage.Reader) error {
		if b, opened := s.openBatch(t.text.Reveal()); opened == nil {
			floor, err := readFloor(r)
			if err != nil {
				return err
			}
			if e = b; !now.Before(b.Expires) || !b.Created.After(floor) {
				return denied()
			}
			if b.Parent == "" {
				return nil
			}
			_, err = s.valid(r, b.Parent, now)
			return err
		}
		id, found, err := s.Resolve(r, t)
		if err != nil {
			return err
		}
		if !found {
			return denied()
		}
		if t.id != "" {
			e, err = s.standing(r, id, now)
		} else {
			e, err = s.valid(r, id, now)
		}
		return err
	})
	if err != nil && !fault.Is(err, fault.Unauthenticated) {
		return nil, fmt.Errorf("looking up a token: %w", err)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// Accessors returns the accessors of all tokens that are kept, in order.
func (s *Store) Accessors(ctx context.Context) ([]string, error) {
	var all []string
	if err := s.eachAccessor(ctx, func(_, accessor string) { all = append(all, accessor) }); err != nil {
		return nil, err
	}
	slices.Sort(all)
	return all, nil
}
