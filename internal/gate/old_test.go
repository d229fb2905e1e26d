package gate_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/audit/audittest"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/broker/brokertest"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/pin"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

// pinned is a gate that remembers its store in a directory.
func pinned(t testing.TB, store storage.Store, disk *audittest.Disk, dir string) *rig {
	t.Helper()
	r := &rig{store: store, disk: disk, probe: brokertest.NewProbe(), journal: brokertest.Journal(t, disk)}
	log := slog.New(slog.DiscardHandler)
	r.gate = gate.New(gate.Config{
		Store: store, Journal: r.journal, Quorum: quorum{}, Clock: clock.System{}, Log: log,
		Pins: &pin.Book{
			Dir: dir, Clock: clock.System{}, Log: log,
			Write: func(path string, text []byte) error { return os.WriteFile(path, text, 0o600) },
		},
		Build: func(ctx context.Context, b *barrier.Barrier) (*broker.Broker, error) {
			return brokertest.Build(ctx, b, r.journal, r.probe)
		},
	})
	t.Cleanup(func() { _ = r.gate.Shut() })
	return r
}

// forget damages what a node remembers of its store.
func forget(t testing.TB, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "pin-*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("pins: %v, %v; want one", files, err)
	}
	if err := os.WriteFile(files[0], []byte(`{"format":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
}

// accept accepts the store as it is, by shares, and ends every token.
func (r *rig) accept(ctx context.Context, shares []gate.Share) error {
	stanzas, err := barrier.Stanzas(ctx, r.store)
	if err != nil {
		return err
	}
	binding, err := barrier.Binding(ctx, r.store)
	if err != nil {
		return err
	}
	c, err := quorum{}.Collect(stanzas[0], binding)
	if err != nil {
		return err
	}
	var root secret.Bytes
	for _, share := range shares {
		root, err = c.Add(share.Hex)
	}
	if err != nil {
		return err
	}
	defer root.Wipe()
	return r.gate.AcceptOld(ctx, root, func(ctx context.Context, b *broker.Broker) error {
		_, err := b.Parts().Tokens.EndAll(ctx, clock.System{}.Now())
		return err
	})
}

func (r *rig) bring(ctx context.Context, shares []gate.Share) error {
	for _, share := range shares {
		if err := r.gate.Submit(ctx, share.Hex); err != nil {
			return err
		}
	}
	return nil
}

// TestAcceptOldCrashes fails each commit of accepting a store that was refused:
// it is refused still, and can be accepted then; or it is open, and every token
// has ended.
func TestAcceptOldCrashes(t *testing.T) {
	var (
		made gate.InitOut
		disk *audittest.Disk
		dir  string
	)
	open := func(t testing.TB) storage.Store {
		disk, dir = audittest.NewDisk(), t.TempDir()
		s := mem.New(mem.Config{})
		r := pinned(t, s, disk, dir)
		made = initialized(t, r, 3, 2)
		if err := r.gate.Shut(); err != nil {
			t.Fatal(err)
		}
		forget(t, dir)
		return s
	}
	opened, again := 0, 0
	storagetest.EachFailure(t, open, func(s storage.Store) error {
		disk = disk.Clone()
		err := pinned(t, s, disk, dir).accept(context.Background(), made.Shares[:2])
		if err == nil { // what the journal writes at its end may fail: it is looked at by the next start
			err = s.Update(context.Background(), storage.Locks{}, func(storage.Tx) error { return nil })
		}
		return err
	}, func(t testing.TB, s storage.Store) {
		disk = disk.Clone()
		r := pinned(t, s, disk, dir)
		err := r.bring(t.Context(), made.Shares[:2])
		if err != nil {
			again++
			if !fault.Is(err, fault.Invalid) || !errors.Is(err, pin.ErrDamaged) || !strings.Contains(err.Error(), "rotunda operator accept-rollback") {
				t.Fatalf("Submit = %v; want it refused, with what to do", err)
			}
			if !r.gate.Sealed() {
				t.Error("the gate is open though the store was refused")
			}
			if err := r.accept(t.Context(), made.Shares[:2]); err != nil {
				t.Fatalf("AcceptOld again = %v", err)
			}
			if err := r.bring(t.Context(), made.Shares[:2]); err != nil {
				t.Fatalf("Submit after it was accepted = %v", err)
			}
		} else {
			opened++
		}
		if err := r.call(t.Context(), made.RootToken, "probe/read"); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("a token of the store as it was = %v; want it ended", err)
		}
	})
	if opened == 0 || again < 4 {
		t.Errorf("%d times it was open, %d times refused: the crashes did not happen", opened, again)
	}
}

func TestAcceptOldRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk := audittest.NewDisk()
	r := pinned(t, mem.New(mem.Config{}), disk, dir)
	made := initialized(t, r, 3, 2)
	if err := r.gate.Shut(); err != nil {
		t.Fatal(err)
	}
	if err := r.accept(t.Context(), made.Shares[:2]); !fault.Is(err, fault.Invalid) {
		t.Errorf("AcceptOld of a store that is not old = %v; want invalid", err)
	}
	if err := r.bring(t.Context(), made.Shares[:2]); err != nil {
		t.Fatal(err)
	}
	if err := r.call(t.Context(), made.RootToken, "probe/read"); err != nil {
		t.Errorf("a read after a refused acceptance = %v", err)
	}
}

// TestStoreWithoutAPinIsTold opens a store of which the node knows nothing.
func TestStoreWithoutAPinIsTold(t *testing.T) {
	t.Parallel()
	disk := audittest.NewDisk()
	s := mem.New(mem.Config{})
	r := pinned(t, s, disk, t.TempDir())
	made := initialized(t, r, 3, 2)
	if err := r.gate.Shut(); err != nil {
		t.Fatal(err)
	}
	other := pinned(t, s, disk.Clone(), t.TempDir())
	if err := other.bring(t.Context(), made.Shares[:2]); err != nil {
		t.Fatal(err)
	}
	told := 0
	err := other.journal.Reader().Search(t.Context(), audit.Filter{OldestFirst: true}, func(rec *audit.Record) error {
		if rec.Event == "store-without-a-pin" {
			told++
		}
		return nil
	})
	if err != nil || told != 1 {
		t.Errorf("recorded %d times, %v; want once", told, err)
	}
}
