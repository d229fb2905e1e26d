// Package chaos kills the real server at random moments while it is written
// to, starts it again, and holds it to what it had acknowledged: nothing of it
// is lost, nothing that was not acknowledged is half there, the journal is
// whole and has the record of each of them once.
//
// ROTUNDA_CHAOS_CYCLES says how often it is killed, and ROTUNDA_CHAOS_SEED
// repeats the moments and the writes of a run that is printed; what the
// machine makes of them it does not.
package chaos

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const racers = 3 // writers of the contended secret

func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s: %v", name, s, err)
	}
	return v
}

type sharedLedger struct {
	mu sync.Mutex
	l  *ledger
}

func (s *sharedLedger) ack(id string, x step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.l.ack(id, x)
}

// world is a node and all that is known of what is on it.
type world struct {
	n       *node
	writers [][]*cell
	race    *contended
	ledger  *sharedLedger
	writes  int  // that were acknowledged
	brief   bool // leaves out to verify all of the journal
	counted int  // operations of its disk that could have failed

	mu    sync.Mutex
	wrong []string // guarded by mu
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOf(t, newNode(t))
}

// newWorldOf starts n for the first time.
func newWorldOf(t *testing.T, n *node) *world {
	t.Helper()
	w := &world{n: n, race: newContended(), ledger: &sharedLedger{l: newLedger()}}
	for i := range 4 {
		w.writers = append(w.writers, []*cell{
			{is: kv2{path: fmt.Sprintf("w%d/a", i)}}, {is: kv2{path: fmt.Sprintf("w%d/deep/er/b", i)}}, {is: kv1{path: fmt.Sprintf("w%d/c", i)}},
		})
	}
	w.writers = append(w.writers,
		[]*cell{{is: rule{name: "p0"}}, {is: rule{name: "p1"}}, {is: kv1{path: "x/y"}}},
		[]*cell{{is: ticket{owner: "t0"}}, {is: ticket{owner: "t1"}}},
		[]*cell{{is: engine{name: "m0"}}},
		[]*cell{{is: kv2{path: "shared-dir/a"}}, {is: kv2{path: "w0/deep/er/c"}}},
	)
	if _, err := w.n.start(); err != nil {
		t.Fatal(err)
	}
	w.n.must(http.MethodPost, "sys/mounts/one", map[string]any{"type": "kv", "options": map[string]string{"version": "1"}})
	w.race.prepare(w.n)
	if wrong, err := w.check(); err != nil || len(wrong) > 0 {
		t.Fatalf("before anything is killed: %v, %v", wrong, err)
	}
	return w
}

