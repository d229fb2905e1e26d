package gate_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/audit/audittest"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

// What cannot be served yet is initialized all the same, and its shares and
// root token reach who asked for them.
func TestInitTellsWhatCannotBeServed(t *testing.T) {
	r := fresh(t)
	r.broken.Store(true)
	out, err := r.gate.Init(t.Context(), gate.InitIn{Shares: 3, Threshold: 2})
	if err != nil || len(out.Shares) != 3 || out.RootToken.Empty() {
		t.Fatalf("Init = %d shares, token given %t, %v; want 3 shares and a token", len(out.Shares), !out.RootToken.Empty(), err)
	}
	if err := r.gate.Submit(t.Context(), out.Shares[0].Hex); err != nil {
		t.Fatalf("Submit = %v", err)
	}
	if err := r.gate.Submit(t.Context(), out.Shares[1].Hex); err == nil || !r.gate.Sealed() {
		t.Fatalf("Submit of what cannot be served = %v; want an error", err)
	}
	r.broken.Store(false)
	for _, s := range out.Shares[1:] {
		if err := r.gate.Submit(t.Context(), s.Base64); err != nil {
			t.Fatalf("Submit = %v", err)
		}
	}
	if r.gate.Sealed() {
		t.Error("the store that was initialized does not open with its shares")
	}
}

// A crash or a failure at any commit of an initialization leaves a store that
// is not initialized, and can be, or one that its shares open.
func TestInitCanBeRepeated(t *testing.T) {
	told := map[storage.Store][]gate.Share{}
	disks := map[storage.Store]*audittest.Disk{}
	var current storage.Store
	storagetest.EachFailure(t, func(testing.TB) storage.Store {
		current = mem.New(mem.Config{})
		disks[current] = audittest.NewDisk()
		return current
	}, func(s storage.Store) error {
		seen := &noticing{Store: s}
		r := newRig(t, seen, disks[current])
		out, heard, err := r.gate.Begin(t.Context(), gate.InitIn{Shares: 3, Threshold: 2})
		if err != nil {
			return err
		}
		told[current] = out.Shares
		return errors.Join(heard(nil), seen.failed) // what fails after the end keeps nothing from being told
	}, func(t testing.TB, s storage.Store) {
		r := newRig(t, s, disks[s].Clone())
		st, err := r.gate.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		shares := told[s]
		if !st.Initialized {
			out, err := r.gate.Init(t.Context(), gate.InitIn{Shares: 3, Threshold: 2})
			if err != nil {
				t.Fatalf("Init again = %v", err)
			}
			shares = out.Shares
		}
		if len(shares) != 3 {
			t.Fatal("the store is initialized, and nobody has its shares")
		}
		submit(t, r, shares[:2])
		if r.gate.Sealed() {
			t.Error("the shares do not open the store")
		}
	})
}

// noticing is a store that remembers the last failure of an update.
type noticing struct {
	storage.Store
	failed error
}

func (n *noticing) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	err := n.Store.Update(ctx, locks, fn)
	if err != nil {
		n.failed = err
	}
	return err
}

