package bolt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/bolt"
)

// valve is a Config.Commit that waits until it is told how to go on.
type valve struct {
	arrived chan struct{}
	how     chan func(commit func() error) error
	open    atomic.Bool // let all through
}

func newValve() *valve {
	return &valve{arrived: make(chan struct{}), how: make(chan func(func() error) error)}
}

func (v *valve) commit(commit func() error) error {
	if v.open.Load() {
		return commit()
	}
	v.arrived <- struct{}{}
	return (<-v.how)(commit)
}

func keep(commit func() error) error { return commit() }

// until waits for a condition that other goroutines bring about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !ok() {
		if ctx.Err() != nil {
			t.Fatalf("waited in vain for %s", what)
		}
		runtime.Gosched()
	}
}

// While one commit is on its way to the disk, all others gather for the next.
func TestGroupCommit(t *testing.T) {
	v := newValve()
	s := open(t, filepath.Join(t.TempDir(), "store"), bolt.Config{Commit: v.commit})
	ctx := t.Context()
	const writers = 64
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := put(ctx, s, "first", "r", "v"); err != nil {
			t.Errorf("Update = %v", err)
		}
	})
	<-v.arrived
	for i := range writers {
		wg.Go(func() {
			// Each adds to what the others before it have written.
			if err := s.Update(ctx, storage.Locks{Own: []string{"sum"}}, func(tx storage.Tx) error {
				v, err := tx.Get(storage.Key{Scope: "sum"})
				if err != nil && !errors.Is(err, storage.ErrNotFound) {
					return err
				}
				if i%8 == 7 {
					return errMine
				}
				tx.Put(storage.Key{Scope: "sum"}, append(v, 'x'))
				return nil
			}); (i%8 == 7) != errors.Is(err, errMine) || i%8 != 7 && err != nil {
				t.Errorf("Update = %v", err)
			}
		})
	}
	until(t, "all writers", func() bool { return s.Waiting() == writers })
	if _, err := get(ctx, s, "sum", ""); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a View sees what is not durable: %v", err)
	}
	v.how <- keep
	<-v.arrived
	v.how <- keep
	wg.Wait()
	if sum, err := get(ctx, s, "sum", ""); len(sum) != writers-writers/8 || err != nil {
		t.Errorf("sum = %d, %v; want %d", len(sum), err, writers-writers/8)
	}
	if st := s.Stats(); st.Commits != 2 || st.Updates != writers+1 {
		t.Errorf("%+v; want 2 commits of %d updates", st, writers+1)
	}
}

var errMine = errors.New("mine")

// Nobody learns from what is not durable: an error that follows from a
// neighbour's write is told when that is on the disk.
func TestErrorsWaitToo(t *testing.T) {
	v := newValve()
	s := open(t, filepath.Join(t.TempDir(), "store"), bolt.Config{Commit: v.commit})
	ctx := t.Context()
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- put(ctx, s, "s", "r", "v") }()
	<-v.arrived
	var ran atomic.Bool
	go func() {
		second <- s.Update(ctx, storage.Locks{Own: []string{"s"}}, func(tx storage.Tx) error {
			defer ran.Store(true)
			if _, err := tx.Get(storage.Key{Scope: "s", Row: "r"}); err == nil {
				return errMine // "check and set failed"
			}
			return nil
		})
	}()
	until(t, "the second", func() bool { return ran.Load() && s.Waiting() == 1 })
	if c, err := s.Changes(ctx, 0); err != nil || len(c.Scopes) > 0 {
		t.Errorf("Changes tells of what is not durable: %+v, %v", c, err)
	}
	select {
	case err := <-second:
		t.Errorf("the error %v came before the disk had what it follows from", err)
	default:
	}
	v.how <- keep
	if err := <-first; err != nil {
		t.Errorf("first = %v", err)
	}
	if err := <-second; !errors.Is(err, errMine) {
		t.Errorf("second = %v; want the function's error", err)
	}
	// With nothing on its way, an error needs no disk.
	if err := s.Update(ctx, storage.Locks{}, func(storage.Tx) error { return errMine }); !errors.Is(err, errMine) {
		t.Errorf("Update = %v; want the function's error", err)
	}
}

