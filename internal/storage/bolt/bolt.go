// Package bolt is the embedded [storage.Store]: one file, written by bbolt,
// with one commit for many transactions.
//
// # Group commit
//
// An Update runs its function at once, on its caller's goroutine, when its
// turn comes: over what is durable, the batch that is being written, and the
// batch that is open, in this order. Then its writes join the open batch, and
// it waits. One goroutine writes batches: while one is on its way to the
// disk, the next fills. So a single writer waits for one commit, and sixty-four
// share one. Nobody is told anything, not even of an error, before all that
// it could have learned from is durable.
//
// A batch that could not be made durable poisons the store: what the disk
// holds is found out by opening it anew. A disk that is full or read-only does
// not, where bbolt has found it before it wrote anything that counts: those
// transactions are lost, and the next one tries the disk again. A disk that does
// not answer is waited for no longer than Config.Patience.
package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/durable"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/overlay"
)

// FileName is the store's file in its directory.
const FileName = "store.db"

// Schema is the version of what this package writes. A store of a later
// version is refused; of an earlier one, there is none.
const Schema = 1

// lockWait is how long Open waits for another process to let go of the file.
const lockWait = 100 * time.Millisecond

// defaultSound is up to which size Open reads a whole file before it answers;
// a larger one is read afterwards.
const defaultSound int64 = 128 << 20

var (
	rowsBucket = []byte("rows")
	metaBucket = []byte("meta")
	schemaKey  = []byte("schema")
)

// Config says how a Store behaves. Its zero value is right for most.
type Config struct {
	Clock   clock.Clock   // the machine's if nil
	Log     *slog.Logger  // told what poisons the store; nobody if nil
	MaxSize int64         // bytes that the file may grow to; 0 is a default far beyond use
	MaxView time.Duration // a View's length; 0 is storage.MaxView

	// Patience is how long an Update waits for the disk; 0 is 5 s. One that has
	// been handed over then fails with [storage.ErrUnknown], and while the disk
	// does not answer, others fail with [storage.ErrBusy] at once.
	Patience time.Duration

	// Sound is up to which size of the file Open looks for damage before it
	// answers; 0 is 128 MiB. A larger file is looked through while the store is
	// in use, and poisons it where it would destroy itself.
	Sound int64

	// Commit is called for each commit, and calls commit to make it durable.
	// It is for tests that let commits fail; nil just calls commit.
	Commit func(commit func() error) error
}

// Store is a file. Make it with [Open].
type Store struct {
	config  Config
	path    string
	db      *bbolt.DB
	gate    *overlay.Gate
	turn    chan struct{} // holds one token; the Update that has it runs its function
	history *overlay.History
	current atomic.Pointer[snapshot] // nil once poisoned or closed
	readers sync.WaitGroup           // snapshots that are not rolled back
	failure atomic.Pointer[error]    // why the store is poisoned

	// Where bbolt panics while it begins or ends a transaction, it keeps a lock of
	// its own for ever. Then it is stuck: nobody asks it for anything any more, and
	// the file stays open. So that nobody waits for such a lock, txs is held while a
	// transaction that reads begins or ends, and writes as long as there is one that
	// writes.
	txs    sync.Mutex
	writes sync.Mutex
	stuck  atomic.Bool

	// mu guards the batches. It is held for instructions.
	mu      sync.Mutex
	open    *batch // of those who have run and wait; never nil
	writing *batch // on its way to the disk, or nil
	epoch   uint64 // counts batches that were lost without poison

	wake    chan struct{} // has a token when open has been added to
	closing chan struct{}
	ended   chan struct{} // closed when the writer has ended

	looked      chan struct{} // closed when the file has been looked through, or need not be
	stopLooking context.CancelFunc

	stalled atomic.Bool           // somebody has waited in vain for what is on its way to the disk
	trouble atomic.Pointer[error] // why the last batch was lost; nil where it was not
	stats   stats
}

var _ storage.Near = (*Store)(nil)

