package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/storage"
)

// # Outbox
//
// The record of a write that touches nothing but the store is a row of the
// physical store until it is in the journal:
//
//	scope  0x02 "outbox" | journal id, 16
//	row    when it was made, Unix nanoseconds, 8 | random, 8     the record's id
//	value  format of what is sealed, 1: a record as canonical JSON
//	       sealed by AES-256-GCM under HMAC-SHA256(audit key, "rotunda audit outbox", journal id, row), bound to journal id and row
//
// Rows are inserted by the transactions that they record, which only join the
// scope. They are moved in the order in which those ended, and deleted many at
// a time after their records are durable. Rows that a crash left behind are
// moved when the journal is unlocked, unless their records are there already.
const (
	outboxTable = "\x02outbox"
	maxOutbox   = 8192                   // rows that are not moved; beyond, writes are refused
	moveAfter   = 10 * time.Millisecond  // after the first of them has ended
	dropAfter   = 100 * time.Millisecond // after the first of them is durable
	dropAtOnce  = storage.MaxWrites - 1  // the anchor is written with them
	sweepAfter  = time.Minute            // rows of transactions whose end nobody heard of
	sweepOlder  = 30 * time.Second       // than any transaction lives
)

type outbox struct {
	j *Journal

	mu      sync.Mutex
	scope   string
	store   storage.Store
	keys    *keys
	waiting int                 // entries that are not durable in the journal
	known   map[string]struct{} // rows that are moved or being moved, and not deleted
	done    []string            // rows whose records are durable, to delete
	stopped bool

	wake   chan struct{} // something waits to be moved, or to be deleted
	urgent chan chan struct{}
	end    context.CancelFunc
	ended  chan struct{}
}

// Rider returns a rider that keeps the record that record returns with the
// transaction that carries it, and brings it into the journal afterwards. Its
// Write fails with a fault of kind Unavailable where the journal cannot take it.
func (j *Journal) Rider(record func() (*Record, error)) *storage.Rider {
	k := j.keys.Load()
	if k == nil {
		return &storage.Rider{Write: func(storage.Tx) error { return unavailable(ErrLocked) }, Done: func() {}}
	}
	o := j.outbox
	scope := outboxTable + string(j.main.journal[:])
	e := &entry{}
	return &storage.Rider{
		Locks: storage.Locks{Join: []string{scope}},
		Write: func(tx storage.Tx) error {
			r, err := record()
			if err != nil {
				return err
			}
			if err := o.accepts(r.Critical); err != nil {
				return unavailable(err)
			}
			e.row, r.ID = j.nextRow()
			e.json = appendRecord(e.json[:0], r, false)
			e.kind, e.request, e.critical = r.Kind, r.RequestID, r.Critical
			sealed, err := k.sealRow(j.main.journal, e.row, e.json)
			if err != nil {
				return unavailable(err)
			}
			tx.Insert(storage.Key{Scope: scope, Row: e.row}, sealed)
			return nil
		},
		Done: func() { o.deliver(e) },
	}
}

// accepts says why another row cannot be taken.
func (o *outbox) accepts(critical bool) error {
	o.mu.Lock()
	waiting, stopped := o.waiting, o.stopped
	o.mu.Unlock()
	if stopped {
		return ErrLocked
	}
	if waiting >= maxOutbox {
		return errBusy
	}
	t := o.j.main
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refuses(critical)
}