// A commit that fails in a way that leaves it open what the disk has poisons
// the store; what it has is found by opening it anew.
func TestPoison(t *testing.T) {
	for name, c := range map[string]struct {
		fail    func(commit func() error) error
		unknown bool
	}{
		"not kept":                  {func(func() error) error { return syscall.EIO }, false},
		"sync of no space":          {func(func() error) error { return syscall.ENOSPC }, false},
		"kept, but nobody heard":    {func(commit func() error) error { return errors.Join(commit(), syscall.EIO) }, true},
		"a write of the meta page":  {func(commit func() error) error { return errors.Join(commit(), full) }, true},
		"panic":                     {func(func() error) error { panic("damaged page") }, false},
		"panic after it was kept":   {func(commit func() error) error { _ = commit(); panic("damaged page") }, true},
		"write to a broken machine": {func(func() error) error { return &os.PathError{Op: "write", Err: syscall.EIO} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, ctx := filepath.Join(t.TempDir(), "store"), t.Context()
			v := newValve()
			v.open.Store(true)
			s := open(t, dir, bolt.Config{Commit: v.commit})
			if err := put(ctx, s, "s", "before", "v"); err != nil {
				t.Fatal(err)
			}
			v.open.Store(false)
			results := make(chan error, 3)
			go func() { results <- put(ctx, s, "s", "lost", "v") }()
			<-v.arrived
			// One that writes and one that only reads wait for the next batch.
			go func() { results <- put(ctx, s, "s", "next", "v") }()
			go func() {
				results <- s.Update(ctx, storage.Locks{Own: []string{"s"}}, func(tx storage.Tx) error {
					_, err := tx.Get(storage.Key{Scope: "s", Row: "lost"})
					return err
				})
			}()
			until(t, "the next batch", func() bool { return s.Waiting() == 2 })
			v.how <- c.fail
			unknown := 0
			for range 3 {
				err := <-results
				if !errors.Is(err, storage.ErrPoisoned) {
					t.Errorf("Update = %v; want ErrPoisoned", err)
				}
				if errors.Is(err, storage.ErrUnknown) {
					unknown++
				}
			}
			if want := map[bool]int{true: 1}[c.unknown]; unknown != want {
				t.Errorf("%d outcomes are unknown, want %d", unknown, want)
			}
			if err := put(ctx, s, "s", "after", "v"); !errors.Is(err, storage.ErrPoisoned) {
				t.Errorf("Update = %v; want ErrPoisoned", err)
			}
			if _, err := get(ctx, s, "s", "before"); !errors.Is(err, storage.ErrPoisoned) {
				t.Errorf("View = %v; want ErrPoisoned", err)
			}
			if _, err := s.Changes(ctx, 0); !errors.Is(err, storage.ErrPoisoned) {
				t.Errorf("Changes = %v; want ErrPoisoned", err)
			}
			if err := s.Check(ctx); !errors.Is(err, storage.ErrPoisoned) {
				t.Errorf("Check = %v; want ErrPoisoned", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("Close = %v", err)
			}
			s = open(t, dir, bolt.Config{})
			want := map[string]bool{"before": true, "lost": c.unknown}
			for _, row := range []string{"before", "lost", "next", "after"} {
				if _, err := get(ctx, s, "s", row); (err == nil) != want[row] {
					t.Errorf("after opening anew, Get(%q) = %v; want it there: %t", row, err, want[row])
				}
			}
			if err := s.Check(ctx); err != nil {
				t.Errorf("Check = %v", err)
			}
		})
	}
}

var full = &os.PathError{Op: "write", Path: "store.db", Err: syscall.ENOSPC}

// A full disk fails those whose writes found no space, and nobody else.
func TestFull(t *testing.T) {
	v := newValve()
	s := open(t, filepath.Join(t.TempDir(), "store"), bolt.Config{Commit: v.commit})
	ctx := t.Context()
	lost, next := make(chan error, 1), make(chan error, 1)
	go func() { lost <- put(ctx, s, "s", "lost", "v") }()
	<-v.arrived
	runs := 0
	go func() {
		next <- s.Update(ctx, storage.Locks{Own: []string{"s"}}, func(tx storage.Tx) error {
			runs++
			_, err := tx.Get(storage.Key{Scope: "s", Row: "lost"})
			tx.Put(storage.Key{Scope: "s", Row: "next"}, fmt.Append(nil, errors.Is(err, storage.ErrNotFound)))
			return nil
		})
	}()
	until(t, "the next batch", func() bool { return s.Waiting() == 1 })
	v.how <- func(func() error) error { return full }
	if err := <-lost; !errors.Is(err, syscall.ENOSPC) || errors.Is(err, storage.ErrPoisoned) || errors.Is(err, storage.ErrUnknown) {
		t.Errorf("Update on a full disk = %v; want ENOSPC and nothing else", err)
	}
	<-v.arrived
	v.how <- keep
	if err := <-next; err != nil || runs != 2 {
		t.Errorf("Update after one that found no space = %v after %d runs; want 2", err, runs)
	}
	if got, err := get(ctx, s, "s", "next"); got != "true" || err != nil {
		t.Errorf("the next transaction still saw the lost one: %q, %v", got, err)
	}
	if _, err := get(ctx, s, "s", "lost"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get of what was lost = %v; want ErrNotFound", err)
	}
}

// A store that may not grow says so, and goes on with what fits.
func TestMaxSize(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store"), bolt.Config{MaxSize: 32 << 20})
	ctx := t.Context()
	big := string(make([]byte, storage.MaxBytes-1000))
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		err = put(ctx, s, "s", fmt.Sprint(n), big)
	}
	if err == nil || errors.Is(err, storage.ErrPoisoned) || errors.Is(err, storage.ErrUnknown) {
		t.Fatalf("Update %d beyond the size = %v; want an error that is no more than that", n, err)
	}
	t.Logf("after %d: %v", n, err)
	if err := put(ctx, s, "s", "small", "v"); err != nil {
		t.Errorf("small Update = %v", err)
	}
	if err := s.Update(ctx, storage.Locks{Own: []string{"s"}}, func(tx storage.Tx) error {
		for i := range n {
			tx.Delete(storage.Key{Scope: "s", Row: fmt.Sprint(i)})
		}
		return nil
	}); err != nil {
		t.Errorf("Update that deletes = %v", err)
	}
	if err := put(ctx, s, "s", "again", "v"); err != nil { // frees what was deleted
		t.Error(err)
	}
	if err := put(ctx, s, "s", "big", big); err != nil {
		t.Errorf("Update where there is room again = %v", err)
	}
}

