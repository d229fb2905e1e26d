package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/audit/audittest"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/secret"
)

const cluster = "0a0b0c0d-0000-1111-2222-333344445555"

func seed(b byte) secret.Bytes { return secret.NewBytes(bytes.Repeat([]byte{b}, 32)) }

// certified opens the journal of g, which signs checkpoints.
func certified(t testing.TB, g *audittest.Rig) *audit.Journal {
	t.Helper()
	j := g.Open(t)
	if err := j.Certify(seed(1), cluster); err != nil {
		t.Fatalf("Certify() = %v", err)
	}
	return j
}

func keyOf(t testing.TB, j *audit.Journal) *audit.Key {
	t.Helper()
	k, err := j.VerifierKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// stranger returns a reader of what is on the disk without any secret.
func stranger(t testing.TB, d *audittest.Disk) *audit.Reader {
	t.Helper()
	r, err := audit.NewReader(d, secret.Bytes{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func appendMany(t testing.TB, j *audit.Journal, from, to int) {
	t.Helper()
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			for i := from + w; i < to; i += 64 {
				if err := j.Append(t.Context(), audittest.Record(i)); err != nil {
					t.Errorf("Append(%d) = %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func mustVerify(t testing.TB, d *audittest.Disk, trust audit.Trust) audit.Report {
	t.Helper()
	rep, err := stranger(t, d).VerifySigned(t.Context(), trust, nil)
	if err != nil {
		t.Fatalf("VerifySigned() = %+v, %v", rep, err)
	}
	return rep
}

func checkpoint(t testing.TB, j *audit.Journal, covering uint64) audit.Checkpoint {
	t.Helper()
	c, err := j.Checkpoint(t.Context(), covering)
	if err != nil {
		t.Fatalf("Checkpoint(%d) = %v", covering, err)
	}
	return c
}

func last(t testing.TB, j *audit.Journal) uint64 {
	t.Helper()
	n, err := j.Reader().Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAStrangerVerifiesACopy(t *testing.T) {
	g := newRig(t)
	g.Config = audit.WithBundles(g.Config, 8)
	g.Config.SegmentBytes = 64 << 10
	j := certified(t, g)
	key := keyOf(t, j)
	var kept [][]byte
	for i := range 4 {
		appendMany(t, j, 1500*i, 1500*(i+1))
		kept = append(kept, []byte(checkpoint(t, j, last(t, j)).Note))
	}
	head := last(t, j)
	if rep, err := j.Reader().VerifySigned(t.Context(), audit.Trust{Key: key, Checkpoints: kept}, nil); err != nil || rep.Signed.Records != head {
		t.Errorf("VerifySigned of the live journal = %+v, %v", rep, err)
	}
	mustClose(t, j)
	rep := mustVerify(t, g.Disk, audit.Trust{Key: key, Checkpoints: kept})
	if rep.Signed.Records != rep.Last || rep.Signed.Checkpoints < 10 || rep.Signed.Stale != 0 {
		t.Errorf("VerifySigned() = %+v, want every record signed, ten checkpoints and all tiles", rep)
	}
	other, err := audit.PublicKey(seed(2), cluster, key.Journal())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger(t, g.Disk).VerifySigned(t.Context(), audit.Trust{Key: other}, nil); !errors.Is(err, audit.ErrCorrupt) {
		t.Errorf("VerifySigned with another key = %v, want ErrCorrupt", err)
	}
	again, err := audit.ParseKey(" " + key.String() + "\n")
	if err != nil || again.Origin() != key.Origin() {
		t.Errorf("ParseKey of a key's text = %v, %v", again, err)
	}
}

func TestCheckpointsAreThousandRecordsApartAtMost(t *testing.T) {
	g := newRig(t)
	g.Config.Clock = clocktest.New(time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)) // stands still
	g.Config = audit.WithBundles(g.Config, 12)
	j := certified(t, g)
	appendMany(t, j, 0, 10_500)
	mustClose(t, j)
	var sizes []uint64
	names, err := g.Disk.Names()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "checkpoints-") {
			continue
		}
		notes, rest := audit.ParseNotes(g.Disk.Content(name))
		if tail := g.Disk.Content(name); strings.Trim(string(tail[len(tail)-rest:]), "\x00") != "" {
			t.Errorf("%s ends with %q", name, tail[len(tail)-rest:])
		}
		for _, n := range notes {
			c, _, err := audit.ReadNote(n)
			if err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, c.Size)
		}
	}
	at := uint64(0)
	for _, size := range sizes {
		if size <= at || size > at+1000 {
			t.Errorf("a checkpoint of %d records follows that of %d", size, at)
		}
		at = size
	}
	if at < 10_500 {
		t.Errorf("checkpoints of %v records, want all 10,500", sizes)
	}
}

func TestIdleCheckpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clocktest.New(time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC))
		g := newRig(t)
		g.Config.Clock = c
		j := certified(t, g)
		appendMany(t, j, 0, 10)
		synctest.Wait()
		c.Advance(10 * time.Second)
		synctest.Wait()
		size := last(t, j)
		files := func() (names []string, bytes int64) {
			names, err := g.Disk.Names()
			if err != nil {
				t.Fatal(err)
			}
			return names, g.Disk.Used()
		}
		names, used := files()
		for range 1000 {
			c.Advance(10 * time.Second)
			synctest.Wait()
			if at := checkpoint(t, j, 0); at.Size != size || at.Time.Before(c.Now().Add(-10*time.Second)) {
				t.Fatalf("at %v the last checkpoint is of %d records at %v, want %d and not older than 10s", c.Now(), at.Size, at.Time, size)
			}
		}
		if n, u := files(); !slices.Equal(n, names) || u > used+100 {
			t.Errorf("after an idle time there are %v with %d bytes, before %v with %d", n, u, names, used)
		}
		if got := last(t, j); got != size {
			t.Errorf("an idle time added %d records", got-size)
		}
		key := keyOf(t, j)
		mustClose(t, j)
		if rep := mustVerify(t, g.Disk, audit.Trust{Key: key}); rep.Signed.At.Before(c.Now().Add(-10 * time.Second)) {
			t.Errorf("VerifySigned() = %+v, want it signed a moment ago", rep)
		}
	})
}

