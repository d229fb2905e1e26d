// Package due remembers what is to be done at a time, in the store, and does
// it: once a thing was added it is done at least once at or after its time,
// also if the process dies in between.
//
// A queue is rows in shards. Every node of a cluster may run one; a shard is
// worked on by the node that has claimed it, and a node that lost its claim
// cannot take a row away any more.
package due

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/storage"
)

const (
	shards = 16
	page   = 32 // rows taken away by one transaction
)

// Config is how a queue works. Its zero value is good.
type Config struct {
	Every time.Duration // between passes; 0 is 1 s
	Batch int           // things done by one pass at most; 0 is 256. Batch and Every are the rate
	Lease time.Duration // of a claim; 0 is 30 s
	Retry time.Duration // until what failed is tried again; 0 is 1 min
	Log   *slog.Logger  // nil for none
}

// Handle does what is due: the thing that was added under id. It may be called
// again for what it did already. It returns when it wants to be called again
// for id; the zero Time says never.
type Handle func(ctx context.Context, id string) (again time.Time, err error)

// Queue is a queue of ids in a store, whose scopes begin with the table byte
// that [New] was given:
//
//	table | shard                row be64(nanoseconds since 1970) | random 8 | id   value empty
//	table | "claim" | shard      row "c"                                 value be64(number) | be64(until) | holder
type Queue struct {
	store  storage.Store
	clock  clock.Clock
	table  string
	holder string
	config Config
	wake   chan struct{}
	passes atomic.Uint32 // each begins at another shard, so that none starves
}

// New returns the queue in store whose scopes begin with table.
func New(store storage.Store, c clock.Clock, table byte, config Config) *Queue {
	if config.Every <= 0 {
		config.Every = time.Second
	}
	if config.Batch <= 0 {
		config.Batch = 256
	}
	if config.Lease <= 0 {
		config.Lease = 30 * time.Second
	}
	if config.Retry <= 0 {
		config.Retry = time.Minute
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	var id [8]byte
	rand.Read(id[:])
	return &Queue{
		store: store, clock: c, table: string(table), holder: hex.EncodeToString(id[:]),
		config: config, wake: make(chan struct{}, 1),
	}
}

// Scope returns the scope that [Queue.Add] of id writes to; to be joined.
func (q *Queue) Scope(id string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return q.scope(byte(h.Sum32() % shards))
}

func (q *Queue) scope(shard byte) string { return q.table + string(rune(shard)) }
func (q *Queue) claim(shard byte) string { return q.table + "claim" + string(rune(shard)) }

// Add puts id into the queue at a time, in a transaction of the queue's store
// that joins [Queue.Scope]. The id is kept as it is, so it must be random or a
// keyed hash. Adding it twice is not an error.
func (q *Queue) Add(tx storage.Tx, at time.Time, id string) {
	tx.Insert(storage.Key{Scope: q.Scope(id), Row: row(at, id)}, []byte{})
}

// unique is how many random bytes keep two additions of an id at one time apart.
const unique = 8

const head = 8 + unique

func row(at time.Time, id string) string {
	b := make([]byte, head, head+len(id))
	binary.BigEndian.PutUint64(b, nanos(at))
	rand.Read(b[8:])
	return string(append(b, id...))
}

// before returns the row before which everything is that is due at t.
func before(t time.Time) string {
	return string(binary.BigEndian.AppendUint64(nil, nanos(t)+1))
}

func nanos(t time.Time) uint64 {
	if t.Unix() <= 0 {
		return 0
	}
	return uint64(t.UnixNano())
}

// Wake makes [Queue.Run] look at once.
func (q *Queue) Wake() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Run calls handle for what is due until ctx ends, and returns its error.
func (q *Queue) Run(ctx context.Context, handle Handle) error {
	for {
		if _, err := q.Sweep(ctx, handle); err != nil && ctx.Err() == nil {
			q.config.Log.LogAttrs(ctx, slog.LevelError, "sweeping a queue", slog.Any("cause", err))
		}
		if err := q.pause(ctx); err != nil {
			return err
		}
	}
}

// pause waits for the next pass or for a Wake.
func (q *Queue) pause(ctx context.Context) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = q.clock.Wait(waiting, q.clock.Now().Add(q.config.Every))
	}()
	select {
	case <-q.wake:
		cancel()
		<-done
	case <-done:
	}
	return ctx.Err()
}

