package pin_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/pin"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/bolt"
)

// host is a machine with a store and a directory of keys.
type host struct {
	t    *testing.T
	dir  string
	book *pin.Book
	full bool // nothing can be written beside the keys
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir()}
	keys := filepath.Join(h.dir, "keys")
	if err := os.Mkdir(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	h.book = &pin.Book{
		Dir: keys, Clock: clocktest.New(time.Unix(1_800_000_000, 0)), Log: slog.New(slog.DiscardHandler),
		Write: func(path string, text []byte) error {
			if h.full {
				return errors.New("no space left")
			}
			return os.WriteFile(path, text, 0o600)
		},
	}
	return h
}

func (h *host) path() string { return filepath.Join(h.dir, "store") }

// open calls fn with the unsealed store, which is made where there is none.
func (h *host) open(fn func(*barrier.Barrier)) {
	h.t.Helper()
	ctx := h.t.Context()
	store, err := bolt.Open(h.path(), bolt.Config{})
	if err != nil {
		h.t.Fatal(err)
	}
	defer store.Close()
	root := secret.NewBytes(bytes.Repeat([]byte{7}, 32))
	err = barrier.Create(ctx, store, root, []seal.Stanza{{Kind: "test", Body: []byte("body")}})
	if err != nil && !errors.Is(err, barrier.ErrInitialized) {
		h.t.Fatal(err)
	}
	b, err := barrier.Open(ctx, store, root)
	if err != nil {
		h.t.Fatal(err)
	}
	defer b.Close()
	fn(b)
}

// session checks the store, begins a session in which fn writes, and pins the
// end of it.
func (h *host) session(fn func(write func())) (pin.Found, error) {
	h.t.Helper()
	var found pin.Found
	var err error
	h.open(func(b *barrier.Barrier) {
		if found, err = h.book.Check(h.t.Context(), b); err != nil {
			return
		}
		s, begun := h.book.Begin(h.t.Context(), b)
		if begun != nil {
			h.t.Fatal(begun)
		}
		if fn != nil {
			fn(func() { h.write(b) })
		}
		s.Pin(h.t.Context())
	})
	return found, err
}

