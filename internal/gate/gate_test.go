package gate_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/audit/audittest"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/broker/brokertest"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/seal/age"
	"rotunda.dev/rotunda/internal/seal/keyfile"
	"rotunda.dev/rotunda/internal/seal/shamir"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

// quorum is Shamir's scheme as the gate asks for it.
type quorum struct{}

func (quorum) Kind() string { return shamir.Kind }

func (quorum) Split(root secret.Bytes, binding []byte, shares, threshold int) (seal.Stanza, []gate.Share, error) {
	st, made, err := shamir.Split(root, shares, threshold, binding)
	out := make([]gate.Share, len(made))
	for i, s := range made {
		out[i] = gate.Share{Hex: s.Hex(), Base64: s.Base64()}
	}
	return st, out, err
}

func (quorum) Collect(st seal.Stanza, binding []byte) (gate.Collection, error) {
	c, err := shamir.NewCollect(st, binding)
	return collection{c}, err
}

type collection struct{ c *shamir.Collect }

func (c collection) Add(share secret.Text) (secret.Bytes, error) { return c.c.Add(share) }

func (c collection) Progress() (have, threshold, total int) {
	p := c.c.Progress()
	return p.Have, p.Threshold, p.Shares
}
func (c collection) Nonce() string { return c.c.Progress().Nonce }
func (c collection) Wipe()         { c.c.Reset() }

// rig is a gate and what it stands on.
type rig struct {
	gate    *gate.Gate
	store   storage.Store
	disk    *audittest.Disk
	journal *audit.Journal
	probe   *brokertest.Probe
	broken  atomic.Bool // building a broker fails
}

func newRig(t testing.TB, store storage.Store, disk *audittest.Disk, auto ...gate.Auto) *rig {
	t.Helper()
	r := &rig{store: store, disk: disk, probe: brokertest.NewProbe(), journal: brokertest.Journal(t, disk)}
	r.gate = gate.New(gate.Config{
		Store: store, Journal: r.journal, Auto: auto, Quorum: quorum{}, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler),
		Recipients: func(keys []string) seal.Sealer { return age.New(age.Config{Recipients: keys}) },
		Build: func(ctx context.Context, b *barrier.Barrier) (*broker.Broker, error) {
			if r.broken.Load() {
				return nil, errors.New("broken as asked")
			}
			return brokertest.Build(ctx, b, r.journal, r.probe)
		},
	})
	t.Cleanup(func() { _ = r.gate.Shut() })
	return r
}

// copied is newRig with a copy of the journal, of which the store knows nothing.
func copied(t testing.TB, store storage.Store, disk *audittest.Disk, auto ...gate.Auto) *rig {
	t.Helper()
	if err := audit.Forget(context.Background(), store); err != nil {
		t.Fatal(err)
	}
	return newRig(t, store, disk.Clone(), auto...)
}

func fresh(t testing.TB, auto ...gate.Auto) *rig {
	t.Helper()
	return newRig(t, mem.New(mem.Config{}), audittest.NewDisk(), auto...)
}

func file(t testing.TB) gate.Auto {
	t.Helper()
	path := filepath.Join(t.TempDir(), "seal.key")
	if err := keyfile.Create(path); err != nil {
		t.Fatal(err)
	}
	return gate.Auto{Kind: keyfile.Kind, Sealer: keyfile.New(keyfile.Config{Path: path})}
}

// call runs an operation of the probe's.
func (r *rig) call(ctx context.Context, root secret.Text, path string) error {
	return r.gate.With(ctx, func(ctx context.Context, b *broker.Broker) error {
		_, err := b.Handle(ctx, brokertest.Request(root, op.Read, path))
		return err
	})
}

func wantSealed(t *testing.T, r *rig, root secret.Text) {
	t.Helper()
	ran := r.probe.Ran.Load()
	if err := r.call(t.Context(), root, "probe/read"); !errors.Is(err, gate.ErrSealed) || !fault.Is(err, fault.Sealed) {
		t.Errorf("a read = %v; want it sealed", err)
	}
	if !r.gate.Sealed() || r.probe.Ran.Load() != ran {
		t.Error("the gate is not shut")
	}
}