// deliver puts the entry of a transaction that has ended into the queue.
func (o *outbox) deliver(e *entry) {
	o.mu.Lock()
	if _, moved := o.known[e.row]; moved || o.stopped {
		o.mu.Unlock() // by a sweep; or the next Unlock moves it
		return
	}
	o.known[e.row] = struct{}{}
	o.waiting++
	t := o.j.main
	t.mu.Lock() // in o.mu, so that the order of the queue is that of delivery
	t.queue = append(t.queue, e)
	t.mu.Unlock()
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// settled notes the rows whose records are durable with b.
func (o *outbox) settled(b *batch) {
	var rows []string
	for _, s := range b.slots {
		if s.waiting != nil {
			rows = append(rows, s.waiting.row)
		}
	}
	if len(rows) == 0 {
		return
	}
	o.mu.Lock()
	o.done = append(o.done, rows...)
	o.waiting -= len(rows)
	o.mu.Unlock()
	o.signal()
}

// start moves what a life before left in the store, and begins to move what comes.
func (o *outbox) start(ctx context.Context, k *keys, store storage.Store) error {
	o.mu.Lock()
	o.scope = outboxTable + string(o.j.main.journal[:])
	o.store, o.keys, o.known, o.done, o.waiting, o.stopped = store, k, map[string]struct{}{}, nil, 0, false
	o.mu.Unlock()
	if err := o.sweep(ctx, time.Time{}); err != nil {
		return err
	}
	b, err := o.j.main.flush()
	if err == nil && b != nil {
		err = b.wait(ctx)
	}
	if err != nil {
		return err
	}
	if err := o.drop(ctx, true); err != nil {
		return err
	}
	life, end := context.WithCancel(o.j.ctx)
	o.end, o.ended = end, make(chan struct{})
	go o.run(life)
	return nil
}

// stop moves what waits, deletes what was moved, and ends.
func (o *outbox) stop(ctx context.Context) error {
	o.mu.Lock()
	o.stopped = true
	o.mu.Unlock()
	if o.end == nil {
		return nil
	}
	o.end()
	<-o.ended
	o.end = nil
	b, err := o.j.main.flush()
	if err == nil && b != nil {
		err = b.wait(ctx)
	}
	if err == nil {
		err = o.drop(ctx, true)
	}
	t := o.j.main
	t.mu.Lock()
	t.queue = nil // the rows are still there
	t.mu.Unlock()
	return err
}

// run moves and deletes rows until ctx ends.
func (o *outbox) run(ctx context.Context) {
	defer close(o.ended)
	move, drop, sweep := stoppedTimer(), stoppedTimer(), time.NewTimer(sweepAfter)
	defer sweep.Stop()
	moving, dropping := false, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
			o.mu.Lock()
			waiting, done := o.waiting, len(o.done)
			o.mu.Unlock()
			if waiting > 0 && !moving {
				moving = true
				move.Reset(moveAfter)
			}
			switch {
			case done >= dropAtOnce:
				o.j.complain("deleting rows of the audit outbox", o.drop(ctx, false))
			case done > 0 && !dropping:
				dropping = true
				drop.Reset(dropAfter)
			}
		case <-move.C:
			moving = false
			if _, err := o.j.main.flush(); err != nil {
				moving = true
				move.Reset(dropAfter)
			}
		case <-drop.C:
			dropping = false
			o.j.complain("deleting rows of the audit outbox", o.drop(ctx, true))
		case <-sweep.C:
			o.j.complain("looking for forgotten rows of the audit outbox", o.sweep(ctx, o.j.c.Clock.Now().Add(-sweepOlder)))
			sweep.Reset(sweepAfter)
			o.signal()
		}
	}
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// drop deletes rows whose records are durable: all of them, or only as many as
// fill a transaction.
func (o *outbox) drop(ctx context.Context, all bool) error {
	for {
		o.mu.Lock()
		rows := o.done[:min(len(o.done), dropAtOnce)]
		o.mu.Unlock()
		if len(rows) == 0 || !all && len(rows) < dropAtOnce {
			return nil
		}
		var anchor Anchor
		err := o.store.Update(ctx, storage.Locks{Own: []string{o.scope, anchorScope}}, func(tx storage.Tx) (err error) {
			for _, row := range rows {
				tx.Delete(storage.Key{Scope: o.scope, Row: row})
			}
			anchor, err = o.j.anchor.put(tx, o.keys, 0)
			return err
		})
		if err != nil {
			return fmt.Errorf("deleting %d rows: %w", len(rows), err)
		}
		o.j.anchor.kept(anchor)
		o.mu.Lock()
		for _, row := range rows {
			delete(o.known, row)
		}
		o.done = o.done[len(rows):]
		o.mu.Unlock()
	}
}

// sweep puts rows that nobody delivered into the queue: all of them, or those
// made before a time.
func (o *outbox) sweep(ctx context.Context, before time.Time) error {
	end := ""
	if !before.IsZero() {
		end, _ = newID(before)
	}
	var items []storage.Item
	for after, more := "", true; more; {
		err := o.store.View(ctx, func(r storage.Reader) (err error) {
			var page []storage.Item
			page, more, err = r.Scan(o.scope, after, end, 256)
			for _, it := range page {
				after = it.Row
			}
			items = append(items, page...)
			return err
		})
		if err != nil {
			return fmt.Errorf("scanning the outbox: %w", err)
		}
	}
	o.mu.Lock()
	left := items[:0]
	for _, it := range items {
		if _, known := o.known[it.Row]; !known {
			left = append(left, it)
		}
	}
	o.mu.Unlock()
	if len(left) == 0 {
		return nil
	}
	there, err := o.inJournal(ctx, left)
	if err != nil {
		return err
	}
	for _, it := range left {
		if there[it.Row] {
			o.mu.Lock()
			o.known[it.Row] = struct{}{}
			o.done = append(o.done, it.Row)
			o.mu.Unlock()
			continue
		}
		e, err := o.entry(it)
		if err != nil {
			return err
		}
		o.deliver(e)
	}
	return nil
}

func (o *outbox) entry(it storage.Item) (*entry, error) {
	plain, err := o.keys.openRow(o.j.main.journal, it.Row, it.Value)
	if err != nil {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal(plain, &r); err != nil {
		return nil, fmt.Errorf("decoding a row of the outbox: %w: %w", ErrCorrupt, err)
	}
	return &entry{json: plain, kind: r.Kind, request: r.RequestID, row: it.Row}, nil
}

// inJournal says which of items, which are in order, have their records in the
// journal already. It looks at the records made since a little before the first.
func (o *outbox) inJournal(ctx context.Context, items []storage.Item) (map[string]bool, error) {
	wanted := make(map[string]string, len(items))
	for _, it := range items {
		wanted[hex.EncodeToString([]byte(it.Row))] = it.Row
	}
	oldest := hex.EncodeToString([]byte(items[0].Row))
	there := map[string]bool{}
	errEnough := errors.New("enough")
	older := 0
	err := o.j.reader(o.keys).backward(ctx, func(r *Record) error {
		if row, ok := wanted[r.ID]; ok {
			there[row] = true
			if len(there) == len(wanted) {
				return errEnough
			}
		}
		// Records are in the order of time but for those that waited: what was
		// made long before the first row was durable before it was made.
		if r.ID < oldest {
			older++
		}
		if older > 4*maxOutbox {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) && !fault.Is(err, fault.NotFound) {
		return nil, fmt.Errorf("looking for rows of the outbox in the journal: %w", err)
	}
	return there, nil
}