func (h *host) write(b *barrier.Barrier) {
	h.t.Helper()
	core, err := b.Space(h.t.Context(), barrier.Core)
	if err != nil {
		h.t.Fatal(err)
	}
	err = core.Update(h.t.Context(), storage.Locks{Own: []string{"x"}}, func(tx storage.Tx) error {
		tx.Put(storage.Key{Scope: "x", Row: "r"}, []byte("v"))
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) copyTo(to string) {
	h.t.Helper()
	if err := os.RemoveAll(to); err != nil {
		h.t.Fatal(err)
	}
	h.copy(to, h.path())
}

func (h *host) copy(to, from string) {
	h.t.Helper()
	if err := errors.Join(os.CopyFS(to, os.DirFS(from)), os.Chmod(to, 0o700), os.Chmod(filepath.Join(to, "store.db"), 0o600)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) putBack(from string) {
	h.t.Helper()
	if err := os.RemoveAll(h.path()); err != nil {
		h.t.Fatal(err)
	}
	h.copy(h.path(), from)
}

func (h *host) want(err error) {
	h.t.Helper()
	if _, got := h.session(nil); !errors.Is(got, err) || err == nil && got != nil {
		h.t.Errorf("Check = %v; want %v", got, err)
	}
}

func TestSessionsFollowOneAnother(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for i := range 70 { // more than a line keeps
		found, err := h.session(func(write func()) { write() })
		if err != nil || found.Pinned != (i > 0) || found.Opened != (i > 0) {
			t.Fatalf("session %d: Check = %+v, %v", i, found, err)
		}
	}
}

// Where the pin cannot be written, starts without end do not make the store old.
func TestStartsWithoutAPinThatCanBeWritten(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	_, _ = h.session(func(write func()) { write() })
	old := filepath.Join(h.dir, "old")
	h.copyTo(old)
	_, _ = h.session(func(write func()) { write() })
	h.full = true
	for i := range 130 { // twice what a line keeps
		if _, err := h.session(nil); err != nil {
			t.Fatalf("start %d: Check = %v", i, err)
		}
	}
	h.putBack(old)
	h.want(pin.ErrOld)
}

func TestOldCopyIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	copied := filepath.Join(h.dir, "copy")
	_, _ = h.session(func(write func()) { write(); h.copyTo(copied); write() }) // copied while it is in use
	newest := filepath.Join(h.dir, "newest")
	h.copyTo(newest)
	h.putBack(copied)
	h.want(pin.ErrOld)
	h.putBack(newest)
	h.want(nil)

	h.copyTo(copied) // between two sessions
	h.want(nil)
	h.putBack(copied)
	h.want(pin.ErrOld)
}

// A copy that is written to elsewhere, until its mark is beyond the pinned one,
// is old still.
func TestOldCopyThatHasGrownIsRefused(t *testing.T) {
	t.Parallel()
	h, elsewhere := newHost(t), newHost(t)
	_, _ = h.session(func(write func()) { write(); h.copyTo(elsewhere.path()); write(); write() })
	for range 3 {
		if _, err := elsewhere.session(func(write func()) {
			for range 20 {
				write()
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	h.putBack(elsewhere.path())
	h.want(pin.ErrOld)
}

// A store that was moved elsewhere, used there, and moved back holds all that
// this host has seen.
func TestStoreComesBackFromElsewhere(t *testing.T) {
	t.Parallel()
	h, elsewhere := newHost(t), newHost(t)
	_, _ = h.session(func(write func()) { write() })
	h.copyTo(elsewhere.path())
	if found, err := elsewhere.session(func(write func()) { write() }); err != nil || found.Pinned || !found.Opened {
		t.Fatalf("Check elsewhere = %+v, %v; want it opened before and not pinned", found, err)
	}
	h.putBack(elsewhere.path())
	h.want(nil)
}

// Whatever a crash leaves of the steps of a session's beginning, the store is
// not taken for an old one.
func TestCrashesDoNotMakeAStoreOld(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.want(nil)
	h.full = true // the session is in the line, and its pin was never written
	for range 3 {
		h.want(nil)
	}
	h.full = false
	h.want(nil)
	h.open(func(b *barrier.Barrier) { // killed: the end was not pinned
		if _, err := h.book.Begin(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		h.write(b)
	})
	h.want(nil)
}

func TestBeginAcceptsAnOldCopy(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	copied := filepath.Join(h.dir, "copy")
	_, _ = h.session(func(write func()) { write(); h.copyTo(copied); write() })
	newest := filepath.Join(h.dir, "newest")
	h.copyTo(newest)
	h.putBack(copied)
	h.want(pin.ErrOld)
	h.open(func(b *barrier.Barrier) {
		if _, err := h.book.Begin(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	})
	h.want(nil)
	h.putBack(newest) // has another past now
	h.want(pin.ErrOld)
}

func TestPinsAreAuthenticated(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	_, _ = h.session(func(write func()) { write() })
	files, err := filepath.Glob(filepath.Join(h.book.Dir, "pin-*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	damaged := 0
	h.open(func(b *barrier.Barrier) {
		for i := range len(good) - 1 {
			bad := bytes.Clone(good)
			bad[i] ^= 1
			if err := os.WriteFile(files[0], bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := h.book.Check(t.Context(), b); err == nil {
				t.Errorf("Check of a pin with byte %d (%q) changed succeeds", i, good[i])
			} else if errors.Is(err, pin.ErrDamaged) {
				damaged++
			}
		}
	})
	if damaged == 0 {
		t.Error("no changed pin was called damaged")
	}
	if err := os.WriteFile(files[0], []byte(strings.Repeat(" ", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	h.want(pin.ErrDamaged)
}

// Run pins what is written while the store is open, and writes nothing while
// nothing is written.
func TestRun(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	fake := h.book.Clock.(*clocktest.Fake)
	copied := filepath.Join(h.dir, "copy")
	writes := make(chan struct{}, 10)
	write := h.book.Write
	h.book.Write = func(path string, text []byte) error {
		defer func() { writes <- struct{}{} }()
		return write(path, text)
	}
	h.open(func(b *barrier.Barrier) {
		s, err := h.book.Begin(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		<-writes
		h.copyTo(copied)
		h.write(b)
		ended := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { defer close(ended); s.Run(ctx) }()
		defer func() { cancel(); <-ended }()
		for pinned := false; !pinned; {
			fake.Advance(pin.Every)
			select {
			case <-writes:
				pinned = true
			default:
			}
		}
		for range 100 {
			fake.Advance(pin.Every)
		}
		if len(writes) != 0 {
			t.Error("a pin was written though nothing was")
		}
		if s.Pinned().IsZero() {
			t.Error("Pinned = never")
		}
	})
	h.putBack(copied)
	h.want(pin.ErrOld)
}