func TestTheKeyIsThereWhileUnlocked(t *testing.T) {
	g := newRig(t)
	j := g.Open(t)
	if _, err := j.VerifierKey(); !fault.Is(err, fault.Unavailable) {
		t.Errorf("VerifierKey before Certify = %v, want Unavailable", err)
	}
	if err := j.Certify(seed(1), cluster); err != nil {
		t.Fatal(err)
	}
	if err := j.Certify(seed(1), cluster); err == nil {
		t.Error("a second Certify = nil, want an error")
	}
	key := keyOf(t, j)
	j.Lock()
	if _, err := j.VerifierKey(); !fault.Is(err, fault.Unavailable) {
		t.Errorf("VerifierKey while locked = %v, want Unavailable", err)
	}
	if _, err := j.Checkpoint(t.Context(), 0); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Checkpoint while locked = %v, want Unavailable", err)
	}
	if err := j.Certify(seed(1), cluster); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Certify while locked = %v, want Unavailable", err)
	}
	if err := j.Unlock(g.Key.Clone(), g.Store); err != nil {
		t.Fatal(err)
	}
	if err := j.Certify(seed(1), cluster); err != nil {
		t.Fatal(err)
	}
	if again := keyOf(t, j); again.String() != key.String() {
		t.Errorf("the key is %s, and was %s", again, key)
	}
	mustClose(t, j)
	if rep := mustVerify(t, g.Disk, audit.Trust{Key: key}); rep.Signed.Records != rep.Last {
		t.Errorf("VerifySigned() = %+v, want every record signed", rep)
	}
}

// A disk that does not answer keeps neither the lock from being taken nor the key in memory.
func TestLockDoesNotHangForACheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		j := certified(t, g)
		mustAppend(t, j, 0, 2)
		key := keyOf(t, j)
		release := g.Disk.HangSyncs()
		start := clock.System{}.Now()
		j.Lock()
		if d := (clock.System{}).Now().Sub(start); d > 3*time.Second {
			t.Errorf("Lock on a hanging disk took %v", d)
		}
		if err := j.Unlock(g.Key.Clone(), g.Store); !fault.Is(err, fault.Unavailable) {
			t.Errorf("Unlock while the disk hangs = %v, want Unavailable", err)
		}
		release()
		synctest.Wait()
		if err := j.Unlock(g.Key.Clone(), g.Store); err != nil {
			t.Fatalf("Unlock when the disk is back = %v", err)
		}
		if err := j.Certify(seed(1), cluster); err != nil {
			t.Fatalf("Certify when the disk is back = %v", err)
		}
		mustAppend(t, j, 2, 4)
		if at, err := j.Certified(); err != nil || at.IsZero() {
			t.Errorf("Certified() = %v, %v", at, err)
		}
		mustClose(t, j)
		if rep := mustVerify(t, g.Disk, audit.Trust{Key: key}); rep.Signed.Records != rep.Last {
			t.Errorf("VerifySigned() = %+v, want every record signed", rep)
		}
	})
}