// Open opens the store in dir, and makes both if there is nothing. It returns
// an error wrapping [storage.ErrInUse] if another process has it open,
// [storage.ErrNewer] if a later version wrote it, and [storage.ErrCorrupt] if
// it is damaged. A directory or a file that others may read is refused.
func Open(dir string, c Config) (*Store, error) {
	if c.Clock == nil {
		c.Clock = clock.System{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.MaxSize <= 0 {
		c.MaxSize = defaultMaxSize
	}
	if c.Sound <= 0 {
		c.Sound = defaultSound
	}
	if c.MaxView <= 0 {
		c.MaxView = storage.MaxView
	}
	if c.Patience <= 0 {
		c.Patience = defaultPatience
	}
	if c.Commit == nil {
		c.Commit = func(commit func() error) error { return commit() }
	}
	s := &Store{
		config:  c,
		path:    filepath.Join(dir, FileName),
		gate:    overlay.NewGate(),
		turn:    make(chan struct{}, 1),
		open:    newBatch(),
		wake:    make(chan struct{}, 1),
		closing: make(chan struct{}),
		ended:   make(chan struct{}),
		looked:  make(chan struct{}),
	}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	if err := s.openFile(dir); err != nil {
		return nil, fmt.Errorf("opening %s: %w", s.path, err)
	}
	sn, err := s.snapshot()
	if err == nil {
		err = s.sound(sn)
	}
	if err != nil {
		if sn != nil {
			sn.release()
		}
		_ = s.closeDB()
		return nil, fmt.Errorf("opening %s: %w", s.path, err)
	}
	s.current.Store(sn)
	s.history = overlay.NewHistory(sn.mark)
	s.turn <- struct{}{}
	go s.write()
	ctx, stop := context.WithCancel(context.Background())
	s.stopLooking = stop
	go s.lookLater(ctx)
	return s, nil
}

// makeDir makes dir, for its owner only, or checks that it is so.
func makeDir(dir string) error {
	if err := durable.MkdirAll(dir, 0o700); err != nil { // the umask may only have taken away
		return fmt.Errorf("making store directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("checking store directory: %w", err)
	}
	return private(dir, info, "700")
}

// private refuses what others than the owner may get at.
func private(path string, info os.FileInfo, mode string) error {
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is open to other users (mode %04o): run chmod %s %s", path, info.Mode().Perm(), mode, path)
	}
	return nil
}

// openFile opens the file, and first makes it if there is none. A new file
// gets its name when it is complete, so no crash leaves half of one.
func (s *Store) openFile(dir string) error {
	fresh := s.path + ".new"
	for {
		info, err := os.Stat(s.path)
		if err == nil {
			if err := private(s.path, info, "600"); err != nil {
				return err
			}
			if info.Size() == 0 {
				return fmt.Errorf("%w: the file is empty", storage.ErrCorrupt)
			}
			if s.db, err = s.openDB(s.path); err != nil {
				return err
			}
			if err := s.settle(dir); err != nil {
				return err
			}
			return s.checkSchema()
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		db, err := s.openDB(fresh)
		if errors.Is(err, storage.ErrCorrupt) {
			// Left by a process that died while making it.
			if err := os.Remove(fresh); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		// Who has the lock on the fresh file is alone with it, unless another
		// has made the store between our look and our lock.
		if _, err := os.Stat(s.path); err == nil {
			if err := db.Close(); err != nil {
				return err
			}
			if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			continue
		}
		if err := s.make(db, dir, fresh); err != nil {
			return fmt.Errorf("making the store: %w", err)
		}
	}
}

// settle makes durable what a process that was killed has written, or named, and
// had not synced: it is shown from now on.
func (s *Store) settle(dir string) error {
	err := durable.SyncDir(dir)
	if err == nil {
		err = s.db.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("syncing what was written before: %w", err), s.closeDB())
	}
	return nil
}

// make makes the fresh file a store, gives it its name, and closes it.
func (s *Store) make(db *bbolt.DB, dir, fresh string) error {
	var schema [4]byte
	binary.BigEndian.PutUint32(schema[:], Schema)
	err := s.update(db, func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucketIfNotExists(rowsBucket); err != nil {
			return err
		}
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		return meta.Put(schemaKey, schema[:])
	})
	name := func() error { return errors.Join(os.Rename(fresh, s.path), durable.SyncDir(dir)) }
	switch {
	case err != nil:
		return errors.Join(err, s.abandon(db))
	case runtime.GOOS == "windows": // which does not rename what is open
		return errors.Join(db.Close(), name())
	default: // under the lock, so that two who make one do not overtake each other
		return errors.Join(name(), db.Close())
	}
}

// update writes to a file that is not in use yet, whose faults become errors.
func (s *Store) update(db *bbolt.DB, fn func(*bbolt.Tx) error) (err error) {
	defer guard(&err, debug.SetPanicOnFault(true))
	defer s.sticks()()
	return db.Update(fn)
}

// abandon closes a file that is of no use, unless bbolt keeps a lock that it
// would wait for.
func (s *Store) abandon(db *bbolt.DB) (err error) {
	if s.stuck.Load() {
		return nil
	}
	defer guard(&err, debug.SetPanicOnFault(true))
	return db.Close()
}

// openDB opens path by bbolt, whose panics on a damaged file become errors.
func (s *Store) openDB(path string) (db *bbolt.DB, err error) {
	var file *os.File
	defer func() {
		if err != nil && file != nil {
			_ = file.Close() // bbolt has, unless it panicked
		}
	}()
	defer guard(&err, debug.SetPanicOnFault(true))
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:         lockWait,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: int(s.config.MaxSize),
		MaxSize:         int(s.config.MaxSize),
		NoStatistics:    true,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode) //nolint:gosec // the operator's own
			file = f
			return f, err
		},
	})
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%w: stop the other server, or name another directory", storage.ErrInUse)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	var perr *os.PathError
	var serr *os.SyscallError
	if info, statErr := os.Stat(path); statErr == nil && info.Size() < int64(2*os.Getpagesize()) && !errors.As(err, &perr) && !errors.As(err, &serr) {
		return nil, fmt.Errorf("%w: %w", storage.ErrCorrupt, err) // too short to be a file of bbolt's
	}
	return nil, err
}

