package audit_test

import (
	"context"
	"errors"
	"fmt"
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
	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
)

func newRig(t testing.TB) *audittest.Rig { return audittest.NewRig(t, mem.New(mem.Config{})) }

func mustClose(t testing.TB, j *audit.Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
}

func mustAppend(t testing.TB, j *audit.Journal, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := j.Append(t.Context(), audittest.Record(i)); err != nil {
			t.Fatalf("Append(%d) = %v", i, err)
		}
	}
}

func wantVerified(t testing.TB, r *audit.Reader) audit.Report {
	t.Helper()
	rep, err := r.Verify(t.Context(), nil)
	if err != nil {
		t.Fatalf("Verify() = %+v, %v", rep, err)
	}
	return rep
}

func TestAppendedRecordsAreReadAgain(t *testing.T) {
	g := newRig(t)
	j := g.Open(t)
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			r := audittest.Record(i)
			if err := j.Append(t.Context(), r); err != nil || r.Seq == 0 || r.ID == "" {
				t.Errorf("Append(%d) = %v, and the record has sequence %d and id %q", i, err, r.Seq, r.ID)
			}
		})
	}
	wg.Wait()
	if n := len(audittest.Requests(audittest.Records(t, j.Reader()))); n != 500 {
		t.Fatalf("%d records, want 500", n)
	}
	if rep := wantVerified(t, j.Reader()); rep.Opened != rep.Records || rep.Segments < 2 {
		t.Errorf("Verify() = %+v, want every record opened and some segments", rep)
	}
	mustClose(t, j)
	j = g.Open(t)
	got := audittest.Records(t, j.Reader())
	want := audittest.Record(7)
	for _, r := range got {
		if r.RequestID != want.RequestID {
			continue
		}
		want.Seq, want.ID = r.Seq, r.ID
		if fmt.Sprintf("%+v", r) != fmt.Sprintf("%+v", want) {
			t.Errorf("a record came back as\n%+v, want\n%+v", r, want)
		}
	}
	mustClose(t, j)
	wantVerified(t, g.Reader(t))
	without, err := audit.NewReader(g.Disk, secret.Bytes{})
	if err != nil {
		t.Fatal(err)
	}
	if rep := wantVerified(t, without); rep.Opened != 0 || rep.Records < 500 {
		t.Errorf("Verify without a key = %+v", rep)
	}
	for _, err := range without.Records(t.Context(), 1) {
		if !errors.Is(err, audit.ErrLocked) {
			t.Errorf("reading without a key = %v, want ErrLocked", err)
		}
	}
	wrong, err := audit.NewReader(g.Disk, secret.NewBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.Verify(t.Context(), nil); !errors.Is(err, audit.ErrWrongKey) && !errors.Is(err, audit.ErrCorrupt) {
		t.Errorf("Verify with a wrong key = %v", err)
	}
}

// The same on the operating system's files: permissions, locking, prepared segments.
func TestJournalOnADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	store, keys := mem.New(mem.Config{}), t.TempDir()
	c := audit.Config{KeysDir: keys, Clock: clock.System{}, SegmentBytes: 64 << 10, Reserve: 1 << 20}
	g := newRig(t)
	for round := range 3 {
		j, err := audit.Open(dir, c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := audit.Open(dir, c); !errors.Is(err, audit.ErrInUse) {
			t.Fatalf("a second Open = %v, want ErrInUse", err)
		}
		if err := j.Unlock(g.Key.Clone(), store); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				if err := j.Append(t.Context(), audittest.Record(200*round+i)); err != nil {
					t.Errorf("Append = %v", err)
				}
			})
		}
		wg.Wait()
		mustClose(t, j)
	}
	r, err := audit.OpenReader(dir, g.Key.Clone())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n := len(audittest.Requests(audittest.Records(t, r))); n != 600 {
		t.Errorf("%d records, want 600", n)
	}
	wantVerified(t, r)
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLockedJournalTakesNothing(t *testing.T) {
	g := newRig(t)
	j := g.Open(t)
	mustAppend(t, j, 0, 3)
	j.Lock()
	if err := j.Append(t.Context(), audittest.Record(3)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Append while locked = %v, want Unavailable", err)
	}
	if err := carry(t.Context(), g.Store, j.Rider(func() (*audit.Record, error) { return audittest.Record(3), nil }), 3); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a transaction with a rider while locked = %v, want Unavailable", err)
	}
	if err := j.Unlock(g.Key.Clone(), g.Store); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, 4, 6)
	if got, want := audittest.Requests(audittest.Records(t, j.Reader())), []string{"request-0", "request-1", "request-2", "request-4", "request-5"}; !slices.Equal(got, want) {
		t.Errorf("records of %v, want %v", got, want)
	}
	mustClose(t, j)
}

func TestEventsWhileSealed(t *testing.T) {
	g := newRig(t)
	j, err := audit.Open("", g.Config)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if err := j.Sealed(t.Context(), "unseal-refused"); err != nil {
			t.Fatalf("Sealed() = %v", err)
		}
	}
	for _, bad := range []string{"", "path secret/x", "Name", "a1", strings.Repeat("a", 65)} {
		if err := j.Sealed(t.Context(), bad); err == nil {
			t.Errorf("Sealed(%q) = nil, want an error", bad)
		}
	}
	mustClose(t, j)
	j, err = audit.Open("", g.Config)
	if err != nil {
		t.Fatal(err)
	}
	recs := audittest.Records(t, j.SealedReader())
	if len(recs) != 50 || recs[49].Event != "unseal-refused" || recs[49].Node != "" {
		t.Errorf("%d events, the last %+v", len(recs), recs[len(recs)-1])
	}
	wantVerified(t, j.SealedReader())
	mustClose(t, j)
	info, err := os.Stat(filepath.Join(g.Config.KeysDir, audit.SealedKeyName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the node's key file: %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(filepath.Join(g.Config.KeysDir, audit.SealedKeyName), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.Open("", g.Config); err == nil {
		t.Error("Open with a key file that others can read = nil, want an error")
	}
}

