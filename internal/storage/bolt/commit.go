package bolt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/overlay"
)

const (
	// maxBatch is how many bytes the open batch may hold before the next
	// writer waits for it to be taken.
	maxBatch = 16 << 20

	// maxGather bounds how long the writer lets a batch fill, and minPause is
	// how long it waits at least for the next transaction.
	maxGather = 10 * time.Millisecond
	minPause  = 200 * time.Microsecond

	// defaultPatience is how long an Update waits for the disk.
	defaultPatience = 5 * time.Second
)

var (
	// errAgain says that the batch was lost that a function had read from.
	errAgain = errors.New("bolt: run again")

	errSlow = errors.New("bolt: the disk does not answer")
	errBusy = fmt.Errorf("%w: %w", storage.ErrBusy, errSlow)
)

// batch is the writes of transactions that are committed together.
type batch struct {
	writes overlay.Tree
	scopes map[string]bool
	bytes  uint64
	n      uint64        // transactions
	taken  chan struct{} // closed when the writer begins with it
	begun  time.Time     // when the disk was given it; zero before. Guarded by Store.mu

	done    chan struct{} // closed when the fields below are set
	err     error         // nil: all is durable
	unknown bool          // it may be kept for all that
}

func newBatch() *batch {
	return &batch{scopes: map[string]bool{}, taken: make(chan struct{}), done: make(chan struct{})}
}

// Update implements [storage.Store].
func (s *Store) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	if !s.gate.Enter() {
		return storage.ErrClosed
	}
	defer s.gate.Leave()
	for range storage.MaxConflicts + 1 {
		b, wrote, err := s.run(ctx, locks, fn)
		if b == nil {
			return err
		}
		if waitErr := s.wait(ctx, b, wrote); waitErr != nil {
			if errors.Is(waitErr, errAgain) {
				continue
			}
			return waitErr
		}
		return err
	}
	return storage.ErrConflict
}

// wait returns when b is durable, or with why it is not. What is with the
// writer cannot be taken back, so it waits on for one whose context has ended;
// but nobody waits for longer than Config.Patience.
func (s *Store) wait(ctx context.Context, b *batch, wrote bool) error {
	select {
	case <-b.done:
	default:
		enough := time.NewTimer(s.config.Patience)
		defer enough.Stop()
		select {
		case <-b.done:
		case <-enough.C:
			s.stalls()
			if !wrote {
				return errBusy
			}
			return fmt.Errorf("%w: %w", storage.ErrUnknown, errors.Join(errSlow, ctx.Err()))
		}
	}
	if b.err != nil && wrote && b.unknown {
		return fmt.Errorf("%w: %w", storage.ErrUnknown, b.err)
	}
	return b.err
}