// An Update whose context ends waits for its outcome.
func TestGivenUp(t *testing.T) {
	v := newValve()
	s := open(t, filepath.Join(t.TempDir(), "store"), bolt.Config{Commit: v.commit})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- put(ctx, s, "s", "a", "v") }()
	<-v.arrived
	cancel()
	v.how <- keep
	if err := <-result; err != nil {
		t.Errorf("Update whose context ended while it was written = %v; want its outcome", err)
	}
}

// Nobody waits for ever for a disk that does not answer. Who has handed over a
// write is told that nobody knows; who has not, that nothing was done; readers
// go on; and all is well when the disk answers again.
func TestPatience(t *testing.T) {
	v := newValve()
	s := open(t, filepath.Join(t.TempDir(), "store"), bolt.Config{Commit: v.commit, Patience: 50 * time.Millisecond})
	ctx := t.Context()
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- put(ctx, s, "s", "first", "v") }()
	<-v.arrived
	go func() { second <- put(ctx, s, "s", "second", "v") }()
	if err := <-first; !errors.Is(err, storage.ErrUnknown) || !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Public(err), "may have been stored or not") {
		t.Errorf("Update whose disk hangs = %v; want ErrUnknown, of kind Unavailable", err)
	}
	if err := <-second; !errors.Is(err, storage.ErrUnknown) {
		t.Errorf("Update behind one whose disk hangs = %v; want ErrUnknown", err)
	}
	until(t, "the store to say so", func() bool { return errors.Is(s.Health(), storage.ErrBusy) })
	waiting := s.Waiting()
	for i := range 50 {
		if err := put(ctx, s, "s", fmt.Sprint("late", i), "v"); !errors.Is(err, storage.ErrBusy) || errors.Is(err, storage.ErrUnknown) || !fault.Is(err, fault.Unavailable) {
			t.Fatalf("Update of a store that is known to hang = %v; want ErrBusy", err)
		}
	}
	if n := s.Waiting(); n != waiting {
		t.Errorf("%d transactions wait; want %d: those that were refused must not", n, waiting)
	}
	if _, err := get(ctx, s, "s", "other"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get of a store that hangs = %v; want ErrNotFound", err)
	}
	v.open.Store(true)
	v.how <- keep
	until(t, "the commits", func() bool { _, err := get(ctx, s, "s", "second"); return err == nil })
	until(t, "the store to say so", func() bool { return s.Health() == nil })
	if err := put(ctx, s, "s", "after", "v"); err != nil {
		t.Errorf("Update when the disk answers again = %v", err)
	}
	if _, err := get(ctx, s, "s", "late0"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get of what was refused = %v; want ErrNotFound", err)
	}
	if st := s.Stats(); st.Stalls != 2 {
		t.Errorf("%d transactions were not waited for; want 2", st.Stalls)
	}
}

