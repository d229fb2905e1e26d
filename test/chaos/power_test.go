package chaos

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"rotunda.dev/rotunda/test/chaos/disk"
)

// powerCycle lets the power of w's node fail while it is written to, and holds it
// to what it had acknowledged. With again it is killed before, started, and looked
// at, so that it has shown what a process left that was killed.
func (w *world) powerCycle(r *rand.Rand, while time.Duration, again bool) (wrong []string, err error) {
	w.load(r, while)
	if again {
		wrong, err = w.startAnew()
		if err != nil || len(wrong) > 0 {
			return wrong, err
		}
	}
	if err := w.n.cut(r); err != nil {
		return nil, err
	}
	wrong = w.offline()
	more, err := w.startAnew()
	return append(wrong, more...), err
}

// startAnew starts the node and holds it to what it had acknowledged.
func (w *world) startAnew() ([]string, error) {
	if _, err := w.n.start(); err != nil {
		return []string{fmt.Sprintf("the node does not start: %v", err)}, nil
	}
	return w.check()
}

// The power fails at random moments, and of what was not synced any part is
// kept, torn and in another order: the node keeps all that it has acknowledged.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	cuts := int(fromEnv(t, "ROTUNDA_CHAOS_CUTS", 30))
	seed := fromEnv(t, "ROTUNDA_CHAOS_SEED", uint64(time.Now().UnixNano()))
	t.Logf("ROTUNDA_CHAOS_SEED=%d ROTUNDA_CHAOS_CUTS=%d", seed, cuts)
	r := rand.New(rand.NewPCG(seed, 3))
	w := newWorldOf(t, newNodeOn(t, disk.New()))
	for cut := range cuts {
		wrong, err := w.powerCycle(r, time.Duration(10+r.IntN(250))*time.Millisecond, r.IntN(5) == 0)
		if err != nil {
			wrong = append(wrong, err.Error())
		}
		if len(wrong) > 0 {
			w.n.keep()
			t.Fatalf("cut %d:\n%s%s", cut, strings.Join(wrong, "\n"), w.n.logTail())
		}
	}
	s := w.n.disk.Stats()
	t.Logf("the power failed %d times under load: %d writes of single writers and %d of racing ones were acknowledged, 0 were lost; %d syncs; of what was not synced %d sectors were kept and %d were not, %d writes were torn, %d changes of names were undone",
		cuts, w.writes, w.race.last, s.Syncs, s.Kept, s.Lost, s.Torn, s.Names)
	if w.writes < cuts {
		t.Errorf("%d writes were acknowledged in %d cycles", w.writes, cuts)
	}
}

// The power fails while the node starts for the first time: it starts the next time.
func TestPowerCutFirstStart(t *testing.T) {
	t.Parallel()
	cuts := int(fromEnv(t, "ROTUNDA_CHAOS_STARTS", 12))
	seed := fromEnv(t, "ROTUNDA_CHAOS_SEED", uint64(time.Now().UnixNano()))
	t.Logf("ROTUNDA_CHAOS_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 4))
	for range cuts {
		n := newNodeOn(t, disk.New())
		for range 1 + r.IntN(2) {
			w := world{n: n}
			if err := w.interrupt(time.Duration(r.IntN(150)) * time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if err := n.cut(r); err != nil {
				t.Fatal(err)
			}
		}
		n.proveNew()
		if err := n.cut(nil); err != nil {
			t.Fatal(err)
		}
		if wrong := (&world{n: n}).offline(); len(wrong) > 0 {
			t.Errorf("%v", wrong)
		}
	}
}

// proveNew starts a node for the first time, writes, lets the power fail, and reads.
func (n *node) proveNew() {
	n.t.Helper()
	if _, err := n.start(); err != nil {
		n.t.Fatal(err)
	}
	n.must("POST", "secret/data/a", padded("v", 10))
	if err := n.cut(nil); err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.start(); err != nil {
		n.t.Fatalf("after the power failed: %v", err)
	}
	if got := unpadded(n.must("GET", "secret/data/a", nil).object("data.data")); got != "v" {
		n.t.Errorf("a read gave %q", got)
	}
}

// The power cuts find what they are for: a store that is not synced before an
// answer, a journal that is not, and names that are not.
func TestPlantedPowerFaults(t *testing.T) {
	for name, c := range map[string]struct {
		faults disk.Faults
		want   []string // any of them, in what the checks say
	}{
		"a store that is not synced":   {disk.Faults{NoSync: "store.db"}, []string{"was acknowledged", "damaged", "is at", "the node does not start"}},
		"a journal that is not synced": {disk.Faults{NoSync: "journal-"}, []string{"is not in the journal", "NOT whole", "audit journal"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldOf(t, newNodeOn(t, disk.New()))
			w.n.disk.SetFaults(c.faults)
			var said string
			for i := range 10 {
				wrong, err := w.powerCycle(rand.New(rand.NewPCG(1, uint64(i))), 200*time.Millisecond, false)
				if err != nil {
					wrong = append(wrong, err.Error())
				}
				if said = strings.Join(wrong, "\n"); said != "" {
					break
				}
			}
			for _, want := range c.want {
				if strings.Contains(said, want) {
					t.Logf("found: %.400s", said)
					return
				}
			}
			t.Errorf("the checks do not see it, and say:\n%s", said)
		})
	}
	t.Run("names that are not synced", func(t *testing.T) {
		t.Parallel()
		n := newNodeOn(t, disk.New())
		n.disk.SetFaults(disk.Faults{NoSyncDir: true})
		if _, err := n.start(); err != nil {
			t.Fatal(err)
		}
		n.must("POST", "secret/data/a", padded("v", 10))
		if err := n.cut(nil); err != nil {
			t.Fatal(err)
		}
		if _, err := n.start(); err == nil {
			if a, err := n.do(n.root, "GET", "secret/data/a", nil); err == nil && a.status == 200 {
				t.Error("the node has all that it acknowledged, for all that was not synced")
			}
		}
	})
}
