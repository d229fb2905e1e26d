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

// refuses notes a batch that was not written, because the disk did not take it
// or the file is damaged there. Of each kind it says so where the batch before
// was written, so that a full disk does not fill the log.
func (s *Store) refuses(err error, transactions uint64) {
	kind := troubleOf(err)
	if kind == nil {
		s.config.Log.Error("transactions are lost, and nothing came of them", slog.Uint64("lost", transactions), slog.Any("error", err))
		return
	}
	damaged := errors.Is(kind, storage.ErrCorrupt)
	if !damaged {
		s.stats.lost.Add(transactions)
	}
	switch was := s.trouble.Swap(&err); {
	case was != nil && errors.Is(*was, kind):
	case damaged:
		s.config.Log.Error("what is damaged in the store takes no writes", slog.Uint64("lost", transactions), slog.Any("error", err))
	default:
		s.config.Log.Error("the store's disk takes no writes; they are refused until it does", slog.Uint64("lost", transactions), slog.Any("error", err))
	}
}

// troubleOf returns which trouble err is of: nil if of none.
func troubleOf(err error) error {
	for _, kind := range []error{storage.ErrFull, storage.ErrReadOnly, storage.ErrCorrupt} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return nil
}

// Health returns what is the matter with the store: nil where nothing is, as
// far as its last transaction tells, or an error that wraps
// [storage.ErrPoisoned], [storage.ErrFull], [storage.ErrReadOnly],
// [storage.ErrBusy] or [storage.ErrCorrupt].
func (s *Store) Health() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	if s.hangs() {
		return errBusy
	}
	if err := s.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// hangs reports whether the disk has not taken a batch in Config.Patience.
func (s *Store) hangs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writing != nil && !s.writing.begun.IsZero() && s.now().Sub(s.writing.begun) > s.config.Patience
}

// now is the machine's time, by which disks are waited for.
func (s *Store) now() time.Time { return clock.System{}.Now() }