func TestProofs(t *testing.T) {
	g := newRig(t)
	g.Config = audit.WithBundles(g.Config, 6)
	g.Config.SegmentBytes = 32 << 10
	j := certified(t, g)
	key := keyOf(t, j)
	appendMany(t, j, 0, 700)
	old := checkpoint(t, j, last(t, j))
	appendMany(t, j, 700, 1000)
	check := func(t *testing.T, r *audit.Reader, seq uint64) *audit.Proof {
		t.Helper()
		p, err := r.Prove(t.Context(), seq)
		if err != nil {
			t.Fatalf("Prove(%d) = %v", seq, err)
		}
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		p, _, err = audit.ParseProof(b)
		if err != nil {
			t.Fatal(err)
		}
		shown, err := p.Check(key)
		if err != nil {
			t.Fatalf("Check of the proof of %d = %v", seq, err)
		}
		var rec audit.Record
		if err := rec.UnmarshalJSON(shown.Record); err != nil || shown.Sequence != seq || rec.ID == "" {
			t.Fatalf("the proof of %d shows %s, %v", seq, shown.Record, err)
		}
		if found, err := r.Find(t.Context(), rec.ID); err != nil || found != seq {
			t.Fatalf("Find(%s) = %d, %v; want %d", rec.ID, found, err, seq)
		}
		return p
	}
	head := last(t, j)
	for seq := uint64(1); seq <= head; seq += 37 {
		check(t, j.Reader(), seq)
	}
	check(t, j.Reader(), head)
	for from := uint64(1); from <= old.Size; from += 31 {
		c, err := j.Reader().Consistency(t.Context(), from, 0)
		if err != nil {
			t.Fatalf("Consistency(%d, 0) = %v", from, err)
		}
		if from != old.Size && c.From == "" {
			continue
		}
		if _, _, err := c.Check(key, nil); err != nil {
			t.Errorf("Check of the proof from %d = %v", from, err)
		}
	}
	c, err := j.Reader().Consistency(t.Context(), old.Size, 0)
	if err != nil {
		t.Fatal(err)
	}
	if from, to, err := c.Check(key, []byte(old.Note)); err != nil || from.Size != old.Size || to.Size < head {
		t.Errorf("Check of the proof from the kept checkpoint = %v, %v, %v", from, to, err)
	}
	for _, bad := range []uint64{0, head + 1000} {
		if _, err := j.Reader().Prove(t.Context(), bad); !fault.Is(err, fault.NotFound) {
			t.Errorf("Prove(%d) = %v, want NotFound", bad, err)
		}
	}
	if _, err := j.Reader().Find(t.Context(), strings.Repeat("0", 32)); !fault.Is(err, fault.NotFound) {
		t.Errorf("Find of what is not there = %v, want NotFound", err)
	}
	mustClose(t, j)

	t.Run("of a stopped node", func(t *testing.T) { check(t, g.Reader(t), 500) })
	t.Run("with damaged tiles", func(t *testing.T) {
		d := g.Disk.Clone()
		names, err := d.Names()
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			if strings.HasPrefix(name, "tree-") && name != "tree-roots" {
				d.Change(name, func(b []byte) []byte {
					if i%2 == 0 {
						return nil
					}
					b[len(b)-40] ^= 1
					return b
				})
			}
		}
		d.Change("tree-roots", func(b []byte) []byte { b[70] ^= 1; return b })
		check(t, g.On(t, d).Reader(t), 500)
		if rep := mustVerify(t, d, audit.Trust{Key: key}); rep.Signed.Stale == 0 {
			t.Errorf("VerifySigned() = %+v, want stale tiles", rep)
		}
		j := certified(t, g.On(t, d))
		check(t, j.Reader(), 3)
		checkpoint(t, j, last(t, j))
		mustClose(t, j)
		if rep := mustVerify(t, d, audit.Trust{Key: key}); rep.Signed.Stale != 0 {
			t.Errorf("VerifySigned() = %+v after the node ran, want all tiles", rep)
		}
	})
	t.Run("tampered with", func(t *testing.T) {
		p := check(t, g.Reader(t), 500)
		other := check(t, g.Reader(t), 501)
		for name, change := range map[string]func(p *audit.Proof){
			"a byte of the record": func(p *audit.Proof) { p.Record = flipped(p.Record, 20) },
			"the sequence":         func(p *audit.Proof) { p.Sequence++ },
			"the key":              func(p *audit.Proof) { p.Key = other.Key },
			"no key":               func(p *audit.Proof) { p.Key = nil },
			"the record":           func(p *audit.Proof) { p.Record = other.Record },
			"a hash":               func(p *audit.Proof) { p.Path = slices.Clone(p.Path); p.Path[2] = flipped(p.Path[2], 1) },
			"a hash less":          func(p *audit.Proof) { p.Path = p.Path[1:] },
			"a hash more":          func(p *audit.Proof) { p.Path = append(slices.Clone(p.Path), p.Path[0]) },
			"many hashes":          func(p *audit.Proof) { p.Path = slices.Repeat(p.Path, 20) },
			"a short hash":         func(p *audit.Proof) { p.Path = slices.Clone(p.Path); p.Path[0] = p.Path[0][:31] },
			"no record":            func(p *audit.Proof) { p.Record = nil },
			"the checkpoint":       func(p *audit.Proof) { p.Checkpoint = old.Note },
			"the size":             func(p *audit.Proof) { p.Checkpoint = strings.Replace(p.Checkpoint, "\n1", "\n2", 1) },
		} {
			bad := *p
			change(&bad)
			if _, err := bad.Check(key); !errors.Is(err, audit.ErrCorrupt) {
				t.Errorf("Check with %s changed = %v, want ErrCorrupt", name, err)
			}
		}
		wrong := *c
		wrong.Path = slices.Clone(c.Path)
		wrong.Path[0] = flipped(wrong.Path[0], 3)
		if _, _, err := wrong.Check(key, []byte(old.Note)); !errors.Is(err, audit.ErrCorrupt) {
			t.Errorf("Check with another path = %v, want ErrCorrupt", err)
		}
	})
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// A journal, what strangers kept of it, and the disk as it was before.
type tampered struct {
	d    *audittest.Disk
	rng  *rand.Rand
	segs []string
	old  *audittest.Disk
	swap *audittest.Disk
}