// carry runs a transaction with a rider, as the barrier does.
func carry(ctx context.Context, store storage.Store, rider *storage.Rider, i int) error {
	locks := storage.Locks{Own: []string{"\x01thing"}, Join: rider.Locks.Join}
	err := store.Update(ctx, locks, func(tx storage.Tx) error {
		tx.Put(storage.Key{Scope: "\x01thing", Row: fmt.Sprint(i)}, []byte("x"))
		return rider.Write(tx)
	})
	if err == nil {
		rider.Done()
	}
	return err
}

// rows returns the rows of j's outbox.
func rows(t testing.TB, j *audit.Journal, store storage.Store) []string {
	t.Helper()
	id, err := j.Reader().JournalID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	err = store.View(t.Context(), func(r storage.Reader) error {
		items, _, err := r.Scan("\x02outbox"+string(id[:]), "", "", 10000)
		for _, it := range items {
			out = append(out, it.Row)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRidersComeInTheOrderOfTheirTransactions(t *testing.T) {
	g := newRig(t)
	j := g.Open(t)
	var want []string
	for i := range 300 {
		want = append(want, audittest.Record(i).RequestID)
		if i%3 == 0 {
			mustAppend(t, j, i, i+1) // comes behind the rows before it
			continue
		}
		if err := carry(t.Context(), g.Store, j.Rider(func() (*audit.Record, error) { return audittest.Record(i), nil }), i); err != nil {
			t.Fatal(err)
		}
	}
	if got := audittest.Requests(audittest.Records(t, j.Reader())); !slices.Equal(got, want) {
		t.Fatalf("%d records of %v", len(got), got)
	}
	mustClose(t, j)
	if n := rows(t, j, g.Store); len(n) != 0 {
		t.Errorf("%d rows in the outbox after Close, want 0", len(n))
	}
}

func TestARiderIsLostWithItsTransaction(t *testing.T) {
	g := newRig(t)
	j := g.Open(t)
	refused := errors.New("refused")
	if err := carry(t.Context(), g.Store, j.Rider(func() (*audit.Record, error) { return nil, refused }), 1); !errors.Is(err, refused) {
		t.Errorf("a transaction whose record fails = %v, want %v", err, refused)
	}
	rider := j.Rider(func() (*audit.Record, error) { return audittest.Record(1), nil })
	err := g.Store.Update(t.Context(), rider.Locks, func(tx storage.Tx) error {
		return errors.Join(rider.Write(tx), refused)
	})
	if !errors.Is(err, refused) {
		t.Fatal(err)
	}
	if got := audittest.Requests(audittest.Records(t, j.Reader())); len(got) != 0 {
		t.Errorf("records of %v, want none", got)
	}
	mustClose(t, j)
}

// A machine that stops with rows in the outbox, some of them in the journal
// already, has each of them in the journal once when it is back.
func TestOutboxAfterACrash(t *testing.T) {
	g := newRig(t)
	j := g.Open(t)
	before := g.Disk.Clone() // the journal as it is when none has been moved
	for i := range 40 {
		if err := carry(t.Context(), g.Store, j.Rider(func() (*audit.Record, error) { return audittest.Record(i), nil }), i); err != nil {
			t.Fatal(err)
		}
	}
	left := snapshot(t, j, g.Store)
	if err := j.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := g.Disk.Clone() // and when all have been
	mustClose(t, j)
	for name, disk := range map[string]*audittest.Disk{"none moved": before, "all moved": after} {
		t.Run(name, func(t *testing.T) {
			g := g.On(t, disk)
			g.Store = restored(t, left)
			j := g.Open(t)
			var want []string
			for i := range 40 {
				want = append(want, audittest.Record(i).RequestID)
			}
			if got := audittest.Requests(audittest.Records(t, j.Reader())); !slices.Equal(got, want) {
				t.Errorf("records of %v, want each of 40 once", got)
			}
			if n := rows(t, j, g.Store); len(n) != 0 {
				t.Errorf("%d rows are left in the outbox", len(n))
			}
			mustClose(t, j)
		})
	}
}

type row struct {
	scope string
	storage.Item
}

func snapshot(t testing.TB, j *audit.Journal, store storage.Store) (out []row) {
	t.Helper()
	id, err := j.Reader().JournalID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	scope := "\x02outbox" + string(id[:])
	err = store.View(t.Context(), func(r storage.Reader) error {
		items, _, err := r.Scan(scope, "", "", 10000)
		for _, it := range items {
			out = append(out, row{scope, it})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func restored(t testing.TB, rows []row) storage.Store {
	t.Helper()
	s := mem.New(mem.Config{})
	for _, r := range rows {
		err := s.Update(t.Context(), storage.Locks{Own: []string{r.scope}}, func(tx storage.Tx) error {
			tx.Put(storage.Key{Scope: r.scope, Row: r.Row}, r.Value)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestIntentsWithoutOutcomeAreClosedAsUnknown(t *testing.T) {
	g := newRig(t)
	j := g.Open(t)
	intent := func(i int, k audit.Kind) {
		r := audittest.Record(i)
		r.Kind, r.Outcome = k, ""
		if k == audit.Outcome {
			r.Outcome = audit.OutcomeOK
		}
		if err := j.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	intent(1, audit.Intent)
	intent(2, audit.Intent)
	intent(1, audit.Outcome)
	mustAppend(t, j, 100, 200)
	crashed := g.Disk.Clone()
	mustClose(t, j)
	for range 2 { // and once only
		g = g.On(t, crashed)
		j = g.Open(t)
		var unknown []string
		for _, r := range audittest.Records(t, j.Reader()) {
			if r.Outcome == audit.OutcomeUnknown {
				unknown = append(unknown, r.RequestID)
			}
		}
		if want := []string{"request-2"}; !slices.Equal(unknown, want) {
			t.Errorf("closed as unknown: %v, want %v", unknown, want)
		}
		crashed = g.Disk.Clone()
		mustClose(t, j)
	}
}

func TestAppendIsRefusedInTwoSecondsWhenTheDiskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		j := g.Open(t)
		mustAppend(t, j, 0, 2)
		release := g.Disk.HangSyncs()
		took := func(fn func() error) (time.Duration, error) {
			start := clock.System{}.Now()
			err := fn()
			return clock.System{}.Now().Sub(start), err
		}
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				d, err := took(func() error { return j.Append(context.Background(), audittest.Record(10+i)) })
				if !fault.Is(err, fault.Unavailable) || d > 2*time.Second {
					t.Errorf("Append on a hanging disk = %v after %v, want Unavailable within 2 s", err, d)
				}
			})
		}
		wg.Wait()
		d, err := took(func() error { return j.Append(t.Context(), audittest.Record(20)) })
		if !fault.Is(err, fault.Unavailable) || d > 0 {
			t.Errorf("the next Append = %v after %v, want Unavailable at once", err, d)
		}
		rider := j.Rider(func() (*audit.Record, error) { return audittest.Record(21), nil })
		if err := carry(t.Context(), g.Store, rider, 21); !fault.Is(err, fault.Unavailable) {
			t.Errorf("a transaction with a rider = %v, want Unavailable", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := j.Append(ctx, audittest.Record(22)); !fault.Is(err, fault.Unavailable) {
			t.Errorf("Append with an ended context = %v, want Unavailable", err)
		}
		release()
		synctest.Wait()
		mustAppend(t, j, 30, 40)
		wantVerified(t, j.Reader())
		mustClose(t, j)
	})
}

func TestACancelledCallerDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		j := g.Open(t)
		release := g.Disk.HangSyncs()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := clock.System{}.Now()
		if err := j.Append(ctx, audittest.Record(1)); !fault.Is(err, fault.Unavailable) {
			t.Errorf("Append = %v, want Unavailable", err)
		}
		if d := (clock.System{}).Now().Sub(start); d != time.Second {
			t.Errorf("Append returned after %v, want 1 s", d)
		}
		release()
		mustClose(t, j)
	})
}

func TestAFailedSyncIsFinal(t *testing.T) {
	g := newRig(t)
	j := g.Open(t)
	mustAppend(t, j, 0, 5)
	acked := g.Disk.Clone()
	g.Disk.FailSyncs(errors.New("I/O error"))
	if err := j.Append(t.Context(), audittest.Record(5)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Append with a failing sync = %v, want Unavailable", err)
	}
	g.Disk.FailSyncs(nil)
	for i := range 3 {
		if err := j.Append(t.Context(), audittest.Record(6+i)); !fault.Is(err, fault.Unavailable) {
			t.Errorf("Append after a failed sync = %v, want Unavailable", err)
		}
	}
	_ = j.Close() // says that the disk failed
	j = g.On(t, acked).Open(t)
	if got := audittest.Requests(audittest.Records(t, j.Reader())); len(got) != 5 {
		t.Errorf("records of %v, want 5", got)
	}
	mustClose(t, j)
}

func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.Config.Reserve = 32 << 10
		j := g.Open(t)
		mustAppend(t, j, 0, 1)
		synctest.Wait()
		g.Disk.SetSpace(g.Disk.Used() + 10<<10)
		kept := 1
		for ; kept < 500; kept++ {
			if err := j.Append(t.Context(), audittest.Record(kept)); err != nil {
				if !fault.Is(err, fault.Unavailable) {
					t.Errorf("Append on a full disk = %v, want Unavailable", err)
				}
				break
			}
		}
		if kept == 500 {
			t.Fatal("the disk did not fill up")
		}
		rider := j.Rider(func() (*audit.Record, error) { return audittest.Record(9000), nil })
		if err := carry(t.Context(), g.Store, rider, 1); !fault.Is(err, fault.Unavailable) {
			t.Errorf("a transaction with a rider on a full disk = %v, want Unavailable", err)
		}
		for i := range 3 { // out of the reserve
			r := audittest.Record(1000 + i)
			r.Critical = true
			if err := j.Append(t.Context(), r); err != nil {
				t.Errorf("Append of a critical record = %v", err)
			}
		}
		if err := j.Append(t.Context(), audittest.Record(2000)); !fault.Is(err, fault.Unavailable) {
			t.Errorf("Append behind it = %v, want Unavailable", err)
		}
		g.Disk.SetSpace(-1)
		if err := (clock.System{}).Wait(t.Context(), clock.System{}.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		mustAppend(t, j, 3000, 3001)
		var gap string
		for _, r := range audittest.Records(t, j.Reader()) {
			if r.Event == "gap" {
				gap = r.Note
			}
		}
		if !strings.Contains(gap, "operations were refused") {
			t.Errorf("the gap's note is %q", gap)
		}
		if got := len(audittest.Requests(audittest.Records(t, j.Reader()))); got != kept+4 {
			t.Errorf("%d records of requests, want %d", got, kept+4)
		}
		if g.Disk.Content("reserve") == nil {
			t.Error("the reserve was not made again")
		}
		wantVerified(t, j.Reader())
		mustClose(t, j)
	})
}

// Power is lost at any moment: what was acknowledged is there, the journal
// verifies, and nothing is known elsewhere that it does not have.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	g := newRig(t)
	for round := range 24 {
		if round%4 == 0 {
			g = newRig(t)
		}
		j := g.Open(t)
		var mu sync.Mutex
		acked := map[string]bool{}
		var wg sync.WaitGroup
		var crashed *audittest.Disk
		var at map[string]bool
		var known audittest.Anchors
		for w := range 16 {
			wg.Go(func() {
				for i := range 20 {
					r := audittest.Record(round*1000 + w*20 + i)
					if err := j.Append(t.Context(), r); err != nil {
						t.Errorf("Append = %v", err)
					}
					mu.Lock()
					acked[r.RequestID] = true
					if len(acked) == 100+round*5 {
						at = map[string]bool{}
						for id := range acked {
							at[id] = true
						}
						crashed, known = g.Crash(t, func() *audittest.Disk { return g.Disk.Crash(rng) })
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		mustClose(t, j)
		g = g.On(t, crashed)
		g.SetAnchors(t, known)
		r := g.Reader(t)
		if _, err := r.Verify(t.Context(), nil); err != nil {
			t.Fatalf("round %d: Verify() after a loss of power = %v", round, err)
		}
		found := map[string]bool{}
		for _, id := range audittest.Requests(audittest.Records(t, r)) {
			found[id] = true
		}
		for id := range at {
			if !found[id] {
				t.Fatalf("round %d: the record of %s was acknowledged and is lost", round, id)
			}
		}
	}
}

// A segment that ends anywhere in its last frames is cut off there, and
// everything before stays.
func TestTornTail(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	j := g.Open(t)
	mustAppend(t, j, 0, 6)
	name := "journal-00000000000000000001.seg"
	image := g.Disk.Clone()
	mustClose(t, j)
	whole := image.Content(name)
	ends := frameEnds(t, whole)
	if len(ends) != 7 {
		t.Fatalf("%d frames, want 7", len(ends))
	}
	for cutAt := ends[4]; cutAt <= ends[6]; cutAt++ {
		for how, cut := range map[string]func(b []byte) []byte{
			"cut off": func(b []byte) []byte { return b[:cutAt] },
			"zero from a sector on": func(b []byte) []byte {
				clear(b[min(len(b), (cutAt+511)/512*512):])
				return b
			},
		} {
			disk := image.Clone()
			disk.Change(name, cut)
			want := 0
			for _, end := range ends {
				if b := disk.Content(name); end <= len(b) && (end == ends[0] || b[end-1] != 0) {
					want++
				}
			}
			g := g.On(t, disk)
			j, err := g.TryOpen()
			if err != nil {
				t.Fatalf("Open of a segment %s at %d = %v", how, cutAt, err)
			}
			got := audittest.Records(t, j.Reader())
			if n := len(got); n != want+1 {
				t.Fatalf("%d records of a segment %s at %d, want %d and the event of opening", n, how, cutAt, want)
			}
			if cutAt%32 == 0 {
				mustAppend(t, j, 100, 101)
			}
			mustClose(t, j)
			if cutAt%32 == 0 {
				wantVerified(t, g.Reader(t))
			}
		}
	}
}

// A closed segment gives back its space by a truncation that nobody syncs: after
// a power cut its zeros may be there again, and mean nothing.
func TestSpaceOfAClosedSegmentComesBack(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.Config.SegmentBytes = 4 << 10
	j := g.Open(t)
	mustAppend(t, j, 0, 60)
	mustClose(t, j)
	names, err := g.Disk.Names()
	if err != nil || !slices.Contains(names, "journal-00000000000000000001.seg") {
		t.Fatalf("there are %v, %v", names, err)
	}
	g.Disk.Change("journal-00000000000000000001.seg", func(b []byte) []byte { return append(b, make([]byte, 100)...) })
	j = g.Open(t)
	wantVerified(t, j.Reader())
	mustAppend(t, j, 60, 70)
	if n := len(audittest.Records(t, j.Reader())); n < 70 {
		t.Errorf("%d records are read", n)
	}
	mustClose(t, j)
	wantVerified(t, g.Reader(t))
}

// frameEnds returns the offsets after each frame of a segment.
func frameEnds(t testing.TB, b []byte) []int {
	t.Helper()
	var ends []int
	for off := 128; off < len(b) && b[off] == 0xa7; {
		off += 45 + int(b[off+1])<<16 + int(b[off+2])<<8 + int(b[off+3])
		ends = append(ends, off)
	}
	return ends
}

// Damage to what was acknowledged is an error of Open that says where.
func TestOpenRefusesDamage(t *testing.T) {
	g := newRig(t)
	g.Config.SegmentBytes = 32 << 10
	j := g.Open(t)
	mustAppend(t, j, 0, 6)
	running := g.Disk.Clone()
	mustClose(t, j)
	const name = "journal-00000000000000000001.seg"
	ends := frameEnds(t, running.Content(name))
	for what, change := range map[string]func(b []byte) []byte{
		"a byte of the last record":  func(b []byte) []byte { b[ends[5]+60] ^= 1; return b },
		"a byte of an early record":  func(b []byte) []byte { b[ends[1]+60] ^= 1; return b },
		"a sector of early records":  func(b []byte) []byte { clear(b[512:1024]); return b },
		"the end of the last record": func(b []byte) []byte { b[ends[6]-1] = 0; return b },
		"the header":                 func(b []byte) []byte { b[40]++; return b },
		"the file's beginning":       func(b []byte) []byte { return b[:100] },
	} {
		t.Run(what, func(t *testing.T) {
			disk := running.Clone()
			disk.Change(name, change)
			_, err := g.On(t, disk).TryOpen()
			d, ok := errors.AsType[*audit.Damage](err)
			if !ok || d.Segment != name || !errors.Is(err, audit.ErrCorrupt) {
				t.Errorf("Open = %v, want damage of %s", err, name)
			}
		})
	}
	t.Run("records that the head knows", func(t *testing.T) {
		disk := g.Disk.Clone() // closed: its head is of the end
		disk.Change(name, func(b []byte) []byte { return b[:ends[3]] })
		if _, err := g.On(t, disk).TryOpen(); !errors.Is(err, audit.ErrCorrupt) {
			t.Errorf("Open = %v, want ErrCorrupt", err)
		}
	})
	t.Run("the only segment", func(t *testing.T) {
		disk := g.Disk.Clone()
		disk.Change(name, func([]byte) []byte { return nil })
		if _, err := g.On(t, disk).TryOpen(); !errors.Is(err, audit.ErrCorrupt) {
			t.Errorf("Open = %v, want ErrCorrupt", err)
		}
	})
	t.Run("a newer version", func(t *testing.T) {
		disk := running.Clone()
		disk.Change(name, func(b []byte) []byte { b[7] = 2; return b })
		if _, err := g.On(t, disk).TryOpen(); !errors.Is(err, audit.ErrNewer) {
			t.Errorf("Open = %v, want ErrNewer", err)
		}
	})
}

// 1,000 small changes of a closed journal are all found.
func TestVerifyFindsTampering(t *testing.T) {
	g := newRig(t)
	g.Config.SegmentBytes = 4 << 10
	j := g.Open(t)
	for i := range 60 {
		mustAppend(t, j, i, i+1)
	}
	mustClose(t, j)
	names, err := g.Disk.Names()
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, "journal-0") })
	if len(names) < 5 {
		t.Fatalf("%d segments, want some", len(names))
	}
	rng := rand.New(rand.NewPCG(3, 4))
	kinds := []func(d *audittest.Disk, name string) string{
		func(d *audittest.Disk, name string) string { // change one byte
			end := lastEnd(t, d, name)
			at := rng.IntN(end)
			d.Change(name, func(b []byte) []byte { b[at] ^= byte(1 + rng.IntN(255)); return b })
			return fmt.Sprintf("changed byte %d of %s", at, name)
		},
		func(d *audittest.Disk, name string) string { // remove a record
			from, to := someFrame(t, rng, d, name)
			d.Change(name, func(b []byte) []byte { return slices.Delete(b, from, to) })
			return fmt.Sprintf("removed bytes %d to %d of %s", from, to, name)
		},
		func(d *audittest.Disk, name string) string { // insert a record a second time, there or elsewhere
			from, to := someFrame(t, rng, d, name)
			other := names[rng.IntN(len(names))]
			at, _ := someFrame(t, rng, d, other)
			frame := d.Content(name)[from:to]
			d.Change(other, func(b []byte) []byte { return slices.Insert(b, at, frame...) })
			return fmt.Sprintf("inserted bytes %d to %d of %s at %d of %s", from, to, name, at, other)
		},
		func(d *audittest.Disk, name string) string { // two records change places
			ends := append([]int{128}, frameEnds(t, d.Content(name))...)
			i := rng.IntN(max(1, len(ends)-2))
			if len(ends) < 3 {
				d.Change(name, func(b []byte) []byte { return b[:128] })
				return "emptied " + name
			}
			d.Change(name, func(b []byte) []byte {
				first, second := slices.Clone(b[ends[i]:ends[i+1]]), slices.Clone(b[ends[i+1]:ends[i+2]])
				copy(b[ends[i]:], append(second, first...))
				return b
			})
			return fmt.Sprintf("swapped records %d and %d of %s", i, i+1, name)
		},
		func(d *audittest.Disk, name string) string { // cut off
			at := rng.IntN(lastEnd(t, d, name))
			d.Change(name, func(b []byte) []byte { return b[:at] })
			return fmt.Sprintf("cut off %s at %d", name, at)
		},
		func(d *audittest.Disk, name string) string { // a whole segment
			d.Change(name, func([]byte) []byte { return nil })
			return "removed " + name
		},
		func(d *audittest.Disk, name string) string { // a segment in another's place
			other := names[rng.IntN(len(names))]
			if other == name {
				d.Change(name, func([]byte) []byte { return nil })
				return "removed " + name
			}
			content := d.Content(other)
			d.Change(name, func([]byte) []byte { return content })
			return fmt.Sprintf("put %s in the place of %s", other, name)
		},
		func(d *audittest.Disk, _ string) string { // the head
			at := rng.IntN(124)
			d.Change("journal-head", func(b []byte) []byte { b[at] ^= byte(1 + rng.IntN(255)); return b })
			return fmt.Sprintf("changed byte %d of the head", at)
		},
	}
	for i := range 1000 {
		d := g.Disk.Clone()
		what := kinds[i%len(kinds)](d, names[rng.IntN(len(names))])
		key := g.Key.Clone()
		if i%3 == 0 {
			key = secret.Bytes{}
		}
		r, err := audit.NewReader(d, key)
		if err != nil {
			t.Fatal(err)
		}
		if rep, err := r.Verify(t.Context(), nil); !errors.Is(err, audit.ErrCorrupt) && !errors.Is(err, audit.ErrNewer) {
			t.Errorf("%s: Verify() = %+v, %v, want ErrCorrupt", what, rep, err)
		}
	}
}

func lastEnd(t testing.TB, d *audittest.Disk, name string) int {
	ends := frameEnds(t, d.Content(name))
	if len(ends) == 0 {
		return 128
	}
	return ends[len(ends)-1]
}

func someFrame(t testing.TB, rng *rand.Rand, d *audittest.Disk, name string) (from, to int) {
	ends := append([]int{128}, frameEnds(t, d.Content(name))...)
	if len(ends) < 2 {
		return 0, 128
	}
	i := rng.IntN(len(ends) - 1)
	return ends[i], ends[i+1]
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.Config.KeepBytes = 40 << 10
		j := g.Open(t)
		for i := range 400 {
			mustAppend(t, j, i, i+1)
			synctest.Wait()
		}
		s, err := j.Reader().Summary(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.First < 100 || s.Bytes > 56<<10 {
			t.Errorf("the journal holds %+v, want some 40 KiB", s)
		}
		if rep := wantVerified(t, j.Reader()); rep.First != s.First {
			t.Errorf("Verify() = %+v, want it to begin with %d", rep, s.First)
		}
		said := false
		for _, r := range audittest.Records(t, j.Reader()) {
			said = said || r.Event == "retention" && strings.Contains(r.Note, fmt.Sprintf("to %d", s.First-1))
		}
		if !said {
			t.Errorf("no record says that those before %d were removed", s.First)
		}
		mustClose(t, j)
		wantVerified(t, g.Reader(t))
		disk := g.Disk.Clone() // and nobody else may remove the first
		names, err := disk.Names()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if strings.HasPrefix(n, "journal-0") {
				disk.Change(n, func([]byte) []byte { return nil })
				break
			}
		}
		if _, err := g.On(t, disk).Reader(t).Verify(t.Context(), nil); !errors.Is(err, audit.ErrCorrupt) {
			t.Errorf("Verify() without the first segment = %v, want ErrCorrupt", err)
		}
		g.Config.KeepBytes, g.Config.KeepAge = 0, time.Hour
		j = g.Open(t)
		if err := (clock.System{}).Wait(t.Context(), clock.System{}.Now().Add(3*time.Hour)); err != nil {
			t.Fatal(err)
		}
		g.Config.SegmentAge = time.Minute
		mustAppend(t, j, 1000, 1060)
		synctest.Wait()
		old, err := j.Reader().Summary(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if old.First <= s.Last {
			t.Errorf("records from %d on are kept after three hours, want none before %d", old.First, s.Last)
		}
		mustClose(t, j)
	})
}

func TestSearch(t *testing.T) {
	g := newRig(t)
	g.Config.Clock = clocktest.New(audittest.Record(0).Time)
	j := g.Open(t)
	for i := range 100 {
		r := audittest.Record(i)
		if i%10 == 0 {
			r.Op, r.Outcome, r.Actor.DisplayName = "kv.put", "denied", `bob "x"`
		}
		if err := j.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	find := func(f audit.Filter) (ids []string) {
		err := j.Reader().Search(t.Context(), f, func(r *audit.Record) error {
			ids = append(ids, strings.TrimPrefix(r.RequestID, "request-"))
			return nil
		})
		if err != nil {
			t.Errorf("Search(%+v) = %v", f, err)
		}
		return ids
	}
	base := audittest.Record(0).Time
	value := string(audittest.Record(33).Out)
	value = value[strings.Index(value, audit.HashPrefix):]
	value = value[:strings.IndexByte(value, '"')]
	for _, tc := range []struct {
		name string
		f    audit.Filter
		want string
	}{
		{"newest first", audit.Filter{Limit: 3, Kind: audit.Request}, "99 98 97"},
		{"oldest first", audit.Filter{Limit: 3, OldestFirst: true, Kind: audit.Request}, "0 1 2"},
		{"operation", audit.Filter{Op: "kv.put", Limit: 2}, "90 80"},
		{"outcome", audit.Filter{Outcome: "denied", OldestFirst: true, Limit: 2}, "0 10"},
		{"actor by name", audit.Filter{Actor: `bob "x"`, Limit: 2}, "90 80"},
		{"actor by accessor", audit.Filter{Actor: "accessor-3", Limit: 2, OldestFirst: true}, "3 10"},
		{"path", audit.Filter{Path: "secret/data/app9", OldestFirst: true, Limit: 3}, "9 90 91"},
		{"request", audit.Filter{RequestID: "request-42"}, "42"},
		{"value", audit.Filter{Value: value}, "33"},
		{"time", audit.Filter{From: base.Add(20 * time.Second), To: base.Add(23 * time.Second)}, "22 21 20"},
		{"nothing", audit.Filter{Op: "kv"}, ""},
	} {
		if got := strings.Join(find(tc.f), " "); got != tc.want {
			t.Errorf("%s: found %q, want %q", tc.name, got, tc.want)
		}
	}
	var after uint64
	var paged []string
	for {
		before := len(paged)
		err := j.Reader().Search(t.Context(), audit.Filter{Kind: audit.Request, After: after, Limit: 7}, func(r *audit.Record) error {
			paged, after = append(paged, r.RequestID), r.Seq
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(paged) == before {
			break
		}
	}
	if len(paged) != 100 || len(slices.Compact(paged)) != 100 {
		t.Errorf("pages have %d records, want 100", len(paged))
	}
	mustClose(t, j)
}

func TestTail(t *testing.T) {
	g := newRig(t)
	j := g.Open(t)
	mustAppend(t, j, 0, 5)
	got := make(chan string)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- j.Reader().Tail(ctx, 4, func(r *audit.Record) error {
			got <- r.RequestID
			return nil
		})
	}()
	for i := 2; i < 5; i++ {
		if id := <-got; id != audittest.Record(i).RequestID {
			t.Errorf("Tail gave %s, want request-%d", id, i)
		}
	}
	for i := 5; i < 30; i++ {
		if err := carry(t.Context(), g.Store, j.Rider(func() (*audit.Record, error) { return audittest.Record(i), nil }), i); err != nil {
			t.Fatal(err)
		}
		if id := <-got; id != audittest.Record(i).RequestID {
			t.Errorf("Tail gave %s, want request-%d", id, i)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Tail = %v, want Canceled", err)
	}
	mustClose(t, j)
}

// The key of one record opens it, and proves nothing about another.
func TestOneRecordCanBeShown(t *testing.T) {
	g := newRig(t)
	j := g.Open(t)
	mustAppend(t, j, 0, 5)
	r := j.Reader()
	id, err := r.JournalID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stored, err := r.Stored(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	key, err := r.RecordKey(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := audit.OpenRecord(nil, key[:], id, stored)
	if err != nil || !strings.Contains(string(plain), "request-1") {
		t.Errorf("OpenRecord = %s, %v", plain, err)
	}
	other, err := r.Stored(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := audit.OpenRecord(nil, key[:], id, other); !errors.Is(err, audit.ErrCorrupt) {
		t.Errorf("OpenRecord of another record = %s, %v, want ErrCorrupt", plain, err)
	}
	if _, err := r.Stored(t.Context(), 99); !fault.Is(err, fault.NotFound) {
		t.Errorf("Stored(99) = %v, want NotFound", err)
	}
	n := uint64(0)
	for leaf, err := range r.Leaves(t.Context(), 3) {
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 && leaf != audit.LeafHash(stored) {
			t.Error("the first leaf is not that of the record")
		}
		n++
	}
	if n != 4 {
		t.Errorf("%d leaves from 3 on, want 4", n)
	}
	mustClose(t, j)
}

// memory is a sink that fails when it is told to.
type memory struct {
	mu      sync.Mutex
	got     []uint64
	pending []uint64
	failing int
	closed  bool
}

func (m *memory) Write(_ context.Context, r *audit.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing > 0 {
		m.failing--
		m.pending = nil
		return errors.New("no connection")
	}
	m.pending = append(m.pending, r.Seq)
	return nil
}

func (m *memory) Flush(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.got = append(m.got, m.pending...)
	m.pending = nil
	return nil
}

func (m *memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

func TestSinksLagAndLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.Config.KeepBytes = 20 << 10
		j := g.Open(t)
		m := &memory{failing: 5}
		if err := j.Feed("a sink/", m); err != nil {
			t.Fatal(err)
		}
		if err := j.Feed("a sink/", m); err == nil {
			t.Error("a second Feed of the same name = nil, want an error")
		}
		first, err := j.Reader().Last(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			mustAppend(t, j, i, i+1)
		}
		if err := (clock.System{}).Wait(t.Context(), clock.System{}.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s := j.FeedStatus(); len(s) != 1 || s[0].Behind != 0 || s[0].Failures != 5 || s[0].Problem != nil || s[0].Late || s[0].At == 0 {
			t.Errorf("FeedStatus = %+v; want one that has all, after 5 failures", s)
		}
		mustClose(t, j)
		if !m.closed {
			t.Error("the sink was not closed")
		}
		second := &memory{}
		j = g.Open(t)
		if err := j.Feed("a sink/", second); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, j, 200, 220)
		if err := (clock.System{}).Wait(t.Context(), clock.System{}.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		got := slices.Compact(slices.Concat(m.got, second.got))
		last, err := j.Reader().Last(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, seq := range got {
			if seq != first+1+uint64(i) {
				t.Fatalf("record %d of the sink has sequence %d, want %d", i, seq, first+1+uint64(i))
			}
		}
		if got[len(got)-1] < last-1 {
			t.Errorf("the sink has records up to %d, the journal up to %d", got[len(got)-1], last)
		}
		if err := j.Unfeed("a sink/"); err != nil {
			t.Errorf("Unfeed = %v", err)
		}
		if feeds, err := j.Feeds(); err != nil || len(feeds) != 0 {
			t.Errorf("Feeds() = %v, %v, want none", feeds, err)
		}
		mustClose(t, j)
	})
}

// A write that fails half way is taken back, and what comes next is kept.
func TestAFailedWriteIsTakenBack(t *testing.T) {
	g := newRig(t)
	j := g.Open(t)
	mustAppend(t, j, 0, 3)
	g.Disk.FailWrites(errors.New("I/O error"))
	rider := j.Rider(func() (*audit.Record, error) { return audittest.Record(3), nil })
	if err := carry(t.Context(), g.Store, rider, 3); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(t.Context(), audittest.Record(4)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Append with failing writes = %v, want Unavailable", err)
	}
	g.Disk.FailWrites(nil)
	mustAppend(t, j, 5, 8)
	want := []string{"request-0", "request-1", "request-2", "request-3", "request-5", "request-6", "request-7"}
	if got := audittest.Requests(audittest.Records(t, j.Reader())); !slices.Equal(got, want) {
		t.Errorf("records of %v, want %v", got, want)
	}
	crashed := g.Disk.Clone()
	mustClose(t, j)
	wantVerified(t, g.Reader(t))
	j = g.On(t, crashed).Open(t)
	if got := audittest.Requests(audittest.Records(t, j.Reader())); !slices.Equal(got, want) {
		t.Errorf("records after a restart of %v, want %v", got, want)
	}
	mustClose(t, j)
}

// Sealing works when the disk does not answer: in bounded time, and the key is gone.
func TestLockDoesNotHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		j := g.Open(t)
		mustAppend(t, j, 0, 2)
		r := j.Reader()
		release := g.Disk.HangSyncs()
		start := clock.System{}.Now()
		j.Lock()
		if d := (clock.System{}).Now().Sub(start); d > 3*time.Second {
			t.Errorf("Lock on a hanging disk took %v", d)
		}
		for _, err := range r.Records(t.Context(), 1) {
			if !errors.Is(err, audit.ErrLocked) {
				t.Errorf("a reader from before = %v, want ErrLocked", err)
			}
		}
		release()
		synctest.Wait()
		if err := j.Unlock(g.Key.Clone(), g.Store); err != nil {
			t.Fatalf("Unlock when the disk is back = %v", err)
		}
		mustAppend(t, j, 2, 4)
		wantVerified(t, j.Reader())
		mustClose(t, j)
	})
}

func TestUnlockRefuses(t *testing.T) {
	g := newRig(t)
	j := g.Open(t)
	mustAppend(t, j, 0, 2)
	if err := j.Unlock(g.Key.Clone(), g.Store); err == nil {
		t.Error("a second Unlock = nil, want an error")
	}
	j.Lock()
	if err := j.Unlock(secret.NewBytes(make([]byte, 8)), g.Store); !errors.Is(err, audit.ErrWrongKey) {
		t.Errorf("Unlock with a short key = %v, want ErrWrongKey", err)
	}
	if err := j.Unlock(g.Key.Clone(), g.Store); err != nil {
		t.Errorf("Unlock after refusals = %v", err)
	}
	mustClose(t, j)
	g.Disk.Change("journal-head", func(b []byte) []byte { return append(b[:len(b)-1], b[len(b)-1]^1) })
	if _, err := g.TryOpen(); !errors.Is(err, audit.ErrCorrupt) {
		t.Errorf("Open with a damaged head = %v, want ErrCorrupt", err)
	}
	g.Disk.Change("journal-head", func(b []byte) []byte { b[7] = 9; return b })
	if _, err := g.TryOpen(); !errors.Is(err, audit.ErrNewer) {
		t.Errorf("Open with a newer head = %v, want ErrNewer", err)
	}
}

// A key that was turned begins a segment, and the chain goes on.
func TestTurnedKey(t *testing.T) {
	g := newRig(t)
	j := g.Open(t)
	mustAppend(t, j, 0, 3)
	mustClose(t, j)
	other := *g
	other.Key = secret.NewBytes([]byte("ffffffffffffffffffffffffffffffff"))
	j = other.Open(t)
	mustAppend(t, j, 3, 6)
	got := 0
	err := j.Reader().Search(t.Context(), audit.Filter{Kind: audit.Request, Limit: 3}, func(*audit.Record) error { got++; return nil })
	if err != nil || got != 3 {
		t.Errorf("Search found %d, %v, want the 3 under the key", got, err)
	}
	mustClose(t, j)
	for key, opened := range map[*audittest.Rig]uint64{g: 5, &other: 5} {
		rep, err := key.Reader(t).Verify(t.Context(), nil)
		if key == g {
			if !errors.Is(err, audit.ErrCorrupt) { // the head is the other key's
				t.Errorf("Verify with the key from before = %v", err)
			}
			continue
		}
		if err != nil || rep.Opened != opened || rep.Records != 2*opened {
			t.Errorf("Verify = %+v, %v, want %d of %d opened", rep, err, opened, 2*opened)
		}
	}
}

func TestSealedEventsAreBoundedAndReadOffline(t *testing.T) {
	dir, keys := filepath.Join(t.TempDir(), "audit"), t.TempDir()
	j, err := audit.Open(dir, audit.Config{KeysDir: keys, Clock: clock.System{}, SegmentBytes: 64 << 10, Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Sealed(t.Context(), "unseal-refused"); err != nil {
		t.Fatal(err)
	}
	mustClose(t, j)
	r, err := audit.OpenSealedReader(dir, keys)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if recs := audittest.Records(t, r); len(recs) != 1 || recs[0].Event != "unseal-refused" {
		t.Errorf("events = %+v", recs)
	}
	if _, err := audit.OpenSealedReader(dir, t.TempDir()); err == nil {
		t.Error("OpenSealedReader without a key = nil, want an error")
	}
}

func TestLongValuesAreCut(t *testing.T) {
	g := newRig(t)
	g.Config.SegmentBytes = 64 << 10
	j := g.Open(t)
	r := audittest.Record(1)
	r.Error = strings.Repeat("é", 5000)
	r.In = []byte(`["` + strings.Repeat("x", 100<<10) + `"]`)
	r.Actor.Policies = make([]string, 1000)
	if err := j.Append(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	got := audittest.Records(t, j.Reader())[1]
	if len(got.Error) > 5000 || !strings.HasSuffix(got.Error, "…") || string(got.In) != `{"bytes":102404,"truncated":true}` || len(got.Actor.Policies) != 257 {
		t.Errorf("a long record came back with an error of %d bytes, %s and %d policies", len(got.Error), got.In, len(got.Actor.Policies))
	}
	mustClose(t, j)
}
