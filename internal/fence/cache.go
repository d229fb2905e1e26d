package fence

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rotunda.dev/rotunda/internal/storage"
)

// shards is into how many parts a Cache is cut, so that those who read it
// seldom meet at one lock.
const shards = 16

// Cache keeps values that were built from the store, until that changes. It
// is safe for concurrent use; so must its values be. Make it with [NewCache].
type Cache[K comparable, V any] struct {
	fence  *Fence
	seed   maphash.Seed
	max    int // entries in a shard
	shards [shards]shard[K, V]
}

type shard[K comparable, V any] struct {
	mu sync.RWMutex // its writers hold the fence's lock as well
	m  map[K]*cached[K, V]
	_  [64]byte // shards share no cache line
}

// cached is a value and what it was built from.
type cached[K comparable, V any] struct {
	cache *Cache[K, V]
	key   K
	value V
	from  []string
	at    storage.Mark
	used  atomic.Bool // since the last look for one to leave
}

func (e *cached[K, V]) scopes() []string   { return e.from }
func (e *cached[K, V]) mark() storage.Mark { return e.at }

func (e *cached[K, V]) remove() {
	s := e.cache.shard(e.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[e.key] == e {
		delete(s.m, e.key)
	}
}

// NewCache returns a Cache behind f of up to about max values.
func NewCache[K comparable, V any](f *Fence, max int) *Cache[K, V] {
	c := &Cache[K, V]{fence: f, seed: maphash.MakeSeed(), max: (max + shards - 1) / shards}
	for i := range c.shards {
		c.shards[i].m = map[K]*cached[K, V]{}
	}
	return c
}

func (c *Cache[K, V]) shard(k K) *shard[K, V] {
	return &c.shards[maphash.Comparable(c.seed, k)%shards]
}

// Get returns the value for k: the one in the cache, or what build makes of a
// View of the physical store. build's Reader notes which scopes it touches;
// the result must follow from what it reads through it, and from k, alone,
// and is shared by all who ask. An error is returned and not kept.
//
// m is the caller's own Moment, from before whatever it is to answer for.
func (c *Cache[K, V]) Get(ctx context.Context, m Moment, k K, build func(storage.Reader) (V, error)) (V, error) {
	if v, ok := c.Hit(m, k); ok {
		return v, nil
	}
	return c.fill(ctx, m, k, build)
}

// Hit returns the value for k if it is in the cache: for callers that make no
// build where none is needed. It is good for all who come at m, a Moment that
// [Fence.Arrive] has returned.
func (c *Cache[K, V]) Hit(_ Moment, k K) (v V, ok bool) {
	s := c.shard(k)
	s.mu.RLock()
	e := s.m[k]
	s.mu.RUnlock()
	if e == nil {
		return v, false
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	return e.value, true
}

func (c *Cache[K, V]) fill(ctx context.Context, m Moment, k K, build func(storage.Reader) (V, error)) (V, error) {
	e := &cached[K, V]{cache: c, key: k}
	if err := c.fence.store.View(ctx, func(r storage.Reader) (err error) {
		if e.at = r.Mark(); e.at < m.Mark {
			return fmt.Errorf("fence: internal error: snapshot of %d for a request of %d", e.at, m.Mark)
		}
		rec := &recorder{Reader: r}
		e.value, err = build(rec)
		e.from = rec.scopes
		return err
	}); err != nil {
		var none V
		return none, err
	}
	c.fence.admit(e, func() { c.place(e) })
	return e.value, nil
}

// place puts e in its shard and lets others leave. The fence's lock is held.
func (c *Cache[K, V]) place(e *cached[K, V]) {
	s := c.shard(e.key)
	s.mu.Lock()
	old := s.m[e.key]
	if old == nil && len(s.m) >= c.max {
		old = s.victim()
	}
	s.mu.Unlock()
	if old != nil {
		c.fence.forget(old)
	}
	s.mu.Lock()
	s.m[e.key] = e
	s.mu.Unlock()
}

// victim returns an entry that has not been used lately, of a few that chance
// has picked; s.mu is held.
func (s *shard[K, V]) victim() (v *cached[K, V]) {
	const looks = 8
	n := 0
	for _, v = range s.m {
		if n++; !v.used.Swap(false) || n == looks {
			break
		}
	}
	return v
}

// recorder is a Reader that notes which scopes are touched.
type recorder struct {
	storage.Reader
	scopes []string // each once
}

func (r *recorder) note(scope string) {
	if !slices.Contains(r.scopes, scope) {
		r.scopes = append(r.scopes, scope)
	}
}

// Get implements [storage.Reader].
func (r *recorder) Get(k storage.Key) ([]byte, error) {
	r.note(k.Scope)
	return r.Reader.Get(k)
}

// GetMany implements [storage.Reader].
func (r *recorder) GetMany(ks []storage.Key) ([][]byte, error) {
	for _, k := range ks {
		r.note(k.Scope)
	}
	return r.Reader.GetMany(ks)
}

// Scan implements [storage.Reader].
func (r *recorder) Scan(scope, after, end string, limit int) ([]storage.Item, bool, error) {
	r.note(scope)
	return r.Reader.Scan(scope, after, end, limit)
}

// Now implements [storage.Reader]. What is built must not depend on it, as it
// passes without a change that would be told.
func (r *recorder) Now() time.Time { return r.Reader.Now() }