func (x *tampered) segment() string { return x.segs[x.rng.IntN(len(x.segs))] }

func withPrefix(t testing.TB, d *audittest.Disk, prefix string) []string {
	t.Helper()
	names, err := d.Names()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, prefix) })
}

// forge computes checksums and chain anew over everything, as whoever knows
// the format can.
func forge(t testing.TB, d *audittest.Disk) {
	t.Helper()
	audit.Rechain(func(yield func(string, []byte) bool) {
		for _, name := range withPrefix(t, d, "journal-0") {
			if !yield(name, d.Content(name)) {
				return
			}
		}
	}, func(name string, b []byte) { d.Change(name, func([]byte) []byte { return b }) })
}

func TestEveryTamperingIsFound(t *testing.T) {
	rounds := 1000
	if testing.Short() || detecting {
		rounds = 60
	}
	g := newRig(t)
	g.Config = audit.WithBundles(g.Config, 6)
	g.Config.SegmentBytes = 16 << 10
	j := certified(t, g)
	key := keyOf(t, j)
	appendMany(t, j, 0, 100)
	checkpoint(t, j, last(t, j))
	mustClose(t, j)
	old := g.Disk.Clone() // an older copy of everything
	j = certified(t, g)
	for i := range 4 {
		appendMany(t, j, 100+50*i, 150+50*i)
		checkpoint(t, j, last(t, j))
	}
	kept := []byte(checkpoint(t, j, last(t, j)).Note)
	mustClose(t, j)
	other := newRig(t) // the journal of another, under the same keys
	keys := other.Config.KeysDir
	other.Config = g.Config
	other.Config.Disk, other.Config.KeysDir = other.Disk, keys
	jo := certified(t, other)
	appendMany(t, jo, 0, 300)
	mustClose(t, jo)

	kinds := map[string]func(x *tampered) string{
		"changed": func(x *tampered) string {
			name := x.segment()
			at := x.rng.IntN(lastEnd(t, x.d, name))
			x.d.Change(name, func(b []byte) []byte { b[at] ^= byte(1 + x.rng.IntN(255)); return b })
			return fmt.Sprintf("byte %d of %s", at, name)
		},
		"changed, chained anew": func(x *tampered) string {
			name := x.segment()
			from, to := someFrame(t, x.rng, x.d, name)
			at := from + 44 + 9 + x.rng.IntN(to-from-45-9)
			x.d.Change(name, func(b []byte) []byte { b[at] ^= byte(1 + x.rng.IntN(255)); return b })
			forge(t, x.d)
			return fmt.Sprintf("byte %d of %s", at, name)
		},
		"removed": func(x *tampered) string {
			name := x.segment()
			from, to := someFrame(t, x.rng, x.d, name)
			x.d.Change(name, func(b []byte) []byte { return slices.Delete(b, from, to) })
			return fmt.Sprintf("bytes %d to %d of %s", from, to, name)
		},
		"inserted": func(x *tampered) string {
			name, into := x.segment(), x.segment()
			from, to := someFrame(t, x.rng, x.d, name)
			at, _ := someFrame(t, x.rng, x.d, into)
			frame := x.d.Content(name)[from:to]
			x.d.Change(into, func(b []byte) []byte { return slices.Insert(b, at, frame...) })
			return fmt.Sprintf("bytes %d to %d of %s at %d of %s", from, to, name, at, into)
		},
		"reordered": func(x *tampered) string {
			name := x.segment()
			ends := append([]int{128}, frameEnds(t, x.d.Content(name))...)
			for len(ends) < 3 {
				name = x.segment()
				ends = append([]int{128}, frameEnds(t, x.d.Content(name))...)
			}
			i := x.rng.IntN(len(ends) - 2)
			x.d.Change(name, func(b []byte) []byte {
				first, second := slices.Clone(b[ends[i]:ends[i+1]]), slices.Clone(b[ends[i+1]:ends[i+2]])
				copy(b[ends[i]:], append(second, first...))
				return b
			})
			return fmt.Sprintf("records %d and %d of %s", i, i+1, name)
		},
		"truncated": func(x *tampered) string {
			n := 1 + x.rng.IntN(len(x.segs)-1)
			for _, name := range x.segs[n:] {
				x.d.Change(name, func([]byte) []byte { return nil })
			}
			name := x.segs[n-1]
			ends := append([]int{128}, frameEnds(t, x.d.Content(name))...)
			at := ends[x.rng.IntN(len(ends))]
			x.d.Change(name, func(b []byte) []byte { return b[:at] })
			x.d.Change("journal-head", func([]byte) []byte { return x.old.Content("journal-head") })
			return fmt.Sprintf("behind byte %d of %s", at, name)
		},
		"truncated at the beginning": func(x *tampered) string {
			n := 1 + x.rng.IntN(len(x.segs)-1)
			for _, name := range x.segs[:n] {
				x.d.Change(name, func([]byte) []byte { return nil })
			}
			return fmt.Sprintf("%d segments", n)
		},
		"put back as a whole": func(x *tampered) string { // against the kept checkpoint alone
			x.d = x.old.Clone()
			return "journal, tiles, checkpoints and head of before"
		},
		"swapped as a whole": func(x *tampered) string {
			x.d = x.swap.Clone()
			return "another journal with its tiles and checkpoints"
		},
		"swapped segments": func(x *tampered) string {
			name := x.segment()
			foreign := withPrefix(t, x.swap, "journal-0")
			b := x.swap.Content(foreign[x.rng.IntN(len(foreign))])
			x.d.Change(name, func([]byte) []byte { return b })
			return name
		},
		"a checkpoint": func(x *tampered) string {
			names := append(withPrefix(t, x.d, "checkpoints-"), "checkpoint")
			name := names[x.rng.IntN(len(names))]
			size := len(bytes.TrimRight(x.d.Content(name), "\x00"))
			at := x.rng.IntN(size)
			x.d.Change(name, func(b []byte) []byte { b[at] ^= byte(1 + x.rng.IntN(255)); return b })
			return fmt.Sprintf("byte %d of %s", at, name)
		},
		"checkpoints of another": func(x *tampered) string {
			names := append(withPrefix(t, x.d, "checkpoints-"), "checkpoint")
			name := names[x.rng.IntN(len(names))]
			x.d.Change(name, func([]byte) []byte { return x.swap.Content("checkpoint") })
			return name
		},
		"no last checkpoint": func(x *tampered) string {
			x.d.Change("checkpoint", func([]byte) []byte { return nil })
			return "removed"
		},
	}
	names := make([]string, 0, len(kinds))
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	for i := range rounds {
		kind := names[i%len(names)]
		x := &tampered{g.Disk.Clone(), rand.New(rand.NewPCG(uint64(i), 7)), withPrefix(t, g.Disk, "journal-0"), old, other.Disk}
		what := kinds[kind](x)
		rep, err := stranger(t, x.d).VerifySigned(t.Context(), audit.Trust{Key: key, Checkpoints: [][]byte{kept}}, nil)
		if !errors.Is(err, audit.ErrCorrupt) && !errors.Is(err, audit.ErrNewer) {
			t.Errorf("round %d: %s (%s): VerifySigned() = %+v, %v; want ErrCorrupt", i, kind, what, rep, err)
		}
	}
}

