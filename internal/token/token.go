// Package token keeps tokens: who holds one may do what its policies allow.
//
// # In the store
//
// Everything is in the space of tokens. The first byte of a scope is its table:
//
//	t | id              row "h"       Entry; see [Entry] for its encoding
//	                    row "w"       answer that a wrapping token holds
//	c | id              row child id  empty: a token that was made by token id
//	a | bucket          row hash      id and accessor
//	i | hash            row "h"       id of the token whose text root chose
//	r                   row hash      role
//	b                   row "h"       before when batch tokens are worth nothing; see [Store.EndAll]
//	u | id              rows          the token's cubbyhole; see package cubbyhole
//	q | shard           rows          queue of ids to settle; see package due
//
// An id is the first 20 bytes of the token's HMAC in hex, or as many random
// bytes where root chose the text. A token's text is never kept.
//
// # What makes a token valid
//
// Validity is decided when a token is used: it is in the store, it has not
// expired, and so are all of its ancestors. Whoever deletes a token's row has
// therefore ended all of its descendants in the same instant; their rows are
// then removed in pages by [Store.Settle], which the queue calls again until
// nothing is left. Expiry works without the queue, too: that only cleans up.
//
// Time does not go back for a Store: it decides by the latest time it has been
// told, be it a request's or the store's.
package token

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/due"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/fence"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// Config bounds the tokens of a server. Its zero value is good.
type Config struct {
	DefaultTTL time.Duration // of a token that asks for none; 0 is 768 h
	MaxTTL     time.Duration // of every token that is not periodic; 0 is 768 h
	RootTTL    time.Duration // longest life of a root token that a request makes; 0 is 1 h
	Cached     int           // entries kept in memory; 0 is 50,000

	Policies      int // of a token, beside default; 0 is 100
	MetadataItems int // of a token; 0 is 64
	MetadataBytes int // of an item of a token's metadata; 0 is 512

	// Gone is told of a token that has ended, before the last of its rows is
	// removed, and again if it fails: to end what was lent to the token. Nil
	// for nobody.
	Gone func(ctx context.Context, tokenID string) error

	Log *slog.Logger // nil for none
}

const (
	tableToken    = "t"
	tableChildren = "c"
	tableAccessor = "a"
	tableAlias    = "i"
	tableRole     = "r"
	tableCubby    = "u"
	tableQueue    = 'q'

	rowEntry   = "h"
	rowWrapped = "w"

	buckets  = 64
	maxDepth = 64 // ancestors of a token
)

func tokenScope(id string) string    { return tableToken + id }
func childrenScope(id string) string { return tableChildren + id }

// Store keeps tokens. Make it with [NewStore]; it is safe for concurrent use.
type Store struct {
	barrier *barrier.Barrier
	space   *barrier.Space
	fence   *fence.Fence
	cache   *fence.Cache[lookup, *line]
	floors  *fence.Cache[struct{}, time.Time] // when batch tokens were ended
	queue   *due.Queue
	batch   *aead.Deriver
	config  Config
	latest  atomic.Int64 // nanoseconds since 1970: the latest time that was seen

	mu     sync.Mutex
	flying map[string]int // requests in flight of tokens with limited uses, by id; guarded by mu
}

// NewStore returns the tokens in space, which is the space of tokens of b.
func NewStore(b *barrier.Barrier, space *barrier.Space, f *fence.Fence, c clock.Clock, config Config) *Store {
	if config.DefaultTTL <= 0 {
		config.DefaultTTL = 768 * time.Hour
	}
	if config.MaxTTL <= 0 {
		config.MaxTTL = 768 * time.Hour
	}
	if config.RootTTL <= 0 {
		config.RootTTL = time.Hour
	}
	config.DefaultTTL, config.MaxTTL, config.RootTTL = seconds(config.DefaultTTL), seconds(config.MaxTTL), seconds(config.RootTTL)
	config.DefaultTTL = min(config.DefaultTTL, config.MaxTTL)
	if config.Cached <= 0 {
		config.Cached = 50_000
	}
	config.Policies = cmp.Or(max(config.Policies, 0), 100)
	config.MetadataItems = cmp.Or(max(config.MetadataItems, 0), 64)
	config.MetadataBytes = cmp.Or(max(config.MetadataBytes, 0), 512)
	s := &Store{
		barrier: b, space: space, fence: f, config: config,
		cache:  fence.NewCache[lookup, *line](f, config.Cached),
		floors: fence.NewCache[struct{}, time.Time](f, 1),
		queue:  due.New(space, c, tableQueue, due.Config{Log: config.Log}),
		flying: map[string]int{},
	}
	key := b.Derive("batch-token")
	defer key.Wipe()
	_ = key.Use(func(k []byte) error {
		s.batch = aead.NewDeriver(k)
		return nil
	})
	return s
}

