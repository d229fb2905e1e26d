package token

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// wrappingPolicy is the policy that clients see on a wrapping token. Nobody
// else can have it.
const wrappingPolicy name.Name = "response-wrapping"

// maxWrapped is how large an answer may be that is wrapped; with the rows
// beside it it fits a transaction.
const maxWrapped = storage.MaxBytes - 64<<10

// errUnwrap is the one answer to everything that is not a valid wrapping token.
func errUnwrap() error {
	return fault.New(fault.Invalid, "wrapping token is not valid or does not exist")
}

// wrappedFormat is the first byte of a kept answer. What follows is
//
//	text: wrapped accessor | text: answer
//
// with text as in [Entry].
const wrappedFormat = 1

type wrapped struct {
	accessor string // of the token that the answer holds; empty for none
	answer   []byte
}

func (w wrapped) encode() []byte {
	b := append(make([]byte, 0, len(w.answer)+len(w.accessor)+2*binary.MaxVarintLen64+1), wrappedFormat)
	b = appendText(b, w.accessor)
	b = binary.AppendUvarint(b, uint64(len(w.answer)))
	return append(b, w.answer...)
}

func decodeWrapped(b []byte) (wrapped, error) {
	r := &reader{b: b}
	if r.byte() != wrappedFormat {
		return wrapped{}, errEntry
	}
	w := wrapped{accessor: r.text(), answer: []byte(r.text())}
	if r.bad || len(r.b) != 0 {
		return wrapped{}, errEntry
	}
	return w, nil
}

// Wrap keeps an answer for ttl, to be had once by who holds the token that it
// returns. The creation path is where the answer was asked for; the accessor
// is that of a token in it, or empty.
func (s *Store) Wrap(ctx context.Context, now time.Time, answer secret.JSON, ttl time.Duration, creationPath, accessor string) (op.Wrap, error) {
	var w op.Wrap
	err := s.Issuer().Update(ctx, storage.Locks{}, func(tx storage.Tx) (err error) {
		w, err = s.wrapTx(tx, now, wrapped{accessor, answer.Reveal()}, ttl, creationPath)
		return err
	})
	if err != nil && fault.KindOf(err) == fault.Internal {
		err = fmt.Errorf("wrapping an answer: %w", err)
	}
	return w, err
}

func (s *Store) wrapTx(tx storage.Tx, now time.Time, w wrapped, ttl time.Duration, creationPath string) (op.Wrap, error) {
	now = s.now(now)
	if len(w.answer) > maxWrapped {
		return op.Wrap{}, fault.New(fault.TooLarge, "the answer is too large to be wrapped")
	}
	if ttl = seconds(ttl); ttl == 0 {
		return op.Wrap{}, fault.New(fault.Invalid, "a wrapped answer needs a TTL")
	}
	ttl = min(ttl, s.config.MaxTTL)
	e := &Entry{
		Kind: Service, DisplayName: "", Path: creationPath, Policies: []name.Name{wrappingPolicy}, Created: now, TTL: ttl, Granted: ttl,
		ExplicitMax: ttl, Expires: now.Add(ttl), NumUses: 1, wrap: true,
	}
	text, err := s.insert(tx, e, secret.Text{}, now)
	if err != nil {
		return op.Wrap{}, err
	}
	tx.Insert(storage.Key{Scope: tokenScope(e.ID), Row: rowWrapped}, w.encode())
	return op.Wrap{
		Token: text, Accessor: e.Accessor, TTL: ttl, CreationTime: now, CreationPath: creationPath, WrappedAccessor: w.accessor,
	}, nil
}

// wrapping returns a valid wrapping token.
func (s *Store) wrapping(r storage.Reader, now time.Time, text secret.Text) (*Entry, error) {
	at, sh, err := s.parse(text.Reveal())
	if err != nil || sh != wrapping {
		return nil, errUnwrap()
	}
	e, err := read(r, at.key)
	if errors.Is(err, errNone) {
		return nil, errUnwrap()
	}
	if err != nil {
		return nil, err
	}
	if !e.wrap || e.state != live || !s.now(now).Before(e.Expires) {
		return nil, errUnwrap()
	}
	return e, nil
}

// WrappingLocks returns what is known of the scopes that [Store.Unwrap] and
// [Store.Rewrap] touch.
func (s *Store) WrappingLocks(text secret.Text) storage.Locks {
	at, sh, err := s.parse(text.Reveal())
	if err != nil || sh != wrapping {
		return storage.Locks{}
	}
	return storage.Locks{Own: []string{tokenScope(at.key)}}
}

// Unwrap returns the answer that a wrapping token holds and ends the token, in
// a transaction of [Store.Space]. Of all that try, one gets the answer.
func (s *Store) Unwrap(tx storage.Tx, now time.Time, text secret.Text) (secret.JSON, error) {
	_, w, err := s.take(tx, now, text)
	if err != nil {
		return secret.JSON{}, err
	}
	return secret.NewJSON(w.answer), nil
}

func (s *Store) take(tx storage.Tx, now time.Time, text secret.Text) (*Entry, wrapped, error) {
	e, err := s.wrapping(tx, now, text)
	if err != nil {
		return nil, wrapped{}, err
	}
	b, err := tx.Get(storage.Key{Scope: tokenScope(e.ID), Row: rowWrapped})
	if err != nil {
		return nil, wrapped{}, fmt.Errorf("reading a wrapped answer: %w", err)
	}
	w, err := decodeWrapped(b)
	if err != nil {
		return nil, wrapped{}, fmt.Errorf("reading a wrapped answer: %w", err)
	}
	return e, w, s.remove(tx, e)
}

// Rewrap moves the answer that a wrapping token holds to another wrapping
// token, with the TTL and the creation path of the first, in a transaction of
// an [Issuer].
func (s *Store) Rewrap(tx storage.Tx, now time.Time, text secret.Text) (op.Wrap, error) {
	e, w, err := s.take(tx, now, text)
	if err != nil {
		return op.Wrap{}, err
	}
	return s.wrapTx(tx, now, w, e.TTL, e.Path)
}

// Wrapped is what is told of a wrapping token without ending it.
type Wrapped struct {
	CreationPath string
	CreationTime time.Time
	TTL          time.Duration
}

// LookupWrapped tells what is known of a wrapping token. It counts as no use.
func (s *Store) LookupWrapped(ctx context.Context, now time.Time, text secret.Text) (w Wrapped, err error) {
	err = s.space.View(ctx, func(r storage.Reader) error {
		e, err := s.wrapping(r, now, text)
		if err == nil {
			w = Wrapped{e.Path, e.Created, e.TTL}
		}
		return err
	})
	return w, err
}