// TestATreeContradictionIsSaid puts an older journal under a newer checkpoint.
func TestATreeContradictionIsSaid(t *testing.T) {
	g := newRig(t)
	j := certified(t, g)
	appendMany(t, j, 0, 50)
	mustClose(t, j)
	old := g.Disk.Clone()
	j = certified(t, g)
	appendMany(t, j, 50, 100)
	mustClose(t, j)
	for _, name := range withPrefix(t, g.Disk, "checkpoint") {
		b := g.Disk.Content(name)
		old.Change(name, func([]byte) []byte { return b })
	}
	short := g.On(t, old).Open(t)
	if err := short.Certify(seed(1), cluster); !errors.Is(err, audit.ErrCorrupt) {
		t.Errorf("Certify of a journal that is shorter than its checkpoint = %v, want ErrCorrupt", err)
	}
	mustClose(t, short)

	// As long as the checkpoint says, and another: the signature is right, the records are not.
	forged := newRig(t)
	j = certified(t, forged)
	appendMany(t, j, 0, 30)
	c := checkpoint(t, j, last(t, j))
	mustClose(t, j)
	audit.SignedAs(t, seed(1), cluster, &c, func(note []byte) { forged.Disk.Change("checkpoint", func([]byte) []byte { return note }) })
	for _, name := range withPrefix(t, forged.Disk, "checkpoints-") {
		forged.Disk.Change(name, func([]byte) []byte { return nil })
	}
	j = certified(t, forged)
	if _, err := j.Checkpoint(t.Context(), last(t, j)); !errors.Is(err, audit.ErrCorrupt) {
		t.Errorf("Checkpoint where the last one contradicts the records = %v, want ErrCorrupt", err)
	}
	appendMany(t, j, 100, 101) // the journal works
	said := false
	for _, r := range audittest.Records(t, j.Reader()) {
		said = said || r.Event == "checkpoint-contradiction"
	}
	if !said {
		t.Error("no record says that a checkpoint contradicts the records")
	}
	mustClose(t, j)
}

