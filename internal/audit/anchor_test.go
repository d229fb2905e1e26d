package audit_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/audit/audittest"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/storage"
)

func mustStored(t testing.TB, s storage.Store) *audit.Anchor {
	t.Helper()
	a, err := audit.StoredAnchor(t.Context(), s)
	if err != nil || a == nil {
		t.Fatalf("StoredAnchor() = %v, %v; want one", a, err)
	}
	return a
}

// A journal from which records are missing that were durable is not unlocked,
// whatever else of its directory was changed along with them, and the error
// says which they are. Either of what knows of it is enough.
func TestAJournalThatIsNotWhatWasDurableIsRefused(t *testing.T) {
	g := newRig(t)
	j := g.Open(t)
	mustAppend(t, j, 0, 40)
	old := g.Disk.Clone()
	mustAppend(t, j, 40, 80)
	mustClose(t, j)
	other := newRig(t)
	oj := other.Open(t)
	mustAppend(t, oj, 0, 200)
	mustClose(t, oj)
	known, all := g.Anchors(t), mustStored(t, g.Store).Last
	segs := withPrefix(t, g.Disk, "journal-0")
	if all != 82 || len(segs) < 3 {
		t.Fatalf("the anchor is at %d of 82 records in %d segments", all, len(segs))
	}
	remove := func(d *audittest.Disk, names ...string) {
		for _, n := range names {
			d.Change(n, func([]byte) []byte { return nil })
		}
	}
	cases := []struct {
		name, want string
		make       func() *audittest.Disk
		storeOnly  bool
	}{
		{"all of it is removed", "records 1 to 82", func() *audittest.Disk { return audittest.NewDisk() }, false},
		{"its segments and head are removed", "records 1 to 82", func() *audittest.Disk {
			d := g.Disk.Clone()
			remove(d, append(segs, "journal-head")...)
			return d
		}, false},
		{"the last segments and the head are removed", "82 are missing", func() *audittest.Disk {
			d := g.Disk.Clone()
			remove(d, append(slices.Clone(segs[1:]), "journal-head")...)
			return d
		}, false},
		{"the last record is cut off, and the head removed", "record 82 is missing", func() *audittest.Disk {
			d := g.Disk.Clone()
			last := segs[len(segs)-1]
			d.Change(last, func(b []byte) []byte {
				ends := append([]int{128}, frameEnds(t, b)...)
				return b[:ends[len(ends)-2]]
			})
			remove(d, "journal-head")
			return d
		}, false},
		{"the first segment and the head are removed", "records 1 to ", func() *audittest.Disk {
			d := g.Disk.Clone()
			remove(d, segs[0], "journal-head")
			return d
		}, true},
		{"it is put back as it was", "82 are missing", func() *audittest.Disk { return old.Clone() }, false},
		{"another is in its place", "records 1 to 82", func() *audittest.Disk { return other.Disk.Clone() }, false},
		{"others follow the first", "record 82 is not the one", func() *audittest.Disk {
			d := old.Clone()
			forged := g.On(t, d)
			j := forged.Open(t)
			mustAppend(t, j, 300, 400)
			mustClose(t, j)
			return d
		}, false},
	}
	for _, c := range cases {
		disk := c.make()
		for what, a := range map[string]audittest.Anchors{"the store": {Store: known.Store}, "the keys": {Keys: known.Keys}} {
			t.Run(c.name+", known to "+what, func(t *testing.T) {
				if c.storeOnly && a.Store == nil {
					t.Log("records before are not counted there: retention may have removed them")
					return
				}
				g := g.On(t, disk.Clone())
				g.SetAnchors(t, a)
				_, err := g.TryOpen()
				if _, ok := errors.AsType[*audit.Damage](err); !ok || !errors.Is(err, audit.ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Unlock = %v, want damage with %q", err, c.want)
				}
			})
		}
	}
	t.Run("the plain one", func(t *testing.T) {
		g := g.On(t, g.Disk.Clone())
		g.SetAnchors(t, known)
		mustClose(t, g.Open(t))
	})
	t.Run("the head alone is missing", func(t *testing.T) {
		d := g.Disk.Clone()
		remove(d, "journal-head")
		g := g.On(t, d)
		g.SetAnchors(t, known)
		j := g.Open(t)
		if !slices.ContainsFunc(audittest.Records(t, j.Reader()), func(r *audit.Record) bool { return r.Event == "journal-anchor-damaged" }) {
			t.Error("no record says that the head was missing")
		}
		mustClose(t, j)
	})
	t.Run("anchors of somebody else", func(t *testing.T) {
		forged := audittest.Anchors{Store: slices.Clone(known.Store), Keys: []byte("nothing")}
		forged.Store[39]++ // one record more, and the sum put right
		resum(forged.Store)
		g := g.On(t, g.Disk.Clone())
		g.SetAnchors(t, forged)
		j := g.Open(t)
		n := 0
		for _, r := range audittest.Records(t, j.Reader()) {
			if r.Event == "journal-anchor-damaged" {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%d records of anchors that are not believed, want 2", n)
		}
		mustClose(t, j)
		if a := mustStored(t, g.Store); a.Last <= all {
			t.Errorf("the anchor is at %d, want it written anew", a.Last)
		}
	})
	t.Run("a copy of the store that was told to forget", func(t *testing.T) {
		g := g.On(t, audittest.NewDisk())
		g.SetAnchors(t, known)
		if err := errors.Join(audit.Forget(t.Context(), g.Store), audit.ForgetPinned(g.Config.KeysDir)); err != nil {
			t.Fatal(err)
		}
		mustClose(t, g.Open(t))
	})
}

// While nothing is locked or removed, the anchors follow within ten seconds,
// at one transaction each time; where nothing is recorded, there is none.
func TestAnchorsFollowTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		counted := &counting{Store: g.Store}
		g.Store = counted
		j := g.Open(t)
		mustAppend(t, j, 0, 100)
		updates := counted.updates()
		pass := func(d time.Duration) {
			t.Helper()
			if err := (clock.System{}).Wait(t.Context(), clock.System{}.Now().Add(d)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		pass(11 * time.Second)
		if a := mustStored(t, g.Store); a.Last != 101 || a.First != 1 {
			t.Errorf("after ten seconds the store knows %v, want records 1 to 101", a)
		}
		pinned, err := audit.PinnedAnchor(g.Config.KeysDir)
		if err != nil || pinned.Last != 101 {
			t.Errorf("after ten seconds the keys know %v, %v; want records 1 to 101", pinned, err)
		}
		pass(time.Minute)
		if n := counted.updates() - updates; n != 1 {
			t.Errorf("%d transactions for 100 records and a minute of nothing, want 1", n)
		}
		mustClose(t, j)
	})
}

