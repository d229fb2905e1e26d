package backup_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/backup"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/storage/bolt"
)

// keeper returns a rig whose store goes by a fake clock, and its keeper.
func newKeeper(t *testing.T) (*backup.Keeper, *clocktest.Fake, chan string) {
	t.Helper()
	fake := clocktest.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	r := newRig(t, 10, 100)
	r.barrier.Close()
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	store, err := bolt.Open(r.dir, bolt.Config{Clock: fake})
	if err != nil {
		t.Fatal(err)
	}
	b, err := barrier.Open(t.Context(), store, r.root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(); _ = store.Close() })
	events := make(chan string, 100)
	return &backup.Keeper{
		Schedule: backup.Schedule{Dir: filepath.Join(t.TempDir(), "backups"), Next: hourly, Keep: 3},
		Barrier:  b, Name: "name", Clock: fake, Log: slog.New(slog.DiscardHandler), Book: &backup.Book{},
		Record: func(_ context.Context, event, outcome, _ string) error {
			if ok := event == "backup-written"; ok != (outcome == audit.OutcomeOK) {
				t.Errorf("event %s has the outcome %q", event, outcome)
			}
			events <- event
			return nil
		},
	}, fake, events
}

func hourly(after time.Time) time.Time { return after.Add(time.Hour) }

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// waiting waits until the keeper waits for the clock.
func waiting(f *clocktest.Fake) {
	for f.Waiting() == 0 {
		runtime.Gosched()
	}
}

func TestSchedule(t *testing.T) {
	k, fake, events := newKeeper(t)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	run := func() { go func() { ended <- k.Run(ctx) }() }
	run()
	for i := range 5 { // the first at once, and then one an hour
		if event := <-events; event != "backup-written" {
			t.Fatalf("backup %d: %s, %+v", i, event, k.Book.Status())
		}
		waiting(fake)
		if last := k.Book.Status().Last; !last.Equal(fake.Now()) {
			t.Errorf("last = %s, want %s", last, fake.Now())
		}
		fake.Advance(time.Hour - time.Second)
		if n := len(events); n != 0 {
			t.Errorf("%d backups before it was time", n)
		}
		if i < 4 {
			waiting(fake)
			fake.Advance(time.Second)
		}
	}
	name := func(at string) string { return "rotunda-" + k.Barrier.ClusterID()[:8] + "-" + at + ".backup" }
	want := []string{name("20260102T050405.000Z"), name("20260102T060405.000Z"), name("20260102T070405.000Z")}
	if got := names(t, k.Schedule.Dir); !slices.Equal(got, want) {
		t.Errorf("files = %v, want %v", got, want)
	}
	for _, name := range want {
		info, err := os.Stat(filepath.Join(k.Schedule.Dir, name))
		if err != nil || info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	end()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}

	// After a restart the next one comes when it is due, and not before.
	k.Book = &backup.Book{}
	ctx, end = context.WithCancel(t.Context())
	defer end()
	run()
	waiting(fake)
	if len(events) != 0 {
		t.Error("a backup was made again after a restart")
	}
	fake.Advance(time.Second)
	if event := <-events; event != "backup-written" {
		t.Errorf("after a restart: %s", event)
	}
	end()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
}

