package bolt

import (
	"errors"
	"log/slog"
	"time"

	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/storage"
)

// stalls notes that somebody has waited in vain, and says so once for each time
// that the disk does not answer.
func (s *Store) stalls() {
	s.stats.stalls.Add(1)
	if !s.stalled.Swap(true) {
		s.config.Log.Error("the store's disk does not answer", slog.Duration("within", s.config.Patience))
	}
}

// refuses notes a batch that the disk did not take. It says so where the batch
// before was taken, so that a full disk does not fill the log.
func (s *Store) refuses(err error, transactions uint64) {
	s.stats.lost.Add(transactions)
	if s.trouble.Swap(&err) == nil {
		s.config.Log.Error("the store's disk takes no writes; they are refused until it does", slog.Uint64("lost", transactions), slog.Any("error", err))
	}
}

// Health returns what is the matter with the store: nil where nothing is, as
// far as its last transaction tells, or an error that wraps
// [storage.ErrPoisoned], [storage.ErrFull], [storage.ErrReadOnly] or
// [storage.ErrBusy].
func (s *Store) Health() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	if s.hangs() {
		return errBusy
	}
	if err := s.trouble.Load(); err != nil && (errors.Is(*err, storage.ErrFull) || errors.Is(*err, storage.ErrReadOnly)) {
		return *err
	}
	return nil
}

// hangs reports whether the disk has not taken a batch in Config.Patience.
func (s *Store) hangs() bool {
	s.mu.Lock()
	writing := s.writing
	s.mu.Unlock()
	return writing != nil && s.now().Sub(writing.begun) > s.config.Patience
}

// now is the machine's time, by which disks are waited for.
func (s *Store) now() time.Time { return clock.System{}.Now() }