// What nobody was told of is no store: it can be made anew, as often as need
// be, and nothing is left of it; what was told of after all opens it.
func TestInitThatNobodyHeardOf(t *testing.T) {
	want := gate.InitIn{Shares: 3, Threshold: 2}
	lost := errors.New("the caller is gone")
	for name, seals := range map[string][]gate.Auto{"people": nil, "a key file": {file(t)}} {
		t.Run(name, func(t *testing.T) {
			store, disk := mem.New(mem.Config{}), audittest.NewDisk()
			r := newRig(t, store, disk, seals...)
			var first gate.InitOut
			for range 3 {
				out, told, err := r.gate.Begin(t.Context(), want)
				if err != nil {
					t.Fatal(err)
				}
				first = out
				if err := told(lost); !errors.Is(err, lost) {
					t.Errorf("told = %v; want what went wrong", err)
				}
				if s, err := r.gate.Status(t.Context()); err != nil || s.Initialized {
					t.Fatalf("Status = %+v, %v; want it uninitialized", s, err)
				}
			}
			// The server is killed while it answers.
			if _, _, err := r.gate.Begin(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			again := newRig(t, store, disk.Clone(), seals...)
			if s, err := again.gate.Status(t.Context()); err != nil || s.Initialized {
				t.Fatalf("Status = %+v, %v; want it uninitialized", s, err)
			}
			if err := again.gate.AutoUnseal(t.Context()); len(seals) > 0 && !errors.Is(err, barrier.ErrUninitialized) {
				t.Errorf("AutoUnseal = %v; want it uninitialized", err)
			}
			out, err := again.gate.Init(t.Context(), want)
			if err != nil {
				t.Fatal(err)
			}
			if again.gate.Sealed() {
				submit(t, again, out.Shares[:2])
			}
			if err := again.call(t.Context(), out.RootToken, "probe/read"); err != nil {
				t.Errorf("a read = %v", err)
			}
			if err := again.call(t.Context(), first.RootToken, "probe/read"); err == nil {
				t.Error("a root token of what was begun before is good")
			}
			if _, err := again.gate.Init(t.Context(), want); !fault.Is(err, fault.Invalid) {
				t.Errorf("Init of a store that has been open = %v; want it invalid", err)
			}
		})
	}
}

// Shares that did arrive open the store although the server did not live to see it.
func TestSharesThatArrivedFinish(t *testing.T) {
	store, disk := mem.New(mem.Config{}), audittest.NewDisk()
	out, _, err := newRig(t, store, disk).gate.Begin(t.Context(), gate.InitIn{Shares: 3, Threshold: 2})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, store, disk.Clone())
	submit(t, r, out.Shares[1:])
	if err := r.call(t.Context(), out.RootToken, "probe/read"); err != nil {
		t.Errorf("a read = %v", err)
	}
	if err := r.gate.Shut(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.gate.Init(t.Context(), gate.InitIn{Shares: 3, Threshold: 2}); !fault.Is(err, fault.Invalid) {
		t.Errorf("Init of a store that has been open = %v; want it invalid", err)
	}
}

// While somebody is being told, everybody else waits: nothing answers that
// there is no store, or that there is one already.
func TestOthersWaitWhileInitIsTold(t *testing.T) {
	r := fresh(t, file(t))
	out, told, err := r.gate.Begin(t.Context(), gate.InitIn{})
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.call(gone, out.RootToken, "probe/read"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a read that does not wait = %v; want it unavailable", err)
	}
	read, status, second := make(chan error, 1), make(chan gate.Status, 1), make(chan error, 1)
	go func() { read <- r.call(t.Context(), out.RootToken, "probe/read") }()
	go func() {
		s, _ := r.gate.Status(t.Context())
		status <- s
	}()
	go func() {
		_, err := r.gate.Init(t.Context(), gate.InitIn{})
		second <- err
	}()
	if err := told(nil); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Errorf("a read = %v", err)
	}
	if s := <-status; !s.Initialized || s.Sealed {
		t.Errorf("Status = %+v; want it open", s)
	}
	if err := <-second; !fault.Is(err, fault.Invalid) {
		t.Errorf("a second Init = %v; want it invalid", err)
	}
}

// What would keep the store from being opened is found before there are keys.
func TestInitLooksFirst(t *testing.T) {
	store := mem.New(mem.Config{})
	g := gate.New(gate.Config{
		Store: store, Quorum: quorum{}, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler),
		Ready: func(context.Context) error { return errors.New("no sink") },
	})
	if _, err := g.Init(t.Context(), gate.InitIn{Shares: 1, Threshold: 1}); err == nil || !strings.Contains(err.Error(), "no sink") {
		t.Errorf("Init = %v; want what is not ready", err)
	}
	if _, err := barrier.Stanzas(t.Context(), store); !errors.Is(err, barrier.ErrUninitialized) {
		t.Errorf("Stanzas = %v; want that nothing was made", err)
	}
}