func (w *world) problem(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// load writes until the node is killed, when it is killed, which is in a while.
func (w *world) load(r *rand.Rand, while time.Duration) {
	var all sync.WaitGroup
	for _, cells := range w.writers {
		own := rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
		all.Go(func() {
			for w.write(cells[own.IntN(len(cells))], own) {
			}
		})
	}
	turner := rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
	all.Go(func() {
		for w.turnKeys(turner) {
		}
	})
	for range racers {
		all.Go(func() {
			for {
				going, err := w.race.write(w.n, w.ledger)
				if err != nil {
					w.problem("%v", err)
				}
				if !going {
					return
				}
			}
		})
	}
	<-time.After(while)
	w.n.kill()
	all.Wait()
}

// write does one thing to c, and reports whether the node still answers.
func (w *world) write(c *cell, r *rand.Rand) bool {
	s := c.is.plan(r)
	token := s.token
	if token == "" {
		token = w.n.root
	}
	a, err := w.n.do(token, s.method, s.url, s.body)
	if err != nil {
		c.pending = &s
		return false
	}
	if s.want == 0 && a.status/100 != 2 || s.want != 0 && a.status != s.want {
		w.problem("%v", unexpected(s.op+" "+s.url, a))
		c.pending = &s
		return false
	}
	if s.readback != nil {
		if err := s.readback(a); err != nil {
			w.problem("%s %s: %v", s.op, s.url, err)
		}
	}
	if s.after != nil {
		c.is = s.after
	}
	w.ledger.ack(a.id, s)
	w.mu.Lock()
	w.writes++
	w.mu.Unlock()
	return true
}

// settle finds out what became of what c was told last, and holds c to it.
func (w *world) settle(c *cell) error {
	if s := c.pending; s != nil {
		c.pending = nil
		if s.after != nil && s.after.text() != c.is.text() {
			got, err := s.after.observe(w.n)
			if err != nil {
				return err
			}
			if got == s.after.text() {
				c.is = s.after
				s.want = 0
				if s.atomic {
					w.ledger.mu.Lock()
					w.ledger.l.kept[group(s.op, s.path)]++
					w.ledger.mu.Unlock()
				}
				return nil
			}
		} else if s.atomic {
			w.ledger.mu.Lock()
			w.ledger.l.open[group(s.op, s.path)]++
			w.ledger.mu.Unlock()
		}
		got, err := c.is.observe(w.n)
		if err != nil {
			return err
		}
		if got != c.is.text() {
			after := "the same"
			if s.after != nil {
				after = s.after.text()
			}
			w.problem("after a %s %s that was not answered, there is\n  %s\nand neither\n  %s\nnor\n  %s", s.op, s.url, got, c.is.text(), after)
		}
		return nil
	}
	got, err := c.is.observe(w.n)
	if err != nil {
		return err
	}
	if got != c.is.text() {
		w.problem("there is\n  %s\nwhere\n  %s\nwas acknowledged", got, c.is.text())
	}
	return nil
}

// check holds the node that runs to all that is known, and returns what is wrong.
func (w *world) check() ([]string, error) {
	var all sync.WaitGroup
	for _, cells := range w.writers {
		all.Go(func() {
			for _, c := range cells {
				if err := w.settle(c); err != nil {
					w.problem("%v", err)
				}
			}
		})
	}
	all.Wait()
	wrong, err := w.race.check(w.n, w.ledger.l)
	if err != nil {
		return nil, err
	}
	if !w.brief {
		whole, err := w.n.do(w.n.root, http.MethodGet, "sys/audit-journal/verify", nil)
		if err != nil {
			return nil, err
		}
		if whole.at("data.whole") != true {
			wrong = append(wrong, unexpected("the journal of the node that runs is damaged", whole).Error())
		}
	}
	records, err := w.n.records(w.ledger.l.last)
	if err != nil {
		return nil, err
	}
	wrong = append(wrong, w.ledger.l.check(records)...)
	w.mu.Lock()
	defer w.mu.Unlock()
	wrong = append(w.wrong, wrong...)
	w.wrong = nil
	return wrong, nil
}

// offline lets the program verify the journal of the node that was killed.
func (w *world) offline() []string {
	out, code, err := w.n.run("audit", "verify", "--data", w.n.data)
	if err != nil || code != 0 {
		return []string{fmt.Sprintf("rotunda audit verify of the stopped node: code %d, %v: %s", code, err, out)}
	}
	return nil
}

// interrupt kills the node while it starts, in a while.
func (w *world) interrupt(while time.Duration) error {
	out, err := w.n.launch()
	if err != nil {
		return err
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	<-time.After(while)
	w.n.kill()
	return nil
}

// nodesKilled is how many nodes are killed beside each other: much of a cycle is
// waiting.
const nodesKilled = 4

// Killed at random moments, the node keeps all that it has acknowledged.
func TestKill(t *testing.T) {
	cycles := int(fromEnv(t, "ROTUNDA_CHAOS_CYCLES", 200))
	seed := fromEnv(t, "ROTUNDA_CHAOS_SEED", uint64(time.Now().UnixNano()))
	t.Logf("ROTUNDA_CHAOS_SEED=%d ROTUNDA_CHAOS_CYCLES=%d", seed, cycles)
	var mu sync.Mutex
	var all killed
	t.Run("nodes", func(t *testing.T) {
		for i := range nodesKilled {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				k := killCycles(t, rand.New(rand.NewPCG(seed, uint64(i))), (cycles+i)/nodesKilled)
				mu.Lock()
				defer mu.Unlock()
				all.add(k)
			})
		}
	})
	if len(all.starts) == 0 {
		t.Fatal("no node was started again")
	}
	slices.Sort(all.starts)
	most := all.starts[len(all.starts)-1]
	if most > readyWithin {
		t.Errorf("a start took %v; want %v at most", most, readyWithin)
	}
	if all.writes < cycles {
		t.Errorf("%d writes were acknowledged in %d cycles", all.writes, cycles)
	}
	if t.Failed() {
		return
	}
	t.Logf("killed %d times under load: %d writes of single writers and %d of racing ones were acknowledged, 0 were lost; ready after %v at the median and %v at most; %d records",
		len(all.starts), all.writes, all.races, all.starts[len(all.starts)/2].Round(time.Millisecond), most.Round(time.Millisecond), all.records)
}

