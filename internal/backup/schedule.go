package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/durable"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
)

// Schedule says when backups are written without being asked, and where.
type Schedule struct {
	Dir     string                          // empty for nowhere
	Next    func(after time.Time) time.Time // when the backup after one of a time is due
	Keep    int                             // newest ones that are kept, however old; 1 at least
	KeepFor time.Duration                   // of the others, those that are younger are kept; 0 for none
}

// Status is how scheduled backups stand.
type Status struct {
	Scheduled bool
	Last      time.Time // of the newest that was written and verified; zero for none
	Bytes     int64     // of its file
	Due       time.Time // when the next one is, or was; zero where the store does nothing by itself
	Failures  uint64    // since the process was started
	Failure   string    // why the last attempt failed; empty where it did not
}

// Grace is how long after it is due a backup is not called overdue.
const Grace = 30 * time.Minute

// Overdue reports whether a backup should be there that is not.
func (s Status) Overdue(now time.Time) bool {
	return s.Scheduled && !s.Due.IsZero() && now.After(s.Due.Add(Grace))
}

// Book holds how scheduled backups stand, for longer than a session. Its zero
// value is ready.
type Book struct {
	mu     sync.Mutex // guards status
	status Status
}

// Status returns how scheduled backups stand.
func (b *Book) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}

func (b *Book) change(fn func(*Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn(&b.status)
}

// Keeper writes scheduled backups while a store is unsealed.
type Keeper struct {
	Schedule Schedule
	Barrier  *barrier.Barrier
	Name     string // of the cluster
	Clock    clock.Clock
	Log      *slog.Logger
	Book     *Book
	// Record is told of every backup that was written, and of every failure, for
	// the audit journal.
	Record func(ctx context.Context, event, outcome, note string) error
}

// The events of scheduled backups.
const (
	eventWritten = "backup-written"
	eventFailed  = "backup-failed"
)

// retry is how long a Keeper waits after a failure.
const retry = 5 * time.Minute

// Files are named after the store and the time, in UTC, which orders them. One
// that is being written has a name with a dot before it.
const (
	namePrefix = "rotunda-"
	nameTime   = "20060102T150405.000Z"
	nameSuffix = ".backup"
	partSuffix = ".part"
)

// prefix is how the names of this store's backups begin: other stores may have
// theirs in the same directory.
func (k *Keeper) prefix() string { return namePrefix + k.Barrier.ClusterID()[:8] + "-" }

func (k *Keeper) nameOf(at time.Time) string {
	return k.prefix() + at.UTC().Format(nameTime) + nameSuffix
}

// timeOf is the inverse of nameOf.
func (k *Keeper) timeOf(name string) (time.Time, bool) {
	text, ok := strings.CutPrefix(name, k.prefix())
	if !ok {
		return time.Time{}, false
	}
	text, ok = strings.CutSuffix(text, nameSuffix)
	at, err := time.Parse(nameTime, text)
	return at, ok && err == nil
}

// Run writes backups as they are due, until ctx ends: of those that were missed
// while the store was not open, one. What fails is tried again.
func (k *Keeper) Run(ctx context.Context) error {
	k.look(ctx)
	for {
		due := k.due()
		k.Book.change(func(s *Status) { s.Due = due })
		if err := k.Clock.Wait(ctx, due); err != nil {
			return nil //nolint:nilerr // the node is being sealed
		}
		if err := k.Make(ctx); err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // the node is being sealed
			}
			k.Log.LogAttrs(ctx, slog.LevelError, "writing a scheduled backup; it is tried again in five minutes", slog.Any("cause", err))
			if err := k.Clock.Wait(ctx, k.Clock.Now().Add(retry)); err != nil {
				return nil //nolint:nilerr // the node is being sealed
			}
		}
	}
}

// look finds out how scheduled backups stand, and removes what a crash has left
// half written.
func (k *Keeper) look(ctx context.Context) {
	err := k.sweep()
	all, listed := k.all()
	if err = errors.Join(err, listed); err != nil {
		k.Log.LogAttrs(ctx, slog.LevelWarn, "looking for scheduled backups", slog.Any("cause", err))
	}
	if len(all) == 0 {
		return
	}
	name := all[len(all)-1]
	at, _ := k.timeOf(name)
	size := int64(0)
	if info, err := os.Stat(filepath.Join(k.Schedule.Dir, name)); err == nil {
		size = info.Size()
	}
	k.Book.change(func(s *Status) { s.Last, s.Bytes = at, size })
}

// due returns when the next backup is due: at once where there is none, or one
// of a time that has not come yet.
func (k *Keeper) due() time.Time {
	now := k.Clock.Now()
	last := k.Book.Status().Last
	if last.IsZero() || last.After(now) {
		return now
	}
	return k.Schedule.Next(last)
}