// A store that has failed says so for ever, and not that its disk is slow.
func TestPoisonedIsNotSlow(t *testing.T) {
	v := newValve()
	const patience = 20 * time.Millisecond
	s := open(t, filepath.Join(t.TempDir(), "store"), bolt.Config{Commit: v.commit, Patience: patience})
	ctx := t.Context()
	lost := make(chan error, 1)
	go func() { lost <- put(ctx, s, "s", "lost", "v") }()
	<-v.arrived
	v.how <- func(func() error) error { return syscall.EIO }
	<-lost
	until(t, "the store to fail", func() bool { return errors.Is(s.Health(), storage.ErrPoisoned) })
	<-time.After(2 * patience)
	if err := put(ctx, s, "s", "after", "v"); !errors.Is(err, storage.ErrPoisoned) || errors.Is(err, storage.ErrBusy) {
		t.Errorf("Update of a store that has failed = %v; want ErrPoisoned", err)
	}
}

// What a disk does not take is refused by its reason, which a caller may be
// told, and the store goes on when it does.
func TestRefusedByTheDisk(t *testing.T) {
	resize := func(cause error) error { return errors.New("file resize error: " + cause.Error()) }
	for name, c := range map[string]struct {
		err, want error
	}{
		"no space":             {full, storage.ErrFull},
		"no quota":             {&os.PathError{Op: "write", Err: syscall.EDQUOT}, storage.ErrFull},
		"file too large":       {&os.PathError{Op: "write", Err: syscall.EFBIG}, storage.ErrFull},
		"no room to grow":      {resize(syscall.EFBIG), storage.ErrFull},
		"read-only":            {&os.PathError{Op: "write", Err: syscall.EROFS}, storage.ErrReadOnly},
		"read-only when grown": {resize(syscall.EROFS), storage.ErrReadOnly},
	} {
		t.Run(name, func(t *testing.T) {
			refuses := true
			s := open(t, filepath.Join(t.TempDir(), "store"), bolt.Config{Commit: func(commit func() error) error {
				if refuses {
					return c.err
				}
				return commit()
			}})
			for range 3 {
				err := put(t.Context(), s, "s", "r", "v")
				if !errors.Is(err, c.want) || !fault.Is(err, fault.Unavailable) || errors.Is(err, storage.ErrUnknown) || errors.Is(err, storage.ErrPoisoned) {
					t.Errorf("Update = %v; want %v", err, c.want)
				}
				if strings.Contains(fault.Public(err), "store.db") {
					t.Errorf("the caller is told %q", fault.Public(err))
				}
				if err := s.Health(); !errors.Is(err, c.want) {
					t.Errorf("Health = %v; want %v", err, c.want)
				}
			}
			if st := s.Stats(); st.Lost != 3 || st.Commits != 0 {
				t.Errorf("%+v; want 3 that were lost", st)
			}
			refuses = false
			if err := put(t.Context(), s, "s", "r", "v"); err != nil || s.Health() != nil {
				t.Errorf("Update when the disk takes writes = %v, Health = %v", err, s.Health())
			}
		})
	}
}

func TestMaxView(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store"), bolt.Config{MaxView: 1})
	if _, err := get(t.Context(), s, "s", "r"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a View that takes too long = %v; want DeadlineExceeded", err)
	}
}