// killed is what was done to nodes that were killed.
type killed struct {
	starts                 []time.Duration
	writes, races, records int
}

func (k *killed) add(more killed) {
	k.starts = append(k.starts, more.starts...)
	k.writes, k.races, k.records = k.writes+more.writes, k.races+more.races, k.records+more.records
}

// killCycles kills one node many times.
func killCycles(t *testing.T, r *rand.Rand, cycles int) (k killed) {
	t.Helper()
	w := newWorld(t)
	for cycle := range cycles {
		// A look at all of the journal takes as long as it has become.
		w.brief = cycle < cycles-1 && r.IntN(5) > 0
		while := time.Duration(5+r.IntN(200)) * time.Millisecond
		w.load(r, while)
		var wrong []string
		if !w.brief {
			wrong = w.offline()
		}
		if r.IntN(4) == 0 {
			if err := w.interrupt(time.Duration(1+r.IntN(80)) * time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		took, err := w.n.start()
		if err != nil {
			t.Fatalf("cycle %d: the node does not start after it was killed: %v\n%s", cycle, err, strings.Join(wrong, "\n"))
		}
		k.starts = append(k.starts, took)
		more, err := w.check()
		if err != nil {
			t.Fatalf("cycle %d: %v%s", cycle, err, w.n.logTail())
		}
		if wrong = append(wrong, more...); len(wrong) > 0 {
			t.Fatalf("cycle %d, killed after %v:\n%s%s", cycle, while, strings.Join(wrong, "\n"), w.n.logTail())
		}
	}
	k.writes, k.races, k.records = w.writes, w.race.last, w.ledger.l.last
	return k
}

// The checks find what they are for: each fault is planted into a node that
// was killed, and must be seen.
func TestPlantedFaults(t *testing.T) {
	for name, c := range map[string]struct {
		plant func(t *testing.T, w *world, old []byte) // on the stopped node; old is an earlier store
		want  string                                   // in what the checks say
	}{
		"nothing": {func(*testing.T, *world, []byte) {}, ""},
		"acknowledged and never sent": {
			func(_ *testing.T, w *world, _ []byte) {
				c := w.writers[0][2]
				next, _ := c.is.(kv1)
				next.value = "w0/c#never;"
				c.is, c.pending = next, nil
			}, "was acknowledged",
		},
		"a record that is not there": {
			func(_ *testing.T, w *world, _ []byte) {
				w.ledger.ack("00000000-0000-4000-8000-000000000000", step{op: "kv.write", path: "secret/data/nowhere", atomic: true})
			}, "is not in the journal",
		},
		"a store from before": {
			func(t *testing.T, w *world, old []byte) {
				if err := os.WriteFile(filepath.Join(w.n.data, "store", "store.db"), old, 0o600); err != nil {
					t.Fatal(err)
				}
			}, "an old copy of the store",
		},
		"the last segment of the journal is gone": {
			func(t *testing.T, w *world, _ []byte) {
				if err := os.Remove(w.lastSegment(t)); err != nil {
					t.Fatal(err)
				}
			}, "journal",
		},
		"a byte of the journal is another": {
			func(t *testing.T, w *world, _ []byte) {
				path := w.lastSegment(t)
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				b[len(bytes.TrimRight(b, "\x00"))/2] ^= 1
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}, "damaged",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if err := w.n.stop(); err != nil {
				t.Fatal(err)
			}
			old, err := os.ReadFile(filepath.Join(w.n.data, "store", "store.db"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.n.start(); err != nil {
				t.Fatal(err)
			}
			w.load(rand.New(rand.NewPCG(1, 2)), 300*time.Millisecond)
			c.plant(t, w, old)
			wrong := w.offline()
			if _, err := w.n.start(); err != nil {
				wrong = append(wrong, err.Error())
			} else {
				more, err := w.check()
				if err != nil {
					more = append(more, err.Error())
				}
				wrong = append(wrong, more...)
			}
			said := strings.Join(wrong, "\n")
			switch {
			case c.want == "" && said != "":
				t.Errorf("the checks see what is not there:\n%s", said)
			case !strings.Contains(said, c.want):
				t.Errorf("the checks do not see it, and say:\n%s", said)
			}
			t.Logf("%.600s", said)
		})
	}
}

func (w *world) lastSegment(t *testing.T) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(w.n.data, "audit", "journal-*.seg"))
	if err != nil || len(names) == 0 {
		t.Fatalf("segments: %v, %v", names, err)
	}
	return slices.Max(names)
}