// Writes take the anchor along when their rows are deleted.
func TestAnchorsComeWithTheOutbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		j := g.Open(t)
		for i := range 10 {
			if err := carry(t.Context(), g.Store, j.Rider(func() (*audit.Record, error) { return audittest.Record(i), nil }), i); err != nil {
				t.Fatal(err)
			}
		}
		if err := (clock.System{}).Wait(t.Context(), clock.System{}.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if a := mustStored(t, g.Store); a.Last != 11 {
			t.Errorf("a second after ten writes the store knows %v, want records 1 to 11", a)
		}
		mustClose(t, j)
	})
}

// Retention tells the store before it removes anything.
func TestRetentionMovesTheAnchorFirst(t *testing.T) {
	g := newRig(t)
	g.Config.KeepBytes = 40 << 10
	d := &steps{Disk: g.Disk, all: true}
	g.Config.Disk = d
	d.hook = func() {
		names, _ := g.Disk.Names()
		a, err := audit.StoredAnchor(context.Background(), g.Store)
		if err != nil || a == nil {
			return
		}
		for _, n := range names {
			if strings.HasPrefix(n, "journal-0") {
				if first := fmt.Sprintf("journal-%020d.seg", a.First); n > first {
					t.Errorf("%s is the first segment, and the store knows of %s", n, first)
				}
				return
			}
		}
	}
	j := g.Open(t)
	for i := range 10 {
		appendMany(t, j, 60*i, 60*(i+1))
	}
	mustClose(t, j)
	if a := mustStored(t, g.Store); a.First == 1 {
		t.Error("nothing was removed")
	}
	g.Config.Disk = g.Disk
	mustClose(t, g.Open(t))
}