func TestShares(t *testing.T) {
	r := fresh(t)
	ctx := t.Context()
	if s, err := r.gate.Status(ctx); err != nil || s.Initialized || !s.Sealed {
		t.Errorf("Status of an empty store = %+v, %v", s, err)
	}
	if err := r.gate.Submit(ctx, secret.New("00")); !fault.Is(err, fault.Invalid) {
		t.Errorf("Submit to an empty store = %v", err)
	}
	wantSealed(t, r, secret.New(""))
	for _, in := range []gate.InitIn{{}, {Shares: 3, Threshold: 1}, {Shares: 2, Threshold: 3}, {Shares: 256, Threshold: 3}, {Shares: -1, Threshold: -1}, {Shares: 1, Threshold: 0}} {
		if _, err := r.gate.Init(ctx, in); !fault.Is(err, fault.Invalid) {
			t.Errorf("Init(%+v) = %v; want it invalid", in, err)
		}
	}
	made, err := r.gate.Init(ctx, gate.InitIn{Shares: 5, Threshold: 3})
	if err != nil || len(made.Shares) != 5 || made.RootToken.Empty() {
		t.Fatalf("Init = %d shares, %v", len(made.Shares), err)
	}
	wantSealed(t, r, made.RootToken) // it takes people to open it
	if _, err := r.gate.Init(ctx, gate.InitIn{Shares: 5, Threshold: 3}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a second Init = %v; want it invalid", err)
	}
	for round, pick := range [][]int{{0, 1, 2}, {4, 2, 0}} {
		for i, at := range pick {
			share := made.Shares[at].Hex
			if round == 1 {
				share = made.Shares[at].Base64
			}
			if err := r.gate.Submit(ctx, share); err != nil {
				t.Fatalf("share %d: %v", at, err)
			}
			s, err := r.gate.Status(ctx)
			if err != nil || s.Shares != 5 || s.Threshold != 3 || !s.Initialized {
				t.Fatalf("Status = %+v, %v", s, err)
			}
			if i < 2 && (!s.Sealed || s.Progress != i+1 || s.Nonce == "") || i == 2 && (s.Sealed || s.Progress != 0 || s.ClusterID == "") {
				t.Errorf("Status after %d shares = %+v", i+1, s)
			}
			if i == 0 {
				if err := r.gate.Submit(ctx, share); err != nil && !fault.Is(err, fault.Invalid) {
					t.Errorf("the same share again = %v", err)
				}
				if err := r.gate.Submit(ctx, secret.New("not a share")); !fault.Is(err, fault.Invalid) {
					t.Errorf("what is no share = %v; want it invalid", err)
				}
			}
		}
		if err := r.call(ctx, made.RootToken, "probe/read"); err != nil {
			t.Errorf("a read once unsealed = %v", err)
		}
		if err := r.gate.Submit(ctx, made.Shares[0].Hex); err != nil {
			t.Errorf("Submit while unsealed = %v", err)
		}
		if err := r.gate.Shut(); err != nil {
			t.Fatal(err)
		}
		wantSealed(t, r, made.RootToken)
	}
	if err := r.gate.Submit(ctx, made.Shares[0].Hex); err != nil {
		t.Fatal(err)
	}
	r.gate.Reset()
	if s, err := r.gate.Status(ctx); err != nil || s.Progress != 0 {
		t.Errorf("Status after Reset = %+v, %v", s, err)
	}
	// Shares of another store are of no use here.
	other := fresh(t)
	foreign, err := other.gate.Init(ctx, gate.InitIn{Shares: 5, Threshold: 3})
	if err != nil {
		t.Fatal(err)
	}
	failed := false
	for _, s := range foreign.Shares[:3] {
		failed = r.gate.Submit(ctx, s.Hex) != nil || failed
	}
	if !failed {
		t.Error("shares of another store are taken")
	}
	wantSealed(t, r, made.RootToken)
}