func TestClock(t *testing.T) {
	c := clocktest.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	s := open(t, filepath.Join(t.TempDir(), "store"), bolt.Config{Clock: c})
	ch, err := s.Changes(t.Context(), 0)
	if err != nil || !ch.Now.Equal(c.Now()) {
		t.Errorf("Changes.Now = %v, %v; want %v", ch.Now, err, c.Now())
	}
	if err := s.Update(t.Context(), storage.Locks{}, func(tx storage.Tx) error {
		if !tx.Now().Equal(c.Now()) {
			t.Errorf("Tx.Now = %v; want %v", tx.Now(), c.Now())
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestCopy(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store"), bolt.Config{})
	ctx := t.Context()
	for i := range 100 {
		if err := put(ctx, s, "s", fmt.Sprint(i), "v"); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	n, err := s.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("WriteTo = %d, %v; wrote %d", n, err, b.Len())
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, bolt.FileName), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	c := open(t, dir, bolt.Config{})
	if err := c.Check(ctx); err != nil {
		t.Errorf("Check of the copy = %v", err)
	}
	if v, err := get(ctx, c, "s", "99"); v != "v" || err != nil {
		t.Errorf("Get from the copy = %q, %v", v, err)
	}
}

// What is no store of ours, or not for us, is refused and left as it is.
func TestRefuses(t *testing.T) {
	boltFile := func(fn func(*bbolt.Tx) error) func(string) error {
		return func(dir string) error {
			db, err := bbolt.Open(filepath.Join(dir, bolt.FileName), 0o600, nil)
			if err != nil {
				return err
			}
			return errors.Join(db.Update(fn), db.Close())
		}
	}
	schema := func(b []byte) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket([]byte("rows"))
			if err != nil {
				return err
			}
			meta, err := tx.CreateBucket([]byte("meta"))
			if err != nil {
				return err
			}
			return meta.Put([]byte("schema"), b)
		}
	}
	file := func(b []byte) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, bolt.FileName), b, 0o600) }
	}
	for name, c := range map[string]struct {
		make func(dir string) error
		want error // nil: any
	}{
		"later version":          {boltFile(schema(binary.BigEndian.AppendUint32(nil, bolt.Schema+1))), storage.ErrNewer},
		"version 0":              {boltFile(schema(make([]byte, 4))), storage.ErrCorrupt},
		"no version":             {boltFile(schema(nil)), storage.ErrCorrupt},
		"another's bbolt file":   {boltFile(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("x")); return err }), storage.ErrCorrupt},
		"empty file":             {file(nil), storage.ErrCorrupt},
		"short file":             {file(make([]byte, 100)), storage.ErrCorrupt},
		"zeros":                  {file(make([]byte, 1<<16)), storage.ErrCorrupt},
		"text":                   {file(bytes.Repeat([]byte("text "), 1<<14)), storage.ErrCorrupt},
		"directory in its place": {func(dir string) error { return os.Mkdir(filepath.Join(dir, bolt.FileName), 0o700) }, nil},
		"file that others read": {func(dir string) error {
			return errors.Join(boltFile(schema(binary.BigEndian.AppendUint32(nil, bolt.Schema)))(dir), os.Chmod(filepath.Join(dir, bolt.FileName), 0o640))
		}, nil},
		"directory that others read": {func(dir string) error { return os.Chmod(dir, 0o750) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			if err := errors.Join(os.Mkdir(dir, 0o700), c.make(dir)); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(filepath.Join(dir, bolt.FileName))
			s, err := bolt.Open(dir, bolt.Config{})
			if err == nil {
				_ = s.Close()
				t.Fatal("Open went well")
			}
			t.Log(err)
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("Open = %v; want %v", err, c.want)
			}
			if after, _ := os.ReadFile(filepath.Join(dir, bolt.FileName)); !bytes.Equal(before, after) {
				t.Error("the file has been changed")
			}
		})
	}
}

// A process that died while it made a store leaves nothing in the way.
func TestHalfMade(t *testing.T) {
	for name, left := range map[string][]byte{"nothing": {}, "part": make([]byte, 5000), "zeros": make([]byte, 1<<14)} {
		dir := filepath.Join(t.TempDir(), "store")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, bolt.FileName+".new"), left, 0o600)); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, bolt.Config{})
		if err := put(t.Context(), s, "s", "r", "v"); err != nil {
			t.Errorf("%s: Update = %v", name, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%s: the directory has %v, %v; want the store alone", name, entries, err)
		}
	}
}