// Sweep is one pass over the queue. It returns how many things it did.
func (q *Queue) Sweep(ctx context.Context, handle Handle) (int, error) {
	n := 0
	var failed error
	first := q.passes.Add(1)
	for i := range uint32(shards) {
		did, err := q.sweep(ctx, byte((first+i)%shards), q.config.Batch-n, handle)
		n += did
		if err != nil {
			failed = errors.Join(failed, err)
		}
		if n >= q.config.Batch || ctx.Err() != nil {
			break
		}
	}
	return n, failed
}

func (q *Queue) sweep(ctx context.Context, shard byte, limit int, handle Handle) (n int, err error) {
	var number uint64
	for n < limit {
		now := q.clock.Now()
		var items []storage.Item
		err := q.store.View(ctx, func(r storage.Reader) (err error) {
			items, _, err = r.Scan(q.scope(shard), "", before(now), min(page, limit-n))
			return err
		})
		if err != nil {
			return n, fmt.Errorf("reading what is due: %w", err)
		}
		if len(items) == 0 {
			return n, nil
		}
		var mine bool
		if number, mine, err = q.take(ctx, shard, number, now); err != nil || !mine {
			return n, err
		}
		again := make([]time.Time, len(items))
		for i, item := range items {
			at, err := handle(ctx, item.Row[head:])
			if err != nil {
				if ctx.Err() != nil {
					return n, ctx.Err()
				}
				q.config.Log.LogAttrs(ctx, slog.LevelWarn, "doing what is due; it is tried again", slog.Any("cause", err))
				at = q.clock.Now().Add(q.config.Retry)
			}
			again[i] = at
		}
		if err := q.finish(ctx, shard, number, items, again); err != nil {
			return n, err
		}
		n += len(items)
	}
	return n, nil
}

// errLost says that another node has claimed the shard.
var errLost = errors.New("due: the claim was lost")

// take claims a shard, or prolongs the claim with the number had. It reports
// whether the shard is ours.
func (q *Queue) take(ctx context.Context, shard byte, had uint64, now time.Time) (number uint64, mine bool, err error) {
	key := storage.Key{Scope: q.claim(shard), Row: "c"}
	err = q.store.Update(ctx, storage.Locks{Own: []string{key.Scope}}, func(tx storage.Tx) error {
		c, err := readClaim(tx, key)
		if err != nil {
			return err
		}
		number, mine = c.number, c.holder == q.holder
		if mine && c.until.Sub(now) > q.config.Lease/2 {
			return nil
		}
		if !mine && c.until.After(now) {
			return nil
		}
		if !mine || had == 0 {
			number++
		}
		mine = true
		b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, number), nanos(now.Add(q.config.Lease)))
		tx.Put(key, append(b, q.holder...))
		return nil
	})
	if err != nil {
		return 0, false, fmt.Errorf("claiming a shard: %w", err)
	}
	return number, mine, nil
}

type claim struct {
	number uint64
	until  time.Time
	holder string
}

func readClaim(r storage.Reader, key storage.Key) (claim, error) {
	b, err := r.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return claim{}, nil
	}
	if err != nil {
		return claim{}, err
	}
	if len(b) < 16 {
		return claim{}, fmt.Errorf("reading a claim: %w", storage.ErrCorrupt)
	}
	until := binary.BigEndian.Uint64(b[8:])
	return claim{binary.BigEndian.Uint64(b), time.Unix(0, int64(min(until, 1<<63-1))), strings.Clone(string(b[16:]))}, nil
}

// finish takes rows away and puts in those for next time, if the claim is still ours.
func (q *Queue) finish(ctx context.Context, shard byte, number uint64, items []storage.Item, again []time.Time) error {
	scope, key := q.scope(shard), storage.Key{Scope: q.claim(shard), Row: "c"}
	err := q.store.Update(ctx, storage.Locks{Own: []string{scope}, Join: []string{key.Scope}}, func(tx storage.Tx) error {
		c, err := readClaim(tx, key)
		if err != nil {
			return err
		}
		if c.number != number || c.holder != q.holder {
			return errLost
		}
		for _, item := range items {
			tx.Delete(storage.Key{Scope: scope, Row: item.Row})
		}
		for i, item := range items {
			if !again[i].IsZero() {
				q.Add(tx, again[i], item.Row[head:])
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errLost) {
		return fmt.Errorf("finishing what was due: %w", err)
	}
	return nil
}