func TestAutoUnseal(t *testing.T) {
	one, two := file(t), file(t)
	r := fresh(t, one, two)
	ctx := t.Context()
	if err := r.gate.AutoUnseal(ctx); !errors.Is(err, barrier.ErrUninitialized) {
		t.Errorf("AutoUnseal of an empty store = %v", err)
	}
	made, err := r.gate.Init(ctx, gate.InitIn{Shares: 3, Threshold: 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.call(ctx, made.RootToken, "probe/read"); err != nil {
		t.Errorf("a read after Init = %v", err)
	}
	if err := r.gate.Shut(); err != nil {
		t.Fatal(err)
	}
	missing := gate.Auto{Kind: keyfile.Kind, Sealer: keyfile.New(keyfile.Config{Path: filepath.Join(t.TempDir(), "gone")})}
	for what, c := range map[string]struct {
		auto []gate.Auto
		open bool
	}{
		"both": {[]gate.Auto{one, two}, true}, "the second alone": {[]gate.Auto{two}, true}, "the first is missing": {[]gate.Auto{missing, two}, true},
		"another key": {[]gate.Auto{file(t)}, false}, "another, then ours": {[]gate.Auto{file(t), one}, true}, "none": {nil, false},
	} {
		t.Run(what, func(t *testing.T) {
			again := copied(t, r.store, r.disk, c.auto...)
			err := again.gate.AutoUnseal(t.Context())
			if (err == nil) != (c.open || len(c.auto) == 0) {
				t.Errorf("AutoUnseal = %v", err)
			}
			if !c.open {
				wantSealed(t, again, made.RootToken)
			} else if err := again.call(t.Context(), made.RootToken, "probe/read"); err != nil {
				t.Errorf("a read = %v", err)
			}
			if err := again.gate.AutoUnseal(t.Context()); c.open && err != nil {
				t.Errorf("AutoUnseal of an open gate = %v", err)
			}
		})
	}
	// People can open it too.
	again := copied(t, r.store, r.disk)
	for _, s := range made.Shares[:2] {
		if err := again.gate.Submit(ctx, s.Hex); err != nil {
			t.Fatal(err)
		}
	}
	if err := again.call(ctx, made.RootToken, "probe/read"); err != nil {
		t.Errorf("a read after people opened it = %v", err)
	}
}

// While it is opened and shut under load, what is let in is answered whole or
// told to end, and nothing runs while it is shut.
func TestOpenAndShutUnderLoad(t *testing.T) {
	r := fresh(t, file(t))
	ctx, stop := context.WithCancel(t.Context())
	made, err := r.gate.Init(ctx, gate.InitIn{})
	if err != nil {
		t.Fatal(err)
	}
	var answered, sealed atomic.Int64
	var all sync.WaitGroup
	for i := range 16 {
		path := []string{"probe/read", "probe/refuse", "probe/panic", "probe/wait"}[i%4]
		all.Go(func() {
			for ctx.Err() == nil {
				err := r.call(ctx, made.RootToken, path)
				switch {
				case errors.Is(err, gate.ErrSealed):
					sealed.Add(1)
				case err == nil, fault.Is(err, fault.Invalid), fault.Is(err, fault.Internal):
					answered.Add(1)
				case fault.Is(err, fault.Unavailable), errors.Is(err, context.Canceled):
				default:
					t.Errorf("%s = %v", path, err)
				}
				for len(r.probe.Entered) > 0 {
					<-r.probe.Entered
				}
			}
		})
	}
	for round := range 25 {
		before := answered.Load()
		for answered.Load() == before {
			if err := r.call(ctx, made.RootToken, "probe/read"); err != nil {
				t.Fatalf("round %d: a read while open = %v", round, err)
			}
		}
		if round%2 == 0 {
			if err := r.gate.Shut(); err != nil {
				t.Fatalf("round %d: Shut = %v", round, err)
			}
		} else {
			r.gate.ShutSoon()
		}
		if !r.gate.Sealed() {
			t.Fatalf("round %d: it is not shut", round)
		}
		if round%2 == 0 {
			ran := r.probe.Ran.Load()
			_ = r.call(ctx, made.RootToken, "probe/read")
			if r.probe.Ran.Load() != ran {
				t.Fatalf("round %d: an operation ran while it was shut", round)
			}
		}
		if err := r.gate.AutoUnseal(ctx); err != nil {
			t.Fatalf("round %d: AutoUnseal = %v", round, err)
		}
	}
	stop()
	all.Wait()
	t.Logf("%d answered, %d refused", answered.Load(), sealed.Load())
	if err := r.gate.Shut(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.journal.Reader().Verify(t.Context(), nil); err != nil {
		t.Errorf("the journal: %v", err)
	}
}

// Many who open and shut at once leave it open or shut.
func TestRaces(t *testing.T) {
	r := fresh(t, file(t))
	made, err := r.gate.Init(t.Context(), gate.InitIn{})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			for range 5 {
				var err error
				switch i % 4 {
				case 0:
					err = r.gate.AutoUnseal(t.Context())
				case 1:
					err = r.gate.Shut()
				case 2:
					r.gate.ShutSoon()
				case 3:
					_, err = r.gate.Status(t.Context())
				}
				if err != nil {
					t.Errorf("%d: %v", i%4, err)
				}
			}
		})
	}
	all.Wait()
	if err := r.gate.Shut(); err != nil {
		t.Fatal(err)
	}
	if err := r.gate.AutoUnseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.call(t.Context(), made.RootToken, "probe/read"); err != nil {
		t.Errorf("a read at the end = %v", err)
	}
}