// A damaged file gives errors and never a crash or a wrong value.
func TestDamaged(t *testing.T) {
	dir, ctx := filepath.Join(t.TempDir(), "store"), t.Context()
	s := open(t, dir, bolt.Config{})
	const rows = 300
	row := func(i int) string { return fmt.Sprintf("%04d", i) }
	for i := range rows {
		if err := put(ctx, s, "s", row(i), fmt.Sprintf("value %0100d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, bolt.FileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole = bytes.TrimRight(whole, "\x00")
	whole = append(whole, make([]byte, 4096-len(whole)%4096)...)
	found := map[string]int{}
	try := func(damaged []byte) {
		bad := filepath.Join(t.TempDir(), "store")
		if err := errors.Join(os.Mkdir(bad, 0o700), os.WriteFile(filepath.Join(bad, bolt.FileName), damaged, 0o600)); err != nil {
			t.Fatal(err)
		}
		s, err := bolt.Open(bad, bolt.Config{})
		if err != nil {
			if errors.Is(err, storage.ErrInUse) {
				t.Errorf("Open = %v", err)
			}
			found["Open"]++
			return
		}
		defer s.Close()
		if err := s.Check(ctx); err != nil {
			if !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("Check = %v; want ErrCorrupt", err)
			}
			found["Check"]++
		}
		for i := 0; i < rows; i += 7 {
			v, err := get(ctx, s, "s", row(i))
			if err == nil && v != fmt.Sprintf("value %0100d", i) {
				t.Errorf("Get = %q", v)
			}
			if err != nil && !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("Get = %v; want ErrCorrupt", err)
			}
		}
		err = s.View(ctx, func(r storage.Reader) error { _, _, err := r.Scan("s", "", "", 0); return err })
		if err != nil && !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("Scan = %v; want ErrCorrupt", err)
		}
		for i := range 3 {
			err := put(ctx, s, "s", row(i*100), "new")
			if err != nil {
				found["Update"]++
			}
			if err != nil && !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrPoisoned) {
				t.Logf("Update = %v", err)
			}
		}
	}
	for page := 0; page < len(whole); page += 4096 {
		for _, at := range []int{0, 8, 10, 12, 16, 20, 22, 24, 28, 700, 2000, 4000} { // headers, elements, keys, values
			damaged := bytes.Clone(whole)
			damaged[page+at] ^= []byte{1, 0xff}[(page/4096+at/4)%2]
			try(damaged)
		}
		damaged := bytes.Clone(whole)
		clear(damaged[page : page+4096])
		try(damaged)
		try(whole[:page])
	}
	t.Log(found)
	for _, what := range []string{"Open", "Check", "Update"} {
		if found[what] == 0 {
			t.Errorf("%s found no damage", what)
		}
	}
}