// checkSchema refuses a file that is not a store, or a later version's.
func (s *Store) checkSchema() (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.closeDB())
		}
	}()
	tx, err := s.beginRead()
	if err != nil {
		return err
	}
	defer s.endRead(tx)
	defer guard(&err, debug.SetPanicOnFault(true))
	meta, rows := tx.Bucket(metaBucket), tx.Bucket(rowsBucket)
	if meta == nil || rows == nil {
		return fmt.Errorf("%w: not a store of Rotunda's", storage.ErrCorrupt)
	}
	b := meta.Get(schemaKey)
	if len(b) != 4 {
		return fmt.Errorf("%w: no schema version", storage.ErrCorrupt)
	}
	switch v := binary.BigEndian.Uint32(b); {
	case v > Schema:
		return fmt.Errorf("%w: the store has schema version %d, this program knows %d: use the program that wrote it, or a later one", storage.ErrNewer, v, Schema)
	case v == 0:
		return fmt.Errorf("%w: schema version 0", storage.ErrCorrupt)
	}
	return nil
}

var errStuck = fmt.Errorf("%w: a page could not be read", storage.ErrPoisoned)

// beginRead begins a transaction that reads, for [Store.endRead].
func (s *Store) beginRead() (tx *bbolt.Tx, err error) {
	s.txs.Lock()
	defer s.txs.Unlock()
	if s.stuck.Load() {
		return nil, errStuck
	}
	defer guard(&err, debug.SetPanicOnFault(true))
	defer s.sticks()()
	return s.db.Begin(false)
}

// endRead ends a transaction that reads, which has nothing to lose.
func (s *Store) endRead(tx *bbolt.Tx) {
	s.txs.Lock()
	defer s.txs.Unlock()
	if s.stuck.Load() {
		return
	}
	var err error
	defer guard(&err, debug.SetPanicOnFault(true))
	defer s.sticks()()
	_ = tx.Rollback()
}

// sticks returns what is deferred behind [guard] where bbolt begins or ends a
// transaction: it notes that bbolt panicked.
func (s *Store) sticks() func() {
	return func() {
		if p := recover(); p != nil {
			s.stuck.Store(true)
			panic(p)
		}
	}
}

// snapshot begins a snapshot of what is durable; nothing may be on its way.
func (s *Store) snapshot() (sn *snapshot, err error) {
	tx, err := s.beginRead()
	if err != nil {
		return nil, err
	}
	rows, err := rowsOf(tx)
	if err != nil {
		s.endRead(tx)
		return nil, err
	}
	sn = &snapshot{tx: tx, rows: rows, mark: markOf(tx), done: func() {
		s.endRead(tx)
		s.readers.Done()
	}}
	sn.refs.Store(1)
	s.readers.Add(1)
	return sn, nil
}