// Backups of a time that has not come yet do not count to those that are kept:
// the one that was just written stays.
func TestBackupsOfAClockThatWasAhead(t *testing.T) {
	k, fake, _ := newKeeper(t)
	k.Schedule.Keep = 1
	ahead := "rotunda-" + k.Barrier.ClusterID()[:8] + "-20360102T050405.000Z.backup"
	if err := errors.Join(os.MkdirAll(k.Schedule.Dir, 0o700), os.WriteFile(filepath.Join(k.Schedule.Dir, ahead), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := k.Make(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := names(t, k.Schedule.Dir); len(got) != 2 || got[0] == ahead || got[1] != ahead {
			t.Fatalf("after backup %d the directory has %v; want it and %s", i, got, ahead)
		}
		fake.Advance(time.Hour)
	}
}

// What stands in the way is told and tried again; older backups stay.
func TestScheduleFails(t *testing.T) {
	k, fake, events := newKeeper(t)
	if err := k.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-events
	good := k.Schedule.Dir
	k.Schedule.Dir = filepath.Join(good, names(t, good)[0]) // a file
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	fake.Advance(time.Hour)
	go func() { ended <- k.Run(ctx) }()
	for i := range 2 {
		if event := <-events; event != "backup-failed" {
			t.Errorf("event = %s", event)
		}
		waiting(fake)
		if s := k.Book.Status(); s.Failures != uint64(i)+1 || s.Failure == "" {
			t.Errorf("Status = %+v", s)
		}
		fake.Advance(5 * time.Minute)
	}
	end()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
	if got := names(t, good); len(got) != 1 {
		t.Errorf("files = %v", got)
	}
}

// A crash leaves an unfinished file, which is no backup and goes with the next.
func TestScheduleAfterACrash(t *testing.T) {
	k, fake, events := newKeeper(t)
	if err := os.MkdirAll(k.Schedule.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".rotunda-" + k.Barrier.ClusterID()[:8] + "-123.part", "mine", "rotunda-.backup"} {
		if err := os.WriteFile(filepath.Join(k.Schedule.Dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		if err := k.Make(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-events
		fake.Advance(time.Hour)
	}
	if got := names(t, k.Schedule.Dir); len(got) != 5 || !slices.Contains(got, "mine") || !slices.Contains(got, "rotunda-.backup") {
		t.Errorf("files = %v", got)
	}
	ctx, end := context.WithCancel(t.Context())
	end()
	if err := k.Make(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Make while sealing = %v", err)
	}
	if got := names(t, k.Schedule.Dir); len(got) != 5 {
		t.Errorf("files after one that was cut off = %v", got)
	}
}

// Of what was missed while the store was not open, one backup is made up for.
func TestScheduleAfterDowntime(t *testing.T) {
	k, fake, events := newKeeper(t)
	if err := k.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-events
	fake.Advance(100*time.Hour + 30*time.Minute)
	k.Book = &backup.Book{}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	if event := <-events; event != "backup-written" {
		t.Errorf("event = %s", event)
	}
	waiting(fake)
	if s := k.Book.Status(); !s.Due.Equal(fake.Now().Add(time.Hour)) || !s.Last.Equal(fake.Now()) || s.Bytes == 0 {
		t.Errorf("Status = %+v at %s", s, fake.Now())
	}
	fake.Advance(time.Hour - time.Second)
	if len(events) != 0 {
		t.Error("more than one backup was made up for")
	}
	end()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
}

// Those that are young are kept besides the newest, however many they are.
func TestScheduleKeepsTheYoung(t *testing.T) {
	k, fake, events := newKeeper(t)
	k.Schedule.Keep, k.Schedule.KeepFor = 2, 150*time.Minute
	for range 6 {
		if err := k.Make(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-events
		fake.Advance(time.Hour)
	}
	if got := names(t, k.Schedule.Dir); len(got) != 3 {
		t.Errorf("files = %v; want those of the last 150 minutes", got)
	}
	fake.Advance(1000 * time.Hour)
	if err := k.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := names(t, k.Schedule.Dir); len(got) != 2 {
		t.Errorf("files = %v; want the newest two, however old", got)
	}
}

// Two stores may share a directory.
func TestScheduleLeavesOthersAlone(t *testing.T) {
	k, _, _ := newKeeper(t)
	if err := os.MkdirAll(k.Schedule.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	others := []string{".rotunda-00000000-1.part", "rotunda-00000000-20200101T000000.000Z.backup", "rotunda-00000000-20200102T000000.000Z.backup"}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(k.Schedule.Dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k.Schedule.Keep = 1
	if err := k.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := names(t, k.Schedule.Dir)
	for _, name := range others {
		if !slices.Contains(got, name) {
			t.Errorf("%s of another store is gone: %v", name, got)
		}
	}
}

func TestOverdue(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		status backup.Status
		want   bool
	}{
		"scheduled, due soon":   {backup.Status{Scheduled: true, Due: now.Add(time.Hour)}, false},
		"due a moment ago":      {backup.Status{Scheduled: true, Due: now.Add(-time.Minute)}, false},
		"due long ago":          {backup.Status{Scheduled: true, Due: now.Add(-time.Hour)}, true},
		"nothing is scheduled":  {backup.Status{Due: now.Add(-time.Hour)}, false},
		"sealed or quarantined": {backup.Status{Scheduled: true}, false},
	} {
		if got := c.status.Overdue(now); got != c.want {
			t.Errorf("%s: Overdue = %t", name, got)
		}
	}
}