// counting counts the transactions of a store, and calls after each that wrote
// an anchor.
type counting struct {
	storage.Store
	mu    sync.Mutex
	n     int
	after func()
}

func (s *counting) updates() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

func (s *counting) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	err := s.Store.Update(ctx, locks, fn)
	s.mu.Lock()
	s.n++
	after := s.after
	s.mu.Unlock()
	if after != nil && err == nil && slices.Contains(locks.Own, "\x02anchor") {
		after()
	}
	return err
}

// Power is lost before and after each thing that is written of journal, tree
// and anchor: the anchor never knows of more than there is, and each write that
// was kept has its record once.
func TestCrashAtEveryStepOfTheAnchor(t *testing.T) {
	g := newRig(t)
	g.Config = audit.WithBundles(g.Config, 4)
	g.Config.KeepBytes = 60 << 10
	counted := &counting{Store: g.Store}
	inner := g.Store
	g.Store = counted
	d := &steps{Disk: g.Disk, all: true}
	g.Config.Disk = d
	type crash struct {
		disk  *audittest.Disk
		known audittest.Anchors
		rows  []row
		acked int
	}
	var (
		mu      sync.Mutex
		crashes []crash
		acked   int
		scope   string
	)
	rng := rand.New(rand.NewPCG(3, 4))
	bare := *g
	bare.Store = inner
	hook := func() {
		mu.Lock()
		defer mu.Unlock()
		c := crash{acked: acked}
		if scope != "" {
			c.rows = scan(t, inner, scope)
		}
		c.disk, c.known = bare.Crash(t, func() *audittest.Disk { return g.Disk.Crash(rng) })
		crashes = append(crashes, c)
	}
	d.hook = hook
	counted.after = hook
	j := certified(t, g)
	id, err := j.Reader().JournalID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	scope = "\x02outbox" + string(id[:])
	mu.Unlock()
	for i := range 60 {
		if i%3 == 0 {
			mustAppend(t, j, 1000+i, 1001+i)
		}
		if err := carry(t.Context(), g.Store, j.Rider(func() (*audit.Record, error) { return audittest.Record(i), nil }), i); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		acked = i + 1
		mu.Unlock()
	}
	mustClose(t, j)
	if len(crashes) < 100 {
		t.Fatalf("%d crashes, want many", len(crashes))
	}
	step := 3 // each one syncs real files some ten times
	if testing.Short() || detecting {
		step = 13
	}
	for i := 0; i < len(crashes); i += step {
		c := crashes[i]
		after := *g
		after.Store = restored(t, c.rows)
		at := after.On(t, c.disk)
		at.SetAnchors(t, c.known)
		j, err := at.TryOpen()
		if err != nil {
			t.Fatalf("crash %d: opening the journal: %v", i, err)
		}
		if err := j.Certify(seed(1), cluster); err != nil {
			t.Fatalf("crash %d: Certify() = %v", i, err)
		}
		times := map[string]int{}
		first := uint64(0)
		for _, r := range audittest.Records(t, j.Reader()) {
			if first == 0 {
				first = r.Seq
			}
			times[r.RequestID]++
		}
		for n := range c.acked {
			id := audittest.Record(n).RequestID
			if times[id] > 1 || times[id] == 0 && first == 1 {
				t.Errorf("crash %d: %s is recorded %d times, want once", i, id, times[id])
			}
		}
		mustClose(t, j)
		mustClose(t, at.Open(t))
	}
}