// A request inside that waits is told to end, so sealing does not wait for it.
func TestShutTellsThoseInside(t *testing.T) {
	r := fresh(t, file(t))
	made, err := r.gate.Init(t.Context(), gate.InitIn{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.call(t.Context(), made.RootToken, "probe/wait") }()
	<-r.probe.Entered
	if err := r.gate.Shut(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("the request inside ended well")
	}
}

// What cannot be opened stays shut, and can be opened later.
func TestOpenFails(t *testing.T) {
	key := file(t)
	r := fresh(t, key)
	made, err := r.gate.Init(t.Context(), gate.InitIn{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.gate.Shut(); err != nil {
		t.Fatal(err)
	}
	r.broken.Store(true)
	for range 3 {
		if err := r.gate.AutoUnseal(t.Context()); err == nil {
			t.Error("AutoUnseal went well with a broker that cannot be built")
		}
		wantSealed(t, r, made.RootToken)
	}
	r.broken.Store(false)
	if err := r.gate.AutoUnseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.call(t.Context(), made.RootToken, "probe/read"); err != nil {
		t.Errorf("a read = %v", err)
	}
}

// A journal that cannot be written keeps the gate shut.
func TestOpenWithoutJournal(t *testing.T) {
	r := fresh(t, file(t))
	made, err := r.gate.Init(t.Context(), gate.InitIn{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.gate.Shut(); err != nil {
		t.Fatal(err)
	}
	r.disk.FailSyncs(errors.New("no"))
	if err := r.gate.AutoUnseal(t.Context()); err == nil {
		t.Error("AutoUnseal went well without a journal")
	}
	wantSealed(t, r, made.RootToken)
}

// A crash during Init, at each of its commits, leaves a store that can be
// initialized, or one that can be opened.
func TestInitCrashes(t *testing.T) {
	key := file(t)
	disks := map[storage.Store]*audittest.Disk{}
	var current storage.Store
	storagetest.EachFailure(t, func(testing.TB) storage.Store {
		current = mem.New(mem.Config{})
		disks[current] = audittest.NewDisk()
		return current
	}, func(s storage.Store) error {
		r := newRig(t, s, disks[current], key)
		_, err := r.gate.Init(t.Context(), gate.InitIn{NoRootToken: true})
		if err != nil && !errors.Is(err, storagetest.ErrInjected) {
			return fmt.Errorf("%w: %w", storagetest.ErrInjected, err) // the journal, which has the store's failure behind it
		}
		return err
	}, func(t testing.TB, s storage.Store) {
		r := newRig(t, s, disks[s].Clone(), key)
		err := r.gate.AutoUnseal(t.Context())
		if errors.Is(err, barrier.ErrUninitialized) {
			_, err = r.gate.Init(t.Context(), gate.InitIn{NoRootToken: true})
		}
		if err != nil {
			t.Errorf("after a crash: %v", err)
			return
		}
		var root secret.Text
		err = r.gate.With(t.Context(), func(ctx context.Context, b *broker.Broker) (err error) {
			root, err = b.IssueRoot(ctx, time.Now())
			return err
		})
		if err == nil {
			err = r.call(t.Context(), root, "probe/read")
		}
		if err != nil {
			t.Errorf("after a crash: %v", err)
		}
	})
}

// Opening and sealing are in the journal.
func TestEvents(t *testing.T) {
	r := fresh(t, file(t))
	if _, err := r.gate.Init(t.Context(), gate.InitIn{}); err != nil {
		t.Fatal(err)
	}
	if err := r.gate.Shut(); err != nil {
		t.Fatal(err)
	}
	if err := r.gate.AutoUnseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	var events []string
	for rec, err := range r.journal.Reader().Records(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		if rec.Kind == audit.Event {
			events = append(events, rec.Event)
		}
	}
	said := strings.Join(events, " ")
	for _, want := range []string{"initialized", "sealed", "unsealed"} {
		if !strings.Contains(said, want) {
			t.Errorf("the journal has the events %q; want %s in it", said, want)
		}
	}
	t.Log(said)
}