func rowsOf(tx *bbolt.Tx) (rows *bbolt.Bucket, err error) {
	defer guard(&err, debug.SetPanicOnFault(true))
	if rows = tx.Bucket(rowsBucket); rows == nil {
		return nil, fmt.Errorf("%w: the rows are gone", storage.ErrCorrupt)
	}
	return rows, nil
}

// markOf returns the mark of what tx shows, or makes.
func markOf(tx *bbolt.Tx) storage.Mark {
	return storage.Mark(tx.ID()) //nolint:gosec // counts up from 0
}

// sound refuses a file that has been cut off, and one that takes pages for
// free that are in use, so that it would destroy itself. Damage that stays
// where it is, in a row, is left to who reads that row.
func (s *Store) sound(sn *snapshot) error {
	info, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	want := sn.tx.Size()
	if info.Size() < want {
		return fmt.Errorf("%w: the file has %d bytes of %d", storage.ErrCorrupt, info.Size(), want)
	}
	if err := s.checkMeta(); err != nil {
		s.config.Log.Error("store has damaged pages", slog.Any("error", err))
	}
	if want > s.config.Sound {
		return nil
	}
	return s.look(context.Background(), sn)
}

// look returns an error where the file would destroy itself. Other damage it
// only tells.
func (s *Store) look(ctx context.Context, sn *snapshot) error {
	if err := sn.walk(ctx, false); err != nil {
		if ctx.Err() == nil {
			s.config.Log.ErrorContext(ctx, "store has damaged pages", slog.Any("error", err))
		}
		return nil
	}
	return s.checkFree()
}

// lookLater looks through a file that was too large for Open to do so.
func (s *Store) lookLater(ctx context.Context) {
	defer close(s.looked)
	err := s.withSnapshot(func(sn *snapshot) error {
		if sn.tx.Size() <= s.config.Sound {
			return nil
		}
		return s.look(ctx, sn)
	})
	switch {
	case errors.Is(err, storage.ErrCorrupt):
		s.poison(fmt.Errorf("%w: %w", storage.ErrPoisoned, err))
	case err != nil && ctx.Err() == nil:
		s.config.Log.ErrorContext(ctx, "the store could not be looked through for damage", slog.Any("error", err))
	}
}

// acquire returns the current snapshot, for the caller to release.
func (s *Store) acquire() (*snapshot, error) {
	for {
		sn := s.current.Load()
		if sn == nil {
			return nil, s.failed()
		}
		if sn.acquire() {
			return sn, nil
		}
	}
}

// failed returns why the store is poisoned.
func (s *Store) failed() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return storage.ErrClosed
}

// View implements [storage.Store].
func (s *Store) View(ctx context.Context, fn func(storage.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.gate.Enter() {
		return storage.ErrClosed
	}
	defer s.gate.Leave()
	sn, err := s.acquire()
	if err != nil {
		return err
	}
	defer sn.release()
	r := overlay.NewReader(ctx, sn, sn.mark, s.config.Clock.Now, s.config.MaxView)
	defer r.Close()
	return fn(r)
}

// Changes implements [storage.Store].
func (s *Store) Changes(ctx context.Context, since storage.Mark) (storage.Changes, error) {
	if err := ctx.Err(); err != nil {
		return storage.Changes{}, err
	}
	if s.gate.Closed() {
		return storage.Changes{}, storage.ErrClosed
	}
	sn := s.current.Load() // not acquired: only its mark is read
	if sn == nil {
		return storage.Changes{}, s.failed()
	}
	return s.history.Since(since, sn.mark, s.config.Clock.Now()), nil
}

// ChangesAreNear implements [storage.Near].
func (s *Store) ChangesAreNear() {}

// Close implements [storage.Store].
func (s *Store) Close() error {
	s.stopLooking()
	<-s.looked
	if !s.gate.Close() {
		return nil
	}
	close(s.closing)
	<-s.ended
	if sn := s.current.Swap(nil); sn != nil {
		sn.release()
	}
	s.readers.Wait()
	if err := s.closeDB(); err != nil {
		return fmt.Errorf("closing %s: %w", s.path, err)
	}
	return nil
}

// closeDB closes the file, unless bbolt keeps a lock that it would wait for.
func (s *Store) closeDB() (err error) {
	if s.stuck.Load() {
		return errStuck
	}
	defer guard(&err, debug.SetPanicOnFault(true))
	return s.db.Close()
}