func scan(t testing.TB, s storage.Store, scope string) (out []row) {
	t.Helper()
	err := s.View(t.Context(), func(r storage.Reader) error {
		items, _, err := r.Scan(scope, "", "", 10000)
		for _, it := range items {
			out = append(out, row{scope, it})
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return out
}

// home is a journal on a real directory.
func home(t testing.TB) *audittest.Rig {
	t.Helper()
	g := newRig(t)
	g.Config.Disk = nil
	return g
}

func openHome(t testing.TB, g *audittest.Rig, dir string) (*audit.Journal, error) {
	t.Helper()
	j, err := audit.Open(dir, g.Config)
	if err != nil {
		return nil, err
	}
	if err := j.Unlock(g.Key.Clone(), g.Store); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

func acceptLoss(t testing.TB, g *audittest.Rig, dir string) (*audit.Loss, error) {
	t.Helper()
	stored, err := audit.StoredAnchor(t.Context(), g.Store)
	if err != nil {
		t.Fatal(err)
	}
	return audit.AcceptLoss(t.Context(), dir, g.Config.KeysDir, stored, audit.Trust{}, time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
}

// Nothing but the acceptance of a loss lets a node go on without records; it is
// said in the first record of the journal that begins, what is left is kept,
// and what waited in the store is recorded.
func TestAcceptLoss(t *testing.T) {
	damage := func(change func(b []byte) []byte, name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, name), change(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	const first = "journal-00000000000000000001.seg"
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  string
		left  int // records that can be read of what was put aside
	}{
		"the journal is removed": {func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}, "records 1 to 24 of journal", 0},
		"a byte is damaged": {damage(func(b []byte) []byte { b[frameEnds(t, b)[3]+60] ^= 1; return b }, first), "record 5: the checksum is wrong", 23},
		"it ends early": {func(t *testing.T, dir string) {
			damage(func(b []byte) []byte { return b[:frameEnds(t, b)[3]] }, first)(t, dir)
			if err := os.Remove(filepath.Join(dir, "journal-head")); err != nil {
				t.Fatal(err)
			}
		}, "records 5 to 24 are missing", 4},
	} {
		t.Run(name, func(t *testing.T) {
			g, dir := home(t), filepath.Join(t.TempDir(), "audit")
			g.Config.SegmentBytes = 64 << 10
			j, err := openHome(t, g, dir)
			if err != nil {
				t.Fatal(err)
			}
			mustAppend(t, j, 0, 22)
			unheard(t, g, j.Rider(func() (*audit.Record, error) { return audittest.Record(99), nil }))
			mustClose(t, j)
			if _, err := acceptLoss(t, g, dir); !errors.Is(err, audit.ErrWhole) {
				t.Fatalf("AcceptLoss of a whole journal = %v, want ErrWhole", err)
			}
			c.spoil(t, dir)
			for range 2 {
				if _, err := openHome(t, g, dir); !errors.Is(err, audit.ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("Unlock = %v, want damage with %q", err, c.want)
				}
			}
			l, err := acceptLoss(t, g, dir)
			if err != nil || !strings.Contains(l.Found, c.want) {
				t.Fatalf("AcceptLoss = %+v, %v; want %q", l, err, c.want)
			}
			if again, err := acceptLoss(t, g, dir); err != nil || again.Found != l.Found {
				t.Errorf("AcceptLoss again = %+v, %v", again, err)
			}
			acceptance, err := os.ReadFile(filepath.Join(g.Config.KeysDir, "audit-loss-accepted"))
			if err != nil {
				t.Fatal(err)
			}
			for round := range 3 {
				j, err := openHome(t, g, dir)
				if err != nil {
					t.Fatalf("Unlock after the loss was accepted = %v", err)
				}
				lost, waited := 0, 0
				recs := audittest.Records(t, j.Reader())
				for _, r := range recs {
					if r.Event == "journal-loss-accepted" && strings.Contains(r.Note, c.want) && strings.Contains(r.Note, l.Kept) {
						lost++
					}
					if r.RequestID == "request-99" {
						waited++
					}
				}
				if lost != 1 || waited != 1 || recs[0].Event != "journal-loss-accepted" {
					t.Errorf("round %d: %d records of the loss and %d of what waited, the first is %q", round, lost, waited, recs[0].Event)
				}
				mustClose(t, j)
				if round == 0 { // a crash before the acceptance was taken away
					if err := os.WriteFile(filepath.Join(g.Config.KeysDir, "audit-loss-accepted"), acceptance, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			if _, err := os.Stat(filepath.Join(g.Config.KeysDir, "audit-loss-accepted")); err == nil {
				t.Error("the acceptance is still there")
			}
			if _, err := acceptLoss(t, g, dir); !errors.Is(err, audit.ErrWhole) {
				t.Errorf("AcceptLoss of the journal that began = %v, want ErrWhole", err)
			}
			aside, err := audit.OpenReader(filepath.Join(dir, l.Kept), g.Key.Clone())
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			err = aside.Search(t.Context(), audit.Filter{OldestFirst: true}, func(*audit.Record) error { n++; return nil })
			if n != c.left || err != nil && !errors.Is(err, audit.ErrCorrupt) {
				t.Errorf("%d records are left of what was put aside (%v), want %d", n, err, c.left)
			}
			if err := aside.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("events while sealed are damaged", func(t *testing.T) {
		g, dir := home(t), filepath.Join(t.TempDir(), "audit")
		j, err := openHome(t, g, dir)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := j.Sealed(t.Context(), "unseal-refused"); err != nil {
				t.Fatal(err)
			}
		}
		mustClose(t, j)
		damage(func(b []byte) []byte { b[frameEnds(t, b)[0]+60] ^= 1; return b }, "sealed-00000000000000000001.seg")(t, dir)
		if _, err := openHome(t, g, dir); !errors.Is(err, audit.ErrCorrupt) {
			t.Fatalf("Open = %v, want damage", err)
		}
		if l, err := acceptLoss(t, g, dir); err != nil || l.Journal != "" {
			t.Fatalf("AcceptLoss = %+v, %v; want that of events alone", l, err)
		}
		if j, err = openHome(t, g, dir); err != nil {
			t.Fatal(err)
		}
		if recs := audittest.Records(t, j.Reader()); recs[0].Event != "journal-unlocked" || recs[2].Event != "journal-loss-accepted" {
			t.Errorf("the records are %q and %q, want the journal to go on with the loss", recs[0].Event, recs[2].Event)
		}
		mustClose(t, j)
	})
	t.Run("a crash while it is put aside", func(t *testing.T) {
		g, dir := home(t), filepath.Join(t.TempDir(), "audit")
		j, err := openHome(t, g, dir)
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, j, 0, 100)
		mustClose(t, j)
		damage(func(b []byte) []byte { b[300] ^= 1; return b }, first)(t, dir)
		l, err := acceptLoss(t, g, dir)
		if err != nil {
			t.Fatal(err)
		}
		aside := filepath.Join(dir, l.Kept)
		files, err := os.ReadDir(aside)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files[len(files)/2:] { // as if they had not been moved yet
			if err := os.Rename(filepath.Join(aside, f.Name()), filepath.Join(dir, f.Name())); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := openHome(t, g, dir); !errors.Is(err, audit.ErrCorrupt) {
			t.Fatalf("Open of half a journal = %v, want damage", err)
		}
		if _, err := acceptLoss(t, g, dir); err != nil {
			t.Fatal(err)
		}
		if j, err = openHome(t, g, dir); err != nil {
			t.Fatal(err)
		}
		mustClose(t, j)
	})
}

// A loss that is found while the acceptance of another waits is refused, and
// accepted beside that one: nothing that was put aside is written over.
func TestAcceptLossAgain(t *testing.T) {
	const first = "journal-00000000000000000001.seg"
	flip := func(t *testing.T, path string, at func(b []byte) int) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err == nil {
			b[at(b)] ^= 1
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	later := func(t *testing.T, g *audittest.Rig, dir string) (*audit.Loss, error) {
		t.Helper()
		stored, err := audit.StoredAnchor(t.Context(), g.Store)
		if err != nil {
			t.Fatal(err)
		}
		return audit.AcceptLoss(t.Context(), dir, g.Config.KeysDir, stored, audit.Trust{}, time.Date(2026, 11, 24, 13, 0, 0, 0, time.UTC))
	}
	begun := func(t *testing.T) (*audittest.Rig, string, *audit.Loss) {
		t.Helper()
		g, dir := home(t), filepath.Join(t.TempDir(), "audit")
		j, err := openHome(t, g, dir)
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, j, 0, 22)
		unheard(t, g, j.Rider(func() (*audit.Record, error) { return audittest.Record(99), nil }))
		mustClose(t, j)
		flip(t, filepath.Join(dir, first), func(b []byte) int { return frameEnds(t, b)[3] + 60 })
		l, err := acceptLoss(t, g, dir)
		if err != nil {
			t.Fatal(err)
		}
		return g, dir, l
	}
	first99 := func(t *testing.T, g *audittest.Rig, dir string, want ...string) {
		t.Helper()
		j, err := openHome(t, g, dir)
		if err != nil {
			t.Fatalf("Unlock after the losses were accepted = %v", err)
		}
		defer mustClose(t, j)
		recs, waited := audittest.Records(t, j.Reader()), 0
		for _, r := range recs {
			if r.RequestID == "request-99" {
				waited++
			}
		}
		if waited != 1 {
			t.Errorf("what waited for the journal that was lost has %d records, want 1", waited)
		}
		for _, w := range want {
			if !strings.Contains(recs[0].Note, w) {
				t.Errorf("the first record says %q, want %q in it", recs[0].Note, w)
			}
		}
	}

	t.Run("the node's keys have the anchor of the journal that was lost", func(t *testing.T) {
		g, dir, _ := begun(t)
		accepted := filepath.Join(g.Config.KeysDir, "audit-loss-accepted")
		pinned := filepath.Join(g.Config.KeysDir, "audit-anchor")
		kept := map[string][]byte{}
		for _, name := range []string{accepted, pinned} {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			kept[name] = b
		}
		first99(t, g, dir)
		for name, b := range kept { // as if a crash came after the store's anchor
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		first99(t, g, dir)
		if _, err := os.Stat(accepted); err == nil {
			t.Error("the acceptance is still there")
		}
	})
	t.Run("the journal that began is damaged before it is known", func(t *testing.T) {
		g, dir, l := begun(t)
		accepted := filepath.Join(g.Config.KeysDir, "audit-loss-accepted")
		acceptance, err := os.ReadFile(accepted)
		if err != nil {
			t.Fatal(err)
		}
		anchors := g.Anchors(t)
		store := g.Store
		j, err := openHome(t, g, dir)
		if err != nil {
			t.Fatal(err)
		}
		mustClose(t, j)
		g.Store = store
		g.SetAnchors(t, anchors)
		if err := os.WriteFile(accepted, acceptance, 0o600); err != nil {
			t.Fatal(err)
		}
		flip(t, filepath.Join(dir, first), func(b []byte) int { return frameEnds(t, b)[0] + 60 })
		before, err := os.ReadDir(filepath.Join(dir, l.Kept))
		if err != nil {
			t.Fatal(err)
		}
		again, err := later(t, g, dir)
		if err != nil || again.Kept == l.Kept || !slices.Equal(again.Before, []string{l.Journal}) {
			t.Fatalf("AcceptLoss of the second = %+v, %v; want one beside %s", again, err, l.Kept)
		}
		if after, err := os.ReadDir(filepath.Join(dir, l.Kept)); err != nil || len(after) != len(before) {
			t.Errorf("the first loss has %d files, %v; want the %d that were put aside", len(after), err, len(before))
		}
		j, err = openHome(t, g, dir)
		if err != nil {
			t.Fatal(err)
		}
		if recs := audittest.Records(t, j.Reader()); !strings.Contains(recs[0].Note, l.Kept) || !strings.Contains(recs[0].Note, again.Kept) {
			t.Errorf("the first record says %q, want both losses", recs[0].Note)
		}
		mustClose(t, j)
	})
	t.Run("events, and then the journal", func(t *testing.T) {
		g, dir := home(t), filepath.Join(t.TempDir(), "audit")
		g.Config.SegmentBytes = 64 << 10
		j, err := openHome(t, g, dir)
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, j, 0, 22)
		unheard(t, g, j.Rider(func() (*audit.Record, error) { return audittest.Record(99), nil }))
		if err := j.Sealed(t.Context(), "unseal-refused"); err != nil {
			t.Fatal(err)
		}
		mustClose(t, j)
		flip(t, filepath.Join(dir, "sealed-00000000000000000001.seg"), func(b []byte) int { return frameEnds(t, b)[0] - 5 })
		l, err := acceptLoss(t, g, dir)
		if err != nil || l.Journal != "" {
			t.Fatalf("AcceptLoss = %+v, %v; want that of events alone", l, err)
		}
		b, err := os.ReadFile(filepath.Join(dir, first))
		if err == nil {
			err = errors.Join(os.WriteFile(filepath.Join(dir, first), b[:frameEnds(t, b)[3]], 0o600), os.Remove(filepath.Join(dir, "journal-head")))
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := openHome(t, g, dir); !errors.Is(err, audit.ErrCorrupt) {
			t.Fatalf("Unlock of a journal that was cut = %v; want damage, though a loss of events was accepted", err)
		}
		again, err := later(t, g, dir)
		if err != nil || again.Journal == "" {
			t.Fatalf("AcceptLoss of the journal = %+v, %v", again, err)
		}
		first99(t, g, dir, l.Kept, again.Kept)
	})
}

// unheard is carry of a transaction that is kept and whose end nobody hears of,
// as where a crash comes between the commit and the journal.
func unheard(t testing.TB, g *audittest.Rig, rider *storage.Rider) {
	t.Helper()
	if err := carry(t.Context(), g.Store, &storage.Rider{Locks: rider.Locks, Write: rider.Write, Done: func() {}}, 99); err != nil {
		t.Fatal(err)
	}
}

// resum puts the checksum of an anchor right.
func resum(b []byte) {
	binary.BigEndian.PutUint32(b[112:], crc32.Checksum(b[:112], crc32.MakeTable(crc32.Castagnoli)))
}

// What is an anchor is written in one way; nothing else is taken for one.
func FuzzAnchor(f *testing.F) {
	g := newRig(f)
	j := g.Open(f)
	mustAppend(f, j, 0, 3)
	mustClose(f, j)
	known := g.Anchors(f)
	f.Add(known.Store)
	f.Add(known.Keys[:len(known.Keys)-1])
	newer := slices.Clone(known.Store)
	newer[7]++
	f.Add(newer)
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := audit.ParseAnchor(b); got != nil && !slices.Equal(got, b) {
			t.Errorf("the anchor %x is written as %x", b, got)
		}
		if len(b) > 0 && audit.ParseAnchor(b) != nil {
			b[len(b)/2] ^= 1
			if audit.ParseAnchor(b) != nil {
				t.Errorf("a bit of the anchor was changed, and it is still one: %x", b)
			}
		}
	})
}