// Run settles tokens that have expired or were revoked, until ctx ends.
func (s *Store) Run(ctx context.Context) error { return s.queue.Run(ctx, s.Settle) }

// Sweep is one pass of [Store.Run]: it settles what is due and returns how
// many tokens that were.
func (s *Store) Sweep(ctx context.Context) (int, error) { return s.queue.Sweep(ctx, s.Settle) }

// Wake makes [Store.Run] look at once whether something is due.
func (s *Store) Wake() { s.queue.Wake() }

// Arrive returns the moment at which a question is asked that is answered from a cache.
func (s *Store) Arrive(ctx context.Context) (fence.Moment, error) { return s.fence.Arrive(ctx) }

// now returns the latest time that the Store was told, which at is one of.
func (s *Store) now(at time.Time) time.Time {
	n := at.UnixNano()
	for {
		seen := s.latest.Load()
		if seen >= n {
			return time.Unix(0, seen).UTC()
		}
		if s.latest.CompareAndSwap(seen, n) {
			return at.UTC().Round(0)
		}
	}
}

// lookup is how a token is found: by its id, or by the hash of a text that root chose.
type lookup struct {
	key   string
	alias bool
}

// line is a token and what its ancestors make of it.
type line struct {
	entry *Entry
	until time.Time // the first of it and its ancestors expires; zero for never
}

func (l *line) alive(now time.Time) bool { return l.until.IsZero() || now.Before(l.until) }

func denied() error { return fault.New(fault.Unauthenticated, "permission denied") }

// errNone says that there is no such token. It does not leave the package.
var errNone = errors.New("token: no such token")

func (s *Store) hash(text string) string {
	sum := s.barrier.MAC(barrier.ForTokens, []byte("token"), []byte(text))
	var id [40]byte
	hex.Encode(id[:], sum[:20])
	return string(id[:])
}

// parse returns how to find a service or wrapping token, or errNone for what
// was never handed out.
func (s *Store) parse(text string) (lookup, shape, error) {
	if len(text) > MaxText {
		return lookup{}, malformed, errNone
	}
	switch sh := classify(text); sh {
	case service, wrapping:
		return lookup{key: s.hash(text)}, sh, nil
	case custom:
		return lookup{key: s.hash(text), alias: true}, sh, nil
	case batch:
		return lookup{}, sh, nil
	case malformed:
	}
	return lookup{}, malformed, errNone
}

// Find returns the valid token whose text was presented. The error is of kind
// Unauthenticated where there is none: unknown, expired, used up, or with an
// ancestor of which that is true; and for a wrapping token, which can be
// unwrapped and nothing else.
func (s *Store) Find(ctx context.Context, m fence.Moment, now time.Time, presented secret.Text) (*Entry, error) {
	now = s.now(later(now, m.Now))
	at, sh, err := s.parse(presented.Reveal())
	if err != nil || sh == wrapping {
		return nil, denied()
	}
	if sh == batch {
		return s.findBatch(ctx, m, now, presented.Reveal())
	}
	l, err := s.line(ctx, m, at)
	if err != nil {
		return nil, err
	}
	if !l.alive(now) || l.entry.state != live || l.entry.wrap {
		return nil, denied()
	}
	return l.entry, nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// line returns a token with what its ancestors make of it, from the cache.
func (s *Store) line(ctx context.Context, m fence.Moment, at lookup) (*line, error) {
	if l, ok := s.cache.Hit(m, at); ok {
		return l, nil
	}
	l, err := s.cache.Get(ctx, m, at, func(raw storage.Reader) (*line, error) { return s.readLine(s.space.Over(raw), at) })
	if errors.Is(err, errNone) {
		return nil, denied()
	}
	if err != nil {
		return nil, fmt.Errorf("looking up a token: %w", err)
	}
	return l, nil
}

func (s *Store) readLine(r storage.Reader, at lookup) (*line, error) {
	id, err := s.resolve(r, at)
	if err != nil {
		return nil, err
	}
	e, err := read(r, id)
	if err != nil {
		return nil, err
	}
	l := &line{entry: e, until: e.Expires}
	for up, n := e.Parent, 0; up != ""; n++ {
		parent, err := read(r, up)
		if err != nil {
			return nil, err
		}
		if parent.state == released {
			break // its children are orphans
		}
		if parent.state != live || n > maxDepth {
			return nil, errNone
		}
		if l.until.IsZero() || !parent.Expires.IsZero() && parent.Expires.Before(l.until) {
			l.until = parent.Expires
		}
		up = parent.Parent
	}
	return l, nil
}

// resolve returns the id of a token; for one whose text root chose, from the index.
func (s *Store) resolve(r storage.Reader, at lookup) (string, error) {
	if !at.alias {
		return at.key, nil
	}
	b, err := r.Get(storage.Key{Scope: tableAlias + at.key, Row: rowEntry})
	if errors.Is(err, storage.ErrNotFound) {
		return "", errNone
	}
	return string(b), err
}

// read returns the entry of a token as it stands; errNone where there is none.
func read(r storage.Reader, id string) (*Entry, error) {
	b, err := r.Get(storage.Key{Scope: tokenScope(id), Row: rowEntry})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNone
	}
	if err != nil {
		return nil, err
	}
	return decode(b)
}