// A page that says it has more or fewer elements than it has would hide rows: it is found.
func TestDamagedCounts(t *testing.T) {
	dir, ctx := filepath.Join(t.TempDir(), "store"), t.Context()
	s := open(t, dir, bolt.Config{})
	for i := range 900 {
		if err := put(ctx, s, "s", fmt.Sprintf("%04d", i), fmt.Sprintf("value %0100d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, bolt.FileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]int{}
	err = db.View(func(tx *bbolt.Tx) error {
		for id := 2; ; id++ {
			p, err := tx.Page(id)
			if err != nil || p == nil {
				return err
			}
			if p.Type != "branch" && p.Type != "leaf" || tried[p.Type] == 4 {
				continue
			}
			tried[p.Type]++
			for bit := range 8 {
				damaged := bytes.Clone(whole)
				damaged[id*4096+10] ^= 1 << bit
				bad := filepath.Join(t.TempDir(), "store")
				if err := errors.Join(os.Mkdir(bad, 0o700), os.WriteFile(filepath.Join(bad, bolt.FileName), damaged, 0o600)); err != nil {
					return err
				}
				s, err := bolt.Open(bad, bolt.Config{})
				if err == nil {
					err = s.Check(ctx)
					_ = s.Close()
				}
				if !errors.Is(err, storage.ErrCorrupt) {
					t.Errorf("a %s page with %d elements that says it has %d: %v; want ErrCorrupt", p.Type, p.Count, p.Count^1<<bit, err)
				}
			}
		}
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if tried["branch"] == 0 || tried["leaf"] == 0 {
		t.Errorf("pages tried: %v; want of both kinds", tried)
	}
}

// A list of free pages that says it is another page, or names one that is in use,
// is found before anything is written over.
func TestDamagedListOfFreePages(t *testing.T) {
	dir, ctx := filepath.Join(t.TempDir(), "store"), t.Context()
	s := open(t, dir, bolt.Config{})
	for i := range 300 {
		if err := put(ctx, s, "s", fmt.Sprintf("%04d", i), fmt.Sprintf("value %0100d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, bolt.FileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := whole[16:]
	if other := whole[4096+16:]; binary.NativeEndian.Uint64(other[48:]) > binary.NativeEndian.Uint64(last[48:]) {
		last = other
	}
	list := int(binary.NativeEndian.Uint64(last[32:])) * 4096
	root := binary.NativeEndian.Uint64(last[16:])
	for what, change := range map[string]func(b []byte){
		"another page":          func(b []byte) { b[list] ^= 2 },
		"a page of rows":        func(b []byte) { b[list+8] ^= 18 },
		"more than there are":   func(b []byte) { b[list+11] = 0x7f },
		"a free page in use":    func(b []byte) { binary.NativeEndian.PutUint64(b[list+16:], root) },
		"a free page far above": func(b []byte) { binary.NativeEndian.PutUint64(b[list+16:], 1<<40) },
	} {
		damaged := bytes.Clone(whole)
		change(damaged)
		bad := filepath.Join(t.TempDir(), "store")
		if err := errors.Join(os.Mkdir(bad, 0o700), os.WriteFile(filepath.Join(bad, bolt.FileName), damaged, 0o600)); err != nil {
			t.Fatal(err)
		}
		s, err := bolt.Open(bad, bolt.Config{})
		if err == nil {
			err = s.Check(ctx)
			_ = s.Close()
		}
		if !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("a list of free pages that is or has %s: %v; want ErrCorrupt", what, err)
		}
	}
}

// A meta page that is damaged makes bbolt take the other, which may be older: no
// answer shows it, and Check finds it.
func TestDamagedMeta(t *testing.T) {
	for page := range 2 {
		dir, ctx := filepath.Join(t.TempDir(), "store"), t.Context()
		s := open(t, dir, bolt.Config{})
		if err := put(ctx, s, "s", "r", "v"); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Check(ctx), s.Close()); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, bolt.FileName)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[page*os.Getpagesize()+16+50] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, bolt.Config{})
		if err := s.Check(ctx); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("Check with meta page %d damaged = %v; want ErrCorrupt", page, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A file that is too large to be looked through before it is used, and would
// destroy itself, poisons the store once that has been found.
func TestLookedThroughLater(t *testing.T) {
	dir, ctx := filepath.Join(t.TempDir(), "store"), t.Context()
	s := open(t, dir, bolt.Config{Sound: 1})
	for i := range 300 {
		if err := put(ctx, s, "s", fmt.Sprintf("%04d", i), fmt.Sprintf("value %0100d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, bolt.FileName))
	if err != nil {
		t.Fatal(err)
	}
	whole = bytes.TrimRight(whole, "\x00")
	whole = append(whole, make([]byte, 4096-len(whole)%4096)...)
	found := 0
	for page := 0; page < len(whole); page += 4096 {
		for at := 16; at < 64; at += 8 { // the pages that are free, or an element
			damaged := bytes.Clone(whole)
			damaged[page+at] ^= 1
			bad := filepath.Join(t.TempDir(), "store")
			if err := errors.Join(os.Mkdir(bad, 0o700), os.WriteFile(filepath.Join(bad, bolt.FileName), damaged, 0o600)); err != nil {
				t.Fatal(err)
			}
			now, err := bolt.Open(bad, bolt.Config{})
			if err == nil {
				if err := now.Close(); err != nil {
					t.Errorf("Close = %v", err)
				}
				continue
			}
			later, err := bolt.Open(bad, bolt.Config{Sound: 1})
			if err != nil {
				continue // what is found at once is found at once
			}
			<-later.Looked()
			if err := put(ctx, later, "s", "0000", "new"); !errors.Is(err, storage.ErrPoisoned) {
				t.Errorf("page %d, byte %d: Update of a store that would destroy itself = %v; want ErrPoisoned", page/4096, at, err)
			}
			found++
			_ = later.Close()
		}
	}
	if found == 0 {
		t.Error("no damage was found later")
	}
}

// A file that is cut while the store has it open is a fault of the machine's
// memory, and an error.
func TestCutWhileOpen(t *testing.T) {
	dir, ctx := filepath.Join(t.TempDir(), "store"), t.Context()
	s := open(t, dir, bolt.Config{})
	for i := range 100 {
		if err := put(ctx, s, "s", fmt.Sprintf("%04d", i), string(make([]byte, 1000))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(dir, bolt.FileName), 8192); err != nil {
		t.Fatal(err)
	}
	if _, err := get(ctx, s, "s", "0050"); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Get = %v; want ErrCorrupt", err)
	}
	if err := put(ctx, s, "s", "0050", "v"); err == nil {
		t.Error("Update went well")
	}
	if err := s.Check(ctx); err == nil {
		t.Error("Check went well")
	}
	_ = s.Close()
}

// Where bbolt meets a fault with a lock of its own held, which it then keeps,
// nobody waits for it: not who reads, writes or closes the store.
func TestFirstPagesAreGone(t *testing.T) {
	dir, ctx := filepath.Join(t.TempDir(), "store"), t.Context()
	cut := false
	s := open(t, dir, bolt.Config{Commit: func(commit func() error) error {
		err := commit()
		if cut {
			err = errors.Join(err, os.Truncate(filepath.Join(dir, bolt.FileName), 0))
		}
		return err
	}})
	if err := put(ctx, s, "s", "1", "v"); err != nil {
		t.Fatal(err)
	}
	held := make(chan struct{})
	reading := make(chan error)
	go func() {
		reading <- s.View(ctx, func(storage.Reader) error {
			close(held)
			<-reading
			return nil
		})
	}()
	<-held
	cut = true
	if err := put(ctx, s, "s", "2", "v"); !errors.Is(err, storage.ErrUnknown) && !errors.Is(err, storage.ErrPoisoned) {
		t.Errorf("Update = %v; want ErrPoisoned or ErrUnknown", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		reading <- nil
		<-reading
		if err := put(ctx, s, "s", "3", "v"); !errors.Is(err, storage.ErrPoisoned) {
			t.Errorf("Update = %v; want ErrPoisoned", err)
		}
		if err := s.Close(); !errors.Is(err, storage.ErrPoisoned) {
			t.Errorf("Close = %v; want ErrPoisoned", err)
		}
	}()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the store waits for ever")
	}
}

func FuzzKey(f *testing.F) {
	f.Add("s", "r", []byte("v"))
	f.Add("", "", []byte{})
	f.Add("a\x00", "\xff", []byte{0})
	f.Fuzz(func(t *testing.T, scope, row string, b []byte) {
		if len(scope)+len(row) <= storage.MaxKey {
			k := storage.Key{Scope: scope, Row: row}
			e := bolt.EncodeKey(k)
			if got, err := bolt.DecodeKey(e); got != k || err != nil {
				t.Errorf("DecodeKey(EncodeKey(%q)) = %q, %v", k, got, err)
			}
			if len(b) <= storage.MaxBytes {
				v := bolt.EncodeValue(e, b)
				if got, err := bolt.DecodeValue(e, v); !bytes.Equal(got, b) || got == nil || err != nil {
					t.Errorf("DecodeValue(EncodeValue(%x)) = %x, %v", b, got, err)
				}
				v[len(b)/2] ^= 1
				if got, err := bolt.DecodeValue(e, v); !errors.Is(err, storage.ErrCorrupt) {
					t.Errorf("DecodeValue of a damaged row = %x, %v; want ErrCorrupt", got, err)
				}
			}
		}
		if k, err := bolt.DecodeKey(b); err == nil && !bytes.Equal(bolt.EncodeKey(k), b) {
			t.Errorf("EncodeKey(DecodeKey(%x)) = %x", b, bolt.EncodeKey(k))
		}
		_, _ = bolt.DecodeValue([]byte(row), b)
	})
}
