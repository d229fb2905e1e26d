package audit

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// feedPatience is for how long a sink may take nothing before it is said to be behind.
const feedPatience = 30 * time.Second

// feedState is how a feed goes.
type feedState struct {
	mu       sync.Mutex
	failures uint64    // in all
	problem  error     // the last failure; nil once the sink has flushed again
	since    time.Time // when it began to fail
	moved    time.Time // when it last took a record, or had none to take
}

// steps notes that at t the sink has taken a record, or had none to take.
func (s *feedState) steps(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved = t
}

// fails notes that the sink did not take its records. They are given to it again.
func (f *feed) fails(ctx context.Context, err error) {
	if err == nil {
		return
	}
	f.state.mu.Lock()
	first := f.state.problem == nil
	f.state.failures++
	f.state.problem = err
	if first {
		f.state.since = f.j.c.Clock.Now()
	}
	f.state.mu.Unlock()
	if first {
		f.j.c.Log.LogAttrs(ctx, slog.LevelError, "an audit sink fails; its records wait in the journal", slog.String("sink", f.name), slog.Any("cause", err))
	}
}

// works notes that the sink keeps what it was given.
func (f *feed) works(ctx context.Context) {
	f.state.mu.Lock()
	failed := f.state.problem != nil
	since := f.state.since
	f.state.problem, f.state.since = nil, time.Time{}
	f.state.mu.Unlock()
	if failed {
		f.j.c.Log.LogAttrs(ctx, slog.LevelInfo, "an audit sink works again, and is given what it missed", slog.String("sink", f.name), slog.Time("failed_since", since))
	}
}

// FeedStatus is how the feed of one sink goes.
type FeedStatus struct {
	Name     string
	At       uint64    // sequence of the last record that the sink has
	Behind   uint64    // durable records that it does not have
	Failures uint64    // since the server was unsealed
	Problem  error     // why it takes no records; nil where it does
	Since    time.Time // when that began
	Late     bool      // it fails, or has records to take and took none for half a minute
}

// FeedStatus returns how every feed goes, in the order of their names. A sink
// that takes nothing loses nothing: its records stay in the journal until it
// has them.
func (j *Journal) FeedStatus() []FeedStatus {
	j.feedMu.Lock()
	feeds := make([]*feed, 0, len(j.feeds))
	for _, f := range j.feeds {
		feeds = append(feeds, f)
	}
	j.feedMu.Unlock()
	head, now := j.main.status().head.seq, j.c.Clock.Now()
	all := make([]FeedStatus, 0, len(feeds))
	for _, f := range feeds {
		s := FeedStatus{Name: f.name, At: f.at.Load()}
		s.Behind = head - min(head, s.At)
		f.state.mu.Lock()
		s.Failures, s.Problem, s.Since = f.state.failures, f.state.problem, f.state.since
		s.Late = s.Problem != nil || s.Behind > 0 && now.Sub(f.state.moved) > feedPatience
		f.state.mu.Unlock()
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b FeedStatus) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