// run runs fn in its turn. It returns the batch on which the outcome depends:
// nil if on none.
func (s *Store) run(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) (b *batch, wrote bool, err error) {
	if err := s.take(ctx); err != nil {
		return nil, false, err
	}
	defer func() { s.turn <- struct{}{} }()
	if err := s.room(ctx); err != nil {
		return nil, false, err
	}

	// The batches are looked at before the snapshot is taken: what becomes
	// durable in between is in both, and never in neither.
	s.mu.Lock()
	epoch, open, writing := s.epoch, s.open, s.writing
	s.mu.Unlock()
	sn, err := s.acquire()
	if err != nil {
		return nil, false, err
	}
	defer sn.release()
	var base overlay.Base = sn
	if writing != nil {
		base = overlay.Layer{Writes: writing.writes, Below: base}
	}
	// Only who has the turn writes to an open batch.
	base = overlay.Layer{Writes: open.writes, Below: base}
	alone := writing == nil && open.n == 0

	tx, err := overlay.Run(ctx, locks, s.config.Clock.Now, func() (overlay.Base, storage.Mark, error) {
		return base, sn.mark, nil
	}, fn)
	wrote = err == nil && tx.Writes().Len() > 0
	if alone && !wrote {
		return nil, false, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if failure := s.failure.Load(); failure != nil {
		return nil, false, *failure
	}
	if s.epoch != epoch {
		b = newBatch()
		b.err = errAgain
		close(b.done)
		return b, false, nil
	}
	b = s.open // the writer may have taken the one from before
	b.n++
	if wrote {
		for k, v := range tx.Writes().All() {
			b.writes = b.writes.With(k, v)
		}
		for _, scope := range tx.Scopes() {
			b.scopes[scope] = true
		}
		b.bytes += uint64(tx.Bytes()) //nolint:gosec // at most storage.MaxBytes
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return b, wrote, err
}

// take waits for the turn.
func (s *Store) take(ctx context.Context) error {
	select {
	case <-s.turn:
		return nil
	default:
	}
	enough := time.NewTimer(s.config.Patience)
	defer enough.Stop()
	select {
	case <-s.turn:
		return nil
	case <-enough.C:
		return errBusy
	case <-ctx.Done():
		return ctx.Err()
	}
}

// room waits until the open batch can be added to. Behind a batch that the disk
// has not taken in Config.Patience there is no room: who waited there would
// only be told that nobody knows.
func (s *Store) room(ctx context.Context) error {
	for {
		if err := s.failure.Load(); err != nil {
			return *err
		}
		s.mu.Lock()
		open := s.open
		full := open.bytes >= maxBatch
		s.mu.Unlock()
		if s.hangs() {
			return errBusy
		}
		if !full {
			return nil
		}
		if err := s.untilTaken(ctx, open); err != nil {
			return err
		}
	}
}

// untilTaken waits until the writer begins with b.
func (s *Store) untilTaken(ctx context.Context, b *batch) error {
	enough := time.NewTimer(s.config.Patience)
	defer enough.Stop()
	select {
	case <-b.taken:
		return nil
	case <-enough.C:
		return errBusy
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write writes batches until the store is closed. It is the one goroutine
// that writes to the file.
func (s *Store) write() {
	defer close(s.ended)
	var (
		last uint64        // transactions in the batch before, and that came while it was written
		took time.Duration // that it took
	)
	for {
		select {
		case <-s.wake:
		case <-s.closing: // nobody is inside any more, so nobody waits
			return
		}
		s.gather(last, took)
		s.mu.Lock()
		b := s.open
		if b.n == 0 {
			s.mu.Unlock()
			continue
		}
		s.open, s.writing = newBatch(), b
		s.mu.Unlock()
		close(b.taken)

		began := s.now()
		s.flush(b)
		took = s.now().Sub(began)
		if s.stalled.Swap(false) && s.failure.Load() == nil {
			s.config.Log.Warn("the store's disk answers again", slog.Duration("after", took))
		}
		s.mu.Lock()
		last = b.n + s.open.n
		s.mu.Unlock()
	}
}

// gather lets those come back who have just been told of the batch before, so
// that they and those who came meanwhile do not go by turns, half of them in
// each commit. It waits for most of them, as long as they keep coming, and not
// much longer than a commit takes.
func (s *Store) gather(last uint64, took time.Duration) {
	want := last - last/8
	if want <= 1 {
		return
	}
	pause := max(took/4, minPause)
	end := time.NewTimer(min(2*took, maxGather))
	defer end.Stop()
	lull := time.NewTimer(pause)
	defer lull.Stop()
	had, quiet := uint64(0), false
	for {
		s.mu.Lock()
		n := s.open.n
		s.mu.Unlock()
		if n >= want {
			return
		}
		switch {
		case n > had:
			had, quiet = n, false
			lull.Reset(pause)
		case quiet:
			return
		}
		select {
		case <-s.wake:
		case <-lull.C: // perhaps because the processor was busy: those who can run do so first
			quiet = true
			runtime.Gosched()
		case <-end.C:
			return
		}
	}
}

// flush makes b durable, shows it, and tells those who wait.
func (s *Store) flush(b *batch) {
	defer close(b.done)
	if err := s.failure.Load(); err != nil {
		b.err = *err
		return
	}
	if b.writes.Len() == 0 { // what they read from is durable
		s.mu.Lock()
		s.writing = nil
		s.mu.Unlock()
		return
	}
	mark, err := s.commit(b)
	var sn *snapshot
	if err == nil {
		sn, err = s.snapshot()
		if err == nil && sn.mark != mark {
			sn.release()
			err = fmt.Errorf("%w: at transaction %d, not %d", storage.ErrCorrupt, sn.mark, mark)
		}
		b.unknown = err != nil
	}
	if lost := (lostError{}); errors.As(err, &lost) {
		b.err = fmt.Errorf("keeping transaction: %w", err)
		s.mu.Lock()
		s.epoch++
		s.writing = nil
		next := s.open // has read from b
		s.open = newBatch()
		s.mu.Unlock()
		close(next.taken)
		next.err = errAgain
		close(next.done)
		s.refuses(err, b.n)
		return
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", storage.ErrPoisoned, err)
		b.err = err
		s.poison(err)
		return
	}
	if was := s.trouble.Load(); was != nil && !errors.Is(*was, storage.ErrCorrupt) && s.trouble.CompareAndSwap(was, nil) { // damage stays
		s.config.Log.Info("the store can be written again")
	}
	s.history.Append(mark, slices.Collect(maps.Keys(b.scopes)))
	s.mu.Lock()
	old := s.current.Load()
	if old != nil { // else it was poisoned meanwhile
		s.current.Store(sn)
	}
	s.writing = nil
	s.mu.Unlock()
	if old == nil {
		sn.release()
	} else {
		old.release()
	}
	s.stats.commits.Add(1)
	s.stats.updates.Add(b.n)
	s.stats.bytes.Add(b.bytes)
}

// poison makes everything fail with err from now on.
func (s *Store) poison(err error) {
	s.mu.Lock()
	s.failure.Store(&err)
	old := s.current.Swap(nil)
	s.mu.Unlock()
	if old != nil {
		old.release()
	}
	s.config.Log.Error("store is poisoned", slog.Any("error", err))
}

// lostError says that a batch could not be written, and that nothing has come
// of it: the store is what it was, and goes on.
type lostError struct{ error }

func (e lostError) Unwrap() error { return e.error }

// commit writes b to the file in one transaction of bbolt's. It sets
// b.unknown if it fails when the transaction may have been kept.
func (s *Store) commit(b *batch) (mark storage.Mark, err error) {
	s.writes.Lock()
	defer s.writes.Unlock()
	s.mu.Lock()
	b.begun = s.now()
	s.mu.Unlock()
	tx, err := s.begin()
	if err != nil {
		return 0, err
	}
	mark = markOf(tx)
	if err := apply(tx, b.writes); err != nil {
		// Nothing but this transaction's own nodes has been changed.
		if rollErr := s.rollback(tx); rollErr != nil {
			return 0, errors.Join(err, rollErr)
		}
		if why := refusal(err); why != nil {
			err = fmt.Errorf("%w: %w", why, err)
		}
		return 0, lostError{err}
	}
	if err := s.finish(tx); err != nil {
		rollErr := s.rollback(tx)
		sn, snErr := s.snapshot()
		if rollErr != nil || snErr != nil {
			b.unknown = true
			return 0, errors.Join(err, rollErr, snErr)
		}
		// At the mark, its meta page is written, and nobody knows whether durably.
		b.unknown = sn.mark == mark
		sn.release()
		if why := refusal(err); !b.unknown && why != nil {
			err = lostError{fmt.Errorf("%w: %w", why, err)}
		}
		return 0, err
	}
	return mark, nil
}

// begin begins a transaction that writes; writes is held until it has ended.
func (s *Store) begin() (tx *bbolt.Tx, err error) {
	if s.stuck.Load() {
		return nil, errStuck
	}
	defer guard(&err, debug.SetPanicOnFault(true))
	defer s.sticks()()
	tx, err = s.db.Begin(true)
	if err != nil {
		return nil, fmt.Errorf("beginning to write: %w", err)
	}
	return tx, nil
}

func apply(tx *bbolt.Tx, writes overlay.Tree) (err error) {
	defer guard(&err, debug.SetPanicOnFault(true))
	rows := tx.Bucket(rowsBucket)
	if rows == nil {
		return fmt.Errorf("%w: the rows are gone", storage.ErrCorrupt)
	}
	for k, v := range writes.All() {
		key := encodeKey(k)
		if v == nil {
			err = rows.Delete(key)
		} else {
			err = rows.Put(key, encodeValue(key, v))
		}
		if err != nil {
			return fmt.Errorf("writing a row: %w", err)
		}
	}
	return nil
}

func (s *Store) finish(tx *bbolt.Tx) (err error) {
	defer guard(&err, debug.SetPanicOnFault(true))
	return s.config.Commit(tx.Commit)
}

// rollback ends tx, unless bbolt has done so.
func (s *Store) rollback(tx *bbolt.Tx) (err error) {
	defer guard(&err, debug.SetPanicOnFault(true))
	defer s.sticks()()
	err = tx.Rollback()
	if errors.Is(err, berrors.ErrTxClosed) {
		return nil
	}
	return err
}

// refusal returns [storage.ErrFull] or [storage.ErrReadOnly] where err came
// from a write that the disk did not take, or from an attempt to lengthen the
// file. It is nil for a sync, after whose failure nobody knows what the disk
// holds, and for a write that the disk took and failed at: a disk that fails is
// not written to any more.
func refusal(err error) error {
	if errors.Is(err, berrors.ErrMaxSizeReached) {
		return storage.ErrFull
	}
	var perr *os.PathError
	// bbolt gives the text of this one only.
	resizing := strings.HasPrefix(err.Error(), "file resize error: ")
	if !resizing && (!errors.As(err, &perr) || perr.Op != "write") {
		return nil
	}
	switch {
	case errors.Is(err, syscall.EROFS), resizing && strings.HasSuffix(err.Error(), syscall.EROFS.Error()):
		return storage.ErrReadOnly
	case resizing, errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EFBIG), errors.Is(err, errQuota):
		return storage.ErrFull
	}
	return nil
}

// stats are what [Store.Stats] shows.
type stats struct{ commits, updates, bytes, lost, stalls atomic.Uint64 }

// Stats counts what a Store has done since it was opened.
type Stats struct {
	Commits uint64 // of batches
	Updates uint64 // that waited for them
	Bytes   uint64 // of keys and values in them
	Size    int64  // of the file
	Lost    uint64 // transactions that a disk that is full or read-only did not take
	Stalls  uint64 // transactions whose outcome was not waited for
}

// Stats returns counts for metrics.
func (s *Store) Stats() Stats {
	st := Stats{Commits: s.stats.commits.Load(), Updates: s.stats.updates.Load(), Bytes: s.stats.bytes.Load(), Lost: s.stats.lost.Load(), Stalls: s.stats.stalls.Load()}
	if info, err := os.Stat(s.path); err == nil {
		st.Size = info.Size()
	}
	return st
}