func write(tx storage.Tx, e *Entry) {
	tx.Put(storage.Key{Scope: tokenScope(e.ID), Row: rowEntry}, e.encode())
}

// Use counts one use of a token whose uses are limited. Of all calls exactly
// as many succeed as it had uses, whoever calls and when; the others get a
// fault of kind Unauthenticated. A call that succeeded is followed by
// [Store.AfterUse] when the request is done.
func (s *Store) Use(ctx context.Context, e *Entry) error {
	if e.NumUses == 0 {
		return nil
	}
	s.fly(e.ID, 1)
	err := s.space.Update(ctx, storage.Locks{Own: []string{tokenScope(e.ID)}, Join: []string{s.queue.Scope(e.ID)}}, func(tx storage.Tx) error {
		at, err := read(tx, e.ID)
		if errors.Is(err, errNone) || err == nil && (at.state != live || at.NumUses == 0) {
			return denied()
		}
		if err != nil {
			return err
		}
		if at.NumUses--; at.NumUses == 0 {
			at.state = spent
			s.queue.Add(tx, s.soon(), e.ID) // for the case that AfterUse never comes
		}
		write(tx, at)
		return nil
	})
	if err != nil {
		if s.fly(e.ID, -1) <= 0 {
			_ = s.landed(ctx, e.ID) // if that fails, the queue has it
		}
		if fault.Is(err, fault.Unauthenticated) {
			return err
		}
		return fmt.Errorf("counting a use: %w", err)
	}
	return nil
}

// soon is when a used-up token is settled whose request was never heard of again.
func (s *Store) soon() time.Time { return time.Unix(0, s.latest.Load()).Add(2 * time.Minute) }

func (s *Store) fly(id string, by int) (left int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flying[id] += by
	left = s.flying[id]
	if left <= 0 {
		delete(s.flying, id)
	}
	return left
}

// AfterUse ends a token whose last use was taken, once no request that used it
// is running any more.
func (s *Store) AfterUse(ctx context.Context, e *Entry) error {
	if e.NumUses == 0 || s.fly(e.ID, -1) > 0 {
		return nil
	}
	return s.landed(ctx, e.ID)
}

// landed ends a token that no request uses any more, if its last use was taken.
// Who asked for a use that there was none of may be the last to leave.
func (s *Store) landed(ctx context.Context, id string) error {
	gone := false
	err := s.space.View(ctx, func(r storage.Reader) error {
		at, err := read(r, id)
		gone = err == nil && at.state == spent
		if errors.Is(err, errNone) {
			return nil
		}
		return err
	})
	if err != nil || !gone {
		return err
	}
	return s.Revoke(ctx, id)
}

// Read returns a token as it stands in the store, valid or not; see [Store.Peek].
func (s *Store) Read(ctx context.Context, id string) (e *Entry, err error) {
	err = s.space.View(ctx, func(r storage.Reader) (err error) {
		e, err = read(r, id)
		return err
	})
	if errors.Is(err, errNone) {
		return nil, denied()
	}
	return e, err
}
