package chaos

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"rotunda.dev/rotunda/test/chaos/disk"
)

// faultKinds are the ways in which the n-th operation fails, once or from then on.
func faultKinds() []disk.Faults {
	return []disk.Faults{
		{Kind: disk.EIO},
		{Kind: disk.EIO, On: true},
		{Kind: disk.ENOSPC},
		{Kind: disk.ENOSPC, On: true},
		{Kind: disk.Short},
		{Kind: disk.Sync},
		{Kind: disk.Sync, On: true},
	}
}

func called(f disk.Faults) string {
	if f.On {
		return f.Kind.String() + " from"
	}
	return f.Kind.String() + " at"
}

// script is a run that is the same each time but for what the machine makes of
// it, over a disk on which something is or nothing.
type script struct {
	base  *disk.Disk
	world *world // what is known of base; nil where nothing is on it
	steps int
}

const scriptSeed = 7

// endsWithin bounds how long a node takes to end when it is told to, on a disk
// that fails: it gives requests 20 s.
const endsWithin = 30 * time.Second

// newScript fills a disk, or leaves it empty.
func newScript(t *testing.T, filled bool) *script {
	t.Helper()
	if !filled {
		return &script{base: disk.New(), steps: 4}
	}
	w := newWorldOf(t, newNodeOn(t, disk.New()))
	w.scripted(rand.New(rand.NewPCG(scriptSeed, 0)), 40)
	if wrong, err := w.check(); err != nil || len(wrong) > 0 {
		t.Fatalf("before anything fails: %v, %v", wrong, err)
	}
	if err := w.n.stop(); err != nil {
		t.Fatal(err)
	}
	if err := w.n.unplug(); err != nil {
		t.Fatal(err)
	}
	w.n.disk.PowerCut(nil)
	return &script{base: w.n.disk, world: w, steps: 30}
}

// on returns a node on a copy of the script's disk, with what is known of it.
func (s *script) on(t *testing.T) *world {
	t.Helper()
	n := newNodeOn(t, s.base.Clone())
	w := &world{n: n, race: newContended(), ledger: &sharedLedger{l: newLedger()}}
	if s.world == nil {
		return w
	}
	n.root, n.pool = s.world.n.root, s.world.n.pool
	w.ledger.l.last = s.world.ledger.l.last
	w.ledger.l.requests = maps.Clone(s.world.ledger.l.requests)
	for _, cells := range s.world.writers {
		var own []*cell
		for _, c := range cells {
			own = append(own, &cell{is: c.is})
		}
		w.writers = append(w.writers, own)
	}
	return w
}

// scripted writes one thing after another. What was not answered, or answered
// by saying that it did not work, is left alone from then on.
func (w *world) scripted(r *rand.Rand, steps int) {
	var cells []*cell
	for _, own := range w.writers {
		cells = append(cells, own...)
	}
	for i := range steps {
		if c := cells[r.IntN(len(cells))]; c.pending == nil {
			w.attempt(c, rand.New(rand.NewPCG(scriptSeed, uint64(i))))
		}
		if i == steps/2 {
			for _, path := range []string{"sys/rotate", "sys/mounts/secret/rotate"} {
				if a, err := w.n.do(w.n.root, http.MethodPost, path, nil); err == nil && a.status/100 != 2 && a.status != http.StatusBadRequest && a.status < http.StatusInternalServerError {
					w.problem("%v", unexpected("POST "+path, a))
				}
			}
		}
	}
}

