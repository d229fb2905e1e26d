package late_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/late"
)

type key struct{}

// What ends a Context ends it whether somebody waits or only looks.
func TestEnds(t *testing.T) {
	for _, waiting := range []bool{false, true} {
		for name, tc := range map[string]struct {
			ends func(parent, also context.CancelFunc, c *late.Context)
			want error
		}{
			"nothing":  {func(_, _ context.CancelFunc, _ *late.Context) {}, nil},
			"parent":   {func(parent, _ context.CancelFunc, _ *late.Context) { parent() }, context.Canceled},
			"other":    {func(_, also context.CancelFunc, _ *late.Context) { also() }, context.Canceled},
			"its user": {func(_, _ context.CancelFunc, c *late.Context) { c.End() }, context.Canceled},
		} {
			parent, endParent := context.WithCancel(context.WithValue(t.Context(), key{}, "v"))
			also, endAlso := context.WithCancel(t.Context())
			c := late.New(parent, also, time.Time{})
			var below context.Context
			if waiting {
				_ = c.Done()
				var end context.CancelFunc
				below, end = context.WithCancel(c)
				defer end()
			}
			tc.ends(endParent, endAlso, c)
			if waiting && tc.want != nil {
				<-c.Done()
				<-below.Done()
			}
			if err := c.Err(); !errors.Is(err, tc.want) {
				t.Errorf("%s, waiting %t: Err = %v; want %v", name, waiting, err, tc.want)
			}
			if tc.want != nil {
				<-c.Done() // also when asked for afterwards
			}
			if c.Value(key{}) != "v" {
				t.Errorf("%s, waiting %t: the parent's values are not seen", name, waiting)
			}
			c.End()
			endParent()
			endAlso()
		}
	}
}

func TestDeadline(t *testing.T) {
	past, far := time.Now().Add(-time.Second), time.Now().Add(time.Hour)
	c := late.New(t.Context(), nil, past)
	defer c.End()
	if err := c.Err(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Err after the deadline = %v", err)
	}
	<-c.Done()
	if err := c.Err(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Err after the deadline, waiting = %v", err)
	}
	below := late.New(c, nil, far)
	defer below.End()
	if at, ok := below.Deadline(); !ok || !at.Equal(past) {
		t.Errorf("Deadline = %v, %t; want that of the parent, which is earlier", at, ok)
	}
	if at, ok := late.New(t.Context(), nil, time.Time{}).Deadline(); ok {
		t.Errorf("Deadline = %v; want none", at)
	}
	soon := late.New(t.Context(), nil, time.Now().Add(10*time.Millisecond))
	defer soon.End()
	<-soon.Done()
}

func TestCostsNothing(t *testing.T) {
	parent, also := t.Context(), t.Context()
	deadline := time.Now().Add(time.Hour)
	n := testing.AllocsPerRun(100, func() {
		c := late.New(parent, also, deadline)
		if c.Err() != nil {
			t.Error(c.Err())
		}
		c.End()
	})
	if n > 1 {
		t.Errorf("%v allocations; want one", n)
	}
}