// TestDamagedCheckpointsAreSaid damages what a node finds when it is started:
// it says so in the journal, and goes on from what it can believe.
func TestDamagedCheckpointsAreSaid(t *testing.T) {
	g := newRig(t)
	j := certified(t, g)
	appendMany(t, j, 0, 20)
	checkpoint(t, j, last(t, j))
	key := keyOf(t, j)
	mustClose(t, j)
	history := withPrefix(t, g.Disk, "checkpoints-")[0]
	for name, tc := range map[string]struct {
		damage func(d *audittest.Disk)
		said   bool
	}{
		"the last one":     {func(d *audittest.Disk) { d.Change("checkpoint", func(b []byte) []byte { return flipped(b, len(b)-9) }) }, true},
		"the last is gone": {func(d *audittest.Disk) { d.Change("checkpoint", func([]byte) []byte { return nil }) }, false},
		"the others": {func(d *audittest.Disk) {
			d.Change(history, func(b []byte) []byte { return b[:len(bytes.TrimRight(b, "\x00"))-9] })
		}, true},
		"all tiles": {func(d *audittest.Disk) {
			for _, n := range withPrefix(t, d, "tree-") {
				d.Change(n, func(b []byte) []byte { clear(b); return b })
			}
		}, false},
	} {
		d := g.Disk.Clone()
		tc.damage(d)
		j := certified(t, g.On(t, d))
		checkpoint(t, j, last(t, j))
		said := false
		for _, r := range audittest.Records(t, j.Reader()) {
			said = said || r.Event == "checkpoint-damaged"
		}
		if said != tc.said {
			t.Errorf("%s: that a checkpoint is damaged is said: %v, want %v", name, said, tc.said)
		}
		mustClose(t, j)
		if rep := mustVerify(t, d, audit.Trust{Key: key}); rep.Signed.Records != rep.Last || rep.Signed.Stale != 0 {
			t.Errorf("%s: VerifySigned() = %+v", name, rep)
		}
	}
}