// attempt does one thing to c on a node that stands on a disk that fails.
func (w *world) attempt(c *cell, r *rand.Rand) {
	s := c.is.plan(r)
	token := s.token
	if token == "" {
		token = w.n.root
	}
	a, err := w.n.do(token, s.method, s.url, s.body)
	switch {
	case err != nil:
		c.pending = &s
		return
	case a.status >= http.StatusInternalServerError:
		c.pending = &s
		return
	case s.want == 0 && a.status/100 != 2 || s.want != 0 && a.status != s.want:
		w.problem("%v", unexpected(s.op+" "+s.url, a))
		c.pending = &s
		return
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
	w.writes++
}

// fail runs the script with f, lets the power fail, heals the disk, and holds the
// node to what it had acknowledged. Failed reports whether anything did fail.
func (s *script) fail(t *testing.T, f disk.Faults) (wrong []string, failed bool, w *world) {
	t.Helper()
	w = s.on(t)
	w.n.disk.SetFaults(f)
	w.try(s)
	stats := w.n.disk.Stats()
	w.counted = stats.Ops
	w.n.disk.SetFaults(disk.Faults{})
	wrong = append(w.wrong, w.n.crashes()...)
	w.wrong = nil
	if err := w.n.cut(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.n.start(); err != nil {
		return append(wrong, fmt.Sprintf("the node does not start on the disk that works: %v", err)), true, w
	}
	failed = stats.Failed > 0
	if !failed && f.At > 0 {
		return wrong, false, w // the run was shorter
	}
	if s.world == nil {
		return append(wrong, w.firstChecked()...), failed, w
	}
	more, err := w.check()
	if err != nil {
		more = append(more, err.Error())
	}
	if err := w.n.stop(); err != nil {
		more = append(more, fmt.Sprintf("the node ends with %v", err))
	}
	return append(append(wrong, more...), w.offline()...), failed, w
}

// try runs the script on a node that may not start, and ends it.
func (w *world) try(s *script) {
	if _, err := w.n.start(); err != nil {
		w.n.kill()
		return
	}
	if s.world == nil {
		w.first()
	} else {
		w.scripted(rand.New(rand.NewPCG(scriptSeed, 1)), s.steps)
	}
	select {
	case <-w.n.ended:
		w.problem("the process has ended while it served: %v %s", w.n.status, w.n.said)
	default:
	}
	w.n.client.CloseIdleConnections() // or it waits for them
	_ = w.n.cmd.Process.Signal(os.Interrupt)
	select {
	case <-w.n.ended:
	case <-time.After(endsWithin):
		_ = w.n.cmd.Process.Signal(syscall.SIGQUIT)
		<-time.After(time.Second) // for it to say where it stands
		w.problem("the process does not end in %v: %s", endsWithin, w.n.said)
	}
	w.n.kill()
}

// first writes a few secrets to a node that is new.
func (w *world) first() {
	for i := range 4 {
		c := &cell{is: kv2{path: fmt.Sprintf("first/%d", i)}}
		w.attempt(c, rand.New(rand.NewPCG(scriptSeed, 2)))
		if c.pending == nil {
			w.writers = append(w.writers, []*cell{c})
		}
	}
}

// firstChecked holds a node that is new to what it had acknowledged.
func (w *world) firstChecked() (wrong []string) {
	for _, cells := range w.writers {
		for _, c := range cells {
			got, err := c.is.observe(w.n)
			if err != nil || got != c.is.text() {
				wrong = append(wrong, fmt.Sprintf("there is %s, %v where %s was acknowledged", got, err, c.is.text()))
			}
		}
	}
	if a, err := w.n.do(w.n.root, http.MethodPost, "secret/data/after", padded("v", 10)); err != nil || a.status != http.StatusOK {
		wrong = append(wrong, fmt.Sprintf("a write afterwards: %v, %v", a, err))
	}
	w.n.kill()
	return append(wrong, w.offline()...)
}

// crashes returns what the process has said that says that it was ended by a bug.
func (n *node) crashes() (wrong []string) {
	text := n.logTail()
	if n.said != nil {
		text += n.said.String()
	}
	for _, sign := range []string{"panic", "fatal error", "goroutine ", "unexpected fault", "SIGBUS", "SIGSEGV"} {
		if strings.Contains(text, sign) {
			wrong = append(wrong, fmt.Sprintf("%q is in what it says: %s", sign, text))
		}
	}
	return wrong
}

// Each operation of a scripted run fails in turn, in each way: nothing that was
// acknowledged is lost or was not so, and the process says so and goes on.
// ROTUNDA_CHAOS_FAULTS says how many of the operations, spread over the run, for
// each way; 0 is all of them.
func TestNthOperationFails(t *testing.T) {
	t.Parallel()
	most := int(fromEnv(t, "ROTUNDA_CHAOS_FAULTS", 3))
	seed := fromEnv(t, "ROTUNDA_CHAOS_SEED", uint64(time.Now().UnixNano()))
	t.Logf("ROTUNDA_CHAOS_SEED=%d ROTUNDA_CHAOS_FAULTS=%d", seed, most)
	for name, filled := range map[string]bool{"first start": false, "at work": true} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, filled)
			r := rand.New(rand.NewPCG(seed, 5))
			for _, f := range faultKinds() {
				s.failEach(t, f, most, r)
			}
		})
	}
}

// failEach lets operations fail as f says, most of them at most, two at a time.
func (s *script) failEach(t *testing.T, f disk.Faults, most int, r *rand.Rand) {
	t.Helper()
	wrong, _, w := s.fail(t, disk.Faults{Kind: f.Kind}) // counts
	if len(wrong) > 0 {
		t.Fatalf("nothing fails: %s", strings.Join(wrong, "\n"))
	}
	total := w.counted
	if most == 0 || most > total {
		most = total
	}
	at := make(chan disk.Faults)
	var acked, runs atomic.Int64
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for f := range at {
				t.Run(fmt.Sprintf("%s %d", called(f), f.At), func(t *testing.T) {
					wrong, failed, w := s.fail(t, f)
					if failed {
						runs.Add(1)
					}
					acked.Add(int64(w.writes))
					if len(wrong) > 0 {
						t.Errorf("%s operation %d:\n%s%s", called(f), f.At, strings.Join(wrong, "\n"), w.n.logTail())
					}
				})
			}
		})
	}
	for i := range most {
		f.At = 1 + (i*total+r.IntN(total))/most
		if most == total {
			f.At = i + 1
		}
		at <- f
	}
	close(at)
	all.Wait()
	if runs.Load() == 0 {
		t.Errorf("%s: of %d runs no operation failed in any", called(f), most)
	}
	if !t.Failed() {
		t.Logf("%s: in %d of %d runs one of %d operations failed: %d writes were acknowledged, 0 were lost", called(f), runs.Load(), most, total, acked.Load())
	}
}

// The runs find what they are for: a disk that says that it has synced, or
// written, and has not.
func TestPlantedNthFaults(t *testing.T) {
	t.Parallel()
	s := newScript(t, true)
	for name, f := range map[string]disk.Faults{
		"syncs that are not done": {Kind: disk.Sync, At: 20, On: true, Lies: true},
		"writes that get lost":    {Kind: disk.Short, At: 20, On: true, Lies: true},
	} {
		t.Run(name, func(t *testing.T) {
			wrong, _, _ := s.fail(t, f)
			if len(wrong) == 0 {
				t.Error("the checks do not see it")
			}
			t.Logf("found: %.400s", strings.Join(wrong, "\n"))
		})
	}
}