// all returns the names of the backups in the directory, the oldest first.
func (k *Keeper) all() (names []string, err error) {
	entries, err := os.ReadDir(k.Schedule.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for backups: %w", err)
	}
	for _, e := range entries {
		if _, ok := k.timeOf(e.Name()); ok && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Make writes a backup, reads all of it again, opens every row, and only then
// gives the file its name and removes what is older than is kept.
func (k *Keeper) Make(ctx context.Context) error {
	made, size, err := k.make(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		k.Book.change(func(s *Status) {
			s.Failures++
			s.Failure = "it is tried again every five minutes; the server's log says why"
		})
		return errors.Join(err, k.Record(ctx, eventFailed, fault.Unavailable.String(), "A scheduled backup could not be written, or was not whole when it was read again."))
	}
	k.Book.change(func(s *Status) { s.Last, s.Bytes, s.Failure = made.Made, size, "" })
	k.Log.LogAttrs(ctx, slog.LevelInfo, "a scheduled backup was written and verified", slog.Uint64("rows", made.Rows), slog.Int64("bytes", size))
	note := fmt.Sprintf("A scheduled backup of %d rows was written, read again and found whole.", made.Rows)
	if err := k.prune(made.Made); err != nil { // the backup is good all the same
		k.Log.LogAttrs(ctx, slog.LevelError, "removing old backups", slog.Any("cause", err))
		k.Book.change(func(s *Status) {
			s.Failures++
			s.Failure = "the last backup is good, and older ones could not be removed; the server's log says why"
		})
	}
	if err := k.Record(ctx, eventWritten, audit.OutcomeOK, note); err != nil {
		k.Log.LogAttrs(ctx, slog.LevelError, "recording a scheduled backup", slog.Any("cause", err))
	}
	return nil
}

func (k *Keeper) make(ctx context.Context) (made Report, size int64, err error) {
	dir := k.Schedule.Dir
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return made, 0, fmt.Errorf("making the directory of backups: %w", err)
	}
	if err := k.sweep(); err != nil {
		return made, 0, err
	}
	f, err := os.CreateTemp(dir, "."+k.prefix()+"*"+partSuffix) // for its owner only
	if err != nil {
		return made, 0, fmt.Errorf("making a backup's file: %w", err)
	}
	defer func() {
		_ = f.Close() // closed before where it counts
		if err != nil {
			_ = os.Remove(f.Name()) // of no use
		}
	}()
	if made, err = Write(ctx, k.Barrier, k.Name, f); err != nil {
		return made, 0, err
	}
	if err := f.Sync(); err != nil {
		return made, 0, fmt.Errorf("writing a backup: %w", err)
	}
	if size, err = f.Seek(0, io.SeekEnd); err != nil {
		return made, 0, fmt.Errorf("reading a backup again: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return made, 0, fmt.Errorf("reading a backup again: %w", err)
	}
	o, err := Open(ctx, f, func(context.Context, []seal.Stanza, []byte) (secret.Bytes, error) { return k.Barrier.Root() })
	if err != nil {
		return made, 0, fmt.Errorf("reading a backup again: %w", err)
	}
	defer o.Close()
	read, err := o.Check(ctx)
	if err != nil {
		return made, 0, fmt.Errorf("reading a backup again: %w", err)
	}
	if read.Rows != made.Rows {
		return made, 0, fmt.Errorf("reading a backup again: %w: %d rows of %d", ErrDamaged, read.Rows, made.Rows)
	}
	if err := f.Close(); err != nil {
		return made, 0, fmt.Errorf("writing a backup: %w", err)
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, k.nameOf(made.Made))); err != nil {
		return made, 0, fmt.Errorf("naming a backup: %w", err)
	}
	if err := durable.SyncDir(dir); err != nil {
		return made, 0, fmt.Errorf("naming a backup: %w", err)
	}
	return made, size, nil
}

// sweep removes what a crash has left half written.
func (k *Keeper) sweep() error {
	entries, err := os.ReadDir(k.Schedule.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for unfinished backups: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "."+k.prefix()) || !strings.HasSuffix(e.Name(), partSuffix) {
			continue
		}
		if err := os.Remove(filepath.Join(k.Schedule.Dir, e.Name())); err != nil {
			return fmt.Errorf("removing an unfinished backup: %w", err)
		}
	}
	return nil
}

// prune removes the backups that are older than is kept. One that was made by a
// clock that was ahead stays.
func (k *Keeper) prune(now time.Time) error {
	all, err := k.all()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(name string) bool { // they are no reason to remove this one
		at, _ := k.timeOf(name)
		return at.After(now)
	})
	for len(all) > max(k.Schedule.Keep, 1) {
		at, _ := k.timeOf(all[0])
		if k.Schedule.KeepFor > 0 && at.After(now.Add(-k.Schedule.KeepFor)) {
			return nil // nor are the others older
		}
		if err := os.Remove(filepath.Join(k.Schedule.Dir, all[0])); err != nil {
			return fmt.Errorf("removing an old backup: %w", err)
		}
		all = all[1:]
	}
	return nil
}