func TestRetentionKeepsTheTree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.Config.KeepBytes = 40 << 10
		g.Config = audit.WithBundles(g.Config, 5)
		j := certified(t, g)
		key := keyOf(t, j)
		var kept [][]byte
		for i := range 800 {
			mustAppend(t, j, i, i+1)
			if i%100 == 50 {
				kept = append(kept, []byte(checkpoint(t, j, last(t, j)).Note))
			}
			synctest.Wait()
		}
		checkpoint(t, j, last(t, j))
		s, err := j.Reader().Summary(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.First < 300 {
			t.Fatalf("the journal holds %+v, want the oldest records removed", s)
		}
		if p, err := j.Reader().Prove(t.Context(), s.First); err != nil {
			t.Errorf("Prove(%d) = %v", s.First, err)
		} else if _, err := p.Check(key); err != nil {
			t.Errorf("Check = %v", err)
		}
		if _, err := j.Reader().Consistency(t.Context(), 40, 0); !fault.Is(err, fault.NotFound) {
			t.Errorf("Consistency with records that were removed = %v, want NotFound", err)
		}
		mustClose(t, j)
		if n := len(withPrefix(t, g.Disk, "tree-0")); n > 8 {
			t.Errorf("%d files of tiles are left", n)
		}
		rep := mustVerify(t, g.Disk, audit.Trust{Key: key, Checkpoints: kept[len(kept)-1:]})
		if rep.First != s.First || rep.Signed.Records != rep.Last || rep.Signed.Stale != 0 {
			t.Errorf("VerifySigned() = %+v", rep)
		}
		if _, err := stranger(t, g.Disk).VerifySigned(t.Context(), audit.Trust{Key: key, Checkpoints: kept[:1]}, nil); err == nil || errors.Is(err, audit.ErrCorrupt) {
			t.Errorf("VerifySigned with a checkpoint of what was removed = %v, want an error that it cannot be compared", err)
		}
		// The tiles of what is there are made anew.
		d := g.Disk.Clone()
		for _, name := range withPrefix(t, d, "tree-0")[1:] {
			d.Change(name, func([]byte) []byte { return nil })
		}
		j = certified(t, g.On(t, d))
		checkpoint(t, j, last(t, j))
		mustClose(t, j)
		if rep := mustVerify(t, d, audit.Trust{Key: key}); rep.Signed.Stale != 0 || rep.Signed.Records != rep.Last {
			t.Errorf("VerifySigned() = %+v after tiles were lost, want them made anew", rep)
		}
		// Those of what was removed cannot be.
		d = g.Disk.Clone()
		d.Change("tree-roots", func([]byte) []byte { return nil })
		if _, err := stranger(t, d).VerifySigned(t.Context(), audit.Trust{Key: key}, nil); !errors.Is(err, audit.ErrCorrupt) {
			t.Errorf("VerifySigned without the roots of what was removed = %v, want ErrCorrupt", err)
		}
	})
}

// steps is a disk that calls before and after everything that changes a file
// of the tree or of checkpoints, or any file.
type steps struct {
	*audittest.Disk
	hook func()
	all  bool
}

func (d *steps) watched(name string) bool {
	return d.all || strings.HasPrefix(name, "tree-") || strings.HasPrefix(name, "checkpoint")
}

func (d *steps) Rename(from, to string) error {
	return d.around(to, func() error { return d.Disk.Rename(from, to) })
}

func (d *steps) around(name string, do func() error) error {
	if !d.watched(name) {
		return do()
	}
	d.hook()
	err := do()
	d.hook()
	return err
}

func (d *steps) Create(name string, size int64) (f audit.File, err error) {
	err = d.around(name, func() error { f, err = d.Disk.Create(name, size); return err })
	return &stepFile{f, name, d}, err
}

func (d *steps) Open(name string) (audit.File, error) {
	f, err := d.Disk.Open(name)
	return &stepFile{f, name, d}, err
}

func (d *steps) Replace(name string, b []byte) error {
	return d.around(name, func() error { return d.Disk.Replace(name, b) })
}

func (d *steps) Remove(name string) error {
	return d.around(name, func() error { return d.Disk.Remove(name) })
}

type stepFile struct {
	audit.File
	name string
	d    *steps
}

func (f *stepFile) WriteAt(b []byte, off int64) (n int, err error) {
	err = f.d.around(f.name, func() error { n, err = f.File.WriteAt(b, off); return err })
	return n, err
}

func (f *stepFile) Sync() error { return f.d.around(f.name, f.File.Sync) }

func (f *stepFile) Truncate(size int64) error {
	return f.d.around(f.name, func() error { return f.File.Truncate(size) })
}

