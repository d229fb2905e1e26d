package due_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/due"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

var start = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func add(q *due.Queue, s storage.Store, at time.Time, id string) error {
	return s.Update(context.Background(), storage.Locks{Join: []string{q.Scope(id)}}, func(tx storage.Tx) error {
		q.Add(tx, at, id)
		return nil
	})
}

// did is a Handle that notes what it is called for.
type did struct {
	mu  sync.Mutex
	ids []string
}

func (d *did) note(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids = append(d.ids, id)
}

func (d *did) handle(_ context.Context, id string) (time.Time, error) {
	d.note(id)
	return time.Time{}, nil
}

func (d *did) sorted() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(slices.Values(d.ids))
}

func TestWhatIsDueIsDone(t *testing.T) {
	t.Parallel()
	fake := clocktest.New(start)
	s := mem.New(mem.Config{Clock: fake})
	q := due.New(s, fake, 'q', due.Config{})
	for i := range 100 {
		ok(t, add(q, s, start.Add(time.Duration(i)*time.Second), fmt.Sprintf("%03d", i)))
	}
	ok(t, add(q, s, start, "000")) // twice is not an error
	var d did
	n, err := q.Sweep(t.Context(), d.handle)
	if ok(t, err); n != 2 || !slices.Equal(d.sorted(), []string{"000", "000"}) {
		t.Errorf("Sweep() = %d of %v; want what is due now", n, d.ids)
	}
	fake.Advance(49 * time.Second)
	n, err = q.Sweep(t.Context(), d.handle)
	if ok(t, err); n != 49 {
		t.Errorf("Sweep() = %d; want 49", n)
	}
	n, err = q.Sweep(t.Context(), d.handle)
	if ok(t, err); n != 0 {
		t.Errorf("Sweep() = %d; want nothing to be left", n)
	}
	fake.Advance(time.Hour)
	_, err = q.Sweep(t.Context(), d.handle)
	if ok(t, err); len(d.ids) != 101 {
		t.Errorf("%d were done; want 101", len(d.ids))
	}
}

func TestAgainAndFailing(t *testing.T) {
	t.Parallel()
	fake := clocktest.New(start)
	s := mem.New(mem.Config{Clock: fake})
	q := due.New(s, fake, 'q', due.Config{Retry: 5 * time.Minute})
	ok(t, add(q, s, start, "again"))
	ok(t, add(q, s, start, "fails"))
	calls := map[string]int{}
	handle := func(_ context.Context, id string) (time.Time, error) {
		calls[id]++
		switch {
		case id == "fails" && calls[id] == 1:
			return time.Time{}, errors.New("no luck")
		case id == "again" && calls[id] < 3:
			return fake.Now().Add(time.Minute), nil
		}
		return time.Time{}, nil
	}
	for range 10 {
		_, err := q.Sweep(t.Context(), handle)
		ok(t, err)
		fake.Advance(time.Minute)
	}
	if calls["again"] != 3 || calls["fails"] != 2 {
		t.Errorf("calls = %v; want 3 and 2", calls)
	}
}

func TestRateIsBounded(t *testing.T) {
	t.Parallel()
	fake := clocktest.New(start)
	s := mem.New(mem.Config{Clock: fake})
	q := due.New(s, fake, 'q', due.Config{Batch: 10})
	for i := range 35 {
		ok(t, add(q, s, start, fmt.Sprint(i)))
	}
	var d did
	for _, want := range []int{10, 10, 10, 5, 0} {
		n, err := q.Sweep(t.Context(), d.handle)
		if ok(t, err); n != want {
			t.Errorf("Sweep() = %d; want %d", n, want)
		}
	}
}

func TestOneNodeWorksOnAShard(t *testing.T) {
	t.Parallel()
	fake := clocktest.New(start)
	s := mem.New(mem.Config{Clock: fake})
	first, second := due.New(s, fake, 'q', due.Config{Lease: time.Minute}), due.New(s, fake, 'q', due.Config{Lease: time.Minute})
	ok(t, add(first, s, start, "x"))
	calls := 0
	_, err := first.Sweep(t.Context(), func(ctx context.Context, _ string) (time.Time, error) {
		calls++
		// While the first works, the second has no claim.
		n, err := second.Sweep(ctx, func(context.Context, string) (time.Time, error) {
			t.Error("the second node works on a shard that the first has claimed")
			return time.Time{}, nil
		})
		if n != 0 || err != nil {
			t.Errorf("second.Sweep() = %d, %v; want nothing", n, err)
		}
		// The first is so slow that its claim ends, and the second takes over.
		fake.Advance(2 * time.Minute)
		n, err = second.Sweep(ctx, func(context.Context, string) (time.Time, error) { calls++; return fake.Now().Add(time.Hour), nil })
		if n != 1 || err != nil {
			t.Errorf("second.Sweep() = %d, %v; want that it takes over", n, err)
		}
		return time.Time{}, nil
	})
	ok(t, err)
	// The first could not take away what the second put in.
	fake.Advance(2 * time.Hour)
	var d did
	if _, err := second.Sweep(t.Context(), d.handle); err != nil || !slices.Equal(d.ids, []string{"x"}) || calls != 2 {
		t.Errorf("after the claim was lost: %v, %v, %d calls; want x again", d.ids, err, calls)
	}
}

func TestNothingIsForgotten(t *testing.T) {
	t.Parallel()
	fake := clocktest.New(start)
	open := func(t testing.TB) storage.Store {
		s := mem.New(mem.Config{Clock: fake})
		q := due.New(s, fake, 'q', due.Config{})
		for i := range 5 {
			ok(t, add(q, s, start, fmt.Sprint(i)))
		}
		return s
	}
	var done did
	storagetest.EachFailure(t, open, func(s storage.Store) error {
		done = did{}
		_, err := due.New(s, fake, 'q', due.Config{}).Sweep(t.Context(), done.handle)
		return err
	}, func(t testing.TB, s storage.Store) {
		fake.Advance(time.Hour) // the claim of the node that died ends
		_, err := due.New(s, fake, 'q', due.Config{}).Sweep(t.Context(), done.handle)
		ok(t, err)
		ids := slices.Compact(done.sorted())
		if !slices.Equal(ids, []string{"0", "1", "2", "3", "4"}) {
			t.Errorf("done: %v; want all", ids)
		}
	})
}

func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := mem.New(mem.Config{})
		q := due.New(s, clock.System{}, 'q', due.Config{Every: time.Hour})
		ctx, cancel := context.WithCancel(context.Background())
		var d did
		end := make(chan error)
		go func() { end <- q.Run(ctx, d.handle) }()
		synctest.Wait()
		ok(t, add(q, s, time.Now(), "now"))
		synctest.Wait()
		if len(d.sorted()) != 0 {
			t.Error("Run looked before its time")
		}
		q.Wake()
		synctest.Wait()
		if !slices.Equal(d.sorted(), []string{"now"}) {
			t.Errorf("after Wake: %v; want what is due", d.sorted())
		}
		ok(t, add(q, s, time.Now().Add(90*time.Minute), "later"))
		ctxWait(150 * time.Minute)
		synctest.Wait()
		if !slices.Equal(d.sorted(), []string{"later", "now"}) {
			t.Errorf("after a while: %v; want all", d.sorted())
		}
		cancel()
		if err := <-end; !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v; want the context's error", err)
		}
	})
}

// ctxWait lets a bubble's time pass.
func ctxWait(d time.Duration) {
	_ = clock.System{}.Wait(context.Background(), time.Now().Add(d))
}