// TestCrashAtEveryStepOfTheTree loses power before and after everything that
// is written of tree and checkpoints; a stranger then finds all in order, with
// every checkpoint that he had kept.
func TestCrashAtEveryStepOfTheTree(t *testing.T) {
	g := newRig(t)
	g.Config = audit.WithBundles(g.Config, 4)
	g.Config.SegmentBytes = 16 << 10
	g.Config.KeepBytes = 60 << 10
	d := &steps{Disk: g.Disk}
	g.Config.Disk = d
	type crash struct {
		disk  *audittest.Disk
		kept  []byte
		known audittest.Anchors
	}
	var (
		mu      sync.Mutex
		crashes []crash
		kept    []byte
	)
	rng := rand.New(rand.NewPCG(1, 2))
	d.hook = func() {
		mu.Lock()
		defer mu.Unlock()
		disk, known := g.Crash(t, func() *audittest.Disk { return g.Disk.Crash(rng) })
		crashes = append(crashes, crash{disk, kept, known})
	}
	j := certified(t, g)
	key := keyOf(t, j)
	for i := range 30 {
		appendMany(t, j, 7*i, 7*(i+1))
		c := checkpoint(t, j, last(t, j))
		mu.Lock()
		kept = []byte(c.Note)
		mu.Unlock()
	}
	mustClose(t, j)
	if len(crashes) < 100 {
		t.Fatalf("%d crashes, want some", len(crashes))
	}
	step := 1
	if testing.Short() || detecting {
		step = 7
	}
	for i := 0; i < len(crashes); i += step {
		c := crashes[i]
		after := g.On(t, c.disk)
		after.SetAnchors(t, c.known)
		j, err := after.TryOpen()
		if err != nil {
			t.Errorf("crash %d: opening the journal: %v", i, err)
			continue
		}
		if err := j.Certify(seed(1), cluster); err != nil {
			t.Errorf("crash %d: Certify() = %v", i, err)
			mustClose(t, j)
			continue
		}
		appendMany(t, j, 1000, 1010)
		if _, err := j.Checkpoint(t.Context(), last(t, j)); err != nil {
			t.Errorf("crash %d: Checkpoint() = %v", i, err)
		}
		mustClose(t, j)
		trust := audit.Trust{Key: key}
		if c.kept != nil {
			trust.Checkpoints = [][]byte{c.kept}
		}
		rep, err := stranger(t, c.disk).VerifySigned(t.Context(), trust, nil)
		if err != nil || rep.Signed.Records != rep.Last || rep.Signed.Stale != 0 {
			t.Errorf("crash %d: VerifySigned() = %+v, %v", i, rep, err)
		}
	}
}

// TestTheTreeSurvivesErrors makes everything fail that is written of tree and
// checkpoints, in turn.
func TestTheTreeSurvivesErrors(t *testing.T) {
	g := newRig(t)
	g.Config = audit.WithBundles(g.Config, 4)
	d := &failing{Disk: g.Disk}
	g.Config.Disk = d
	j := certified(t, g)
	key := keyOf(t, j)
	checkpoint(t, j, 1)
	for i := range 60 {
		d.in(i % 12)
		appendMany(t, j, 3*i, 3*(i+1))
		_, err := j.Checkpoint(t.Context(), last(t, j))
		if d.in(-1) && err == nil {
			continue
		}
		if _, err := j.Checkpoint(t.Context(), last(t, j)); err != nil {
			t.Fatalf("round %d: Checkpoint after an error = %v", i, err)
		}
	}
	mustClose(t, j)
	if rep := mustVerify(t, g.Disk, audit.Trust{Key: key}); rep.Signed.Records != rep.Last || rep.Signed.Stale != 0 {
		t.Errorf("VerifySigned() = %+v", rep)
	}
}

// failing is a disk on which one write to tree or checkpoints fails.
type failing struct {
	*audittest.Disk
	mu   sync.Mutex
	left int
}

var errDisk = errors.New("this one fails")

// in makes the n-th write fail from here on, and reports whether one has still to.
func (d *failing) in(n int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	was := d.left
	d.left = n + 1
	return was > 0
}

func (d *failing) fails(name string) error {
	if !strings.HasPrefix(name, "tree-") && !strings.HasPrefix(name, "checkpoint") {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left--; d.left == 0 {
		return errDisk
	}
	return nil
}

func (d *failing) Create(name string, size int64) (audit.File, error) {
	if err := d.fails(name); err != nil {
		return nil, err
	}
	f, err := d.Disk.Create(name, size)
	return &failingFile{f, name, d}, err
}

func (d *failing) Open(name string) (audit.File, error) {
	f, err := d.Disk.Open(name)
	return &failingFile{f, name, d}, err
}

func (d *failing) Replace(name string, b []byte) error {
	return errors.Join(d.fails(name), fsError(d.Disk.Replace(name, b)))
}

func fsError(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

type failingFile struct {
	audit.File
	name string
	d    *failing
}

func (f *failingFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.d.fails(f.name); err != nil {
		n, _ := f.File.WriteAt(b[:len(b)/2], off)
		return n, err
	}
	return f.File.WriteAt(b, off)
}

func (f *failingFile) Sync() error {
	if err := f.d.fails(f.name); err != nil {
		return err
	}
	return f.File.Sync()
}
