package audittest

import (
	"slices"
	"testing"

	"rotunda.dev/rotunda/internal/audit"
)

// Conform holds a kind of sink to its contract. Open opens a sink at a place
// that is the same every time; read returns the request ids of what is kept
// there, in order, those that came twice being there twice.
func Conform(t *testing.T, open func(t *testing.T) audit.Sink, read func(t *testing.T) []string) {
	t.Helper()
	write := func(t *testing.T, s audit.Sink, from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			r := Record(i)
			r.Seq = uint64(i) //nolint:gosec // small
			if err := s.Write(t.Context(), r); err != nil {
				t.Fatalf("Write(%d) = %v", i, err)
			}
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatalf("Flush() = %v", err)
		}
	}
	want := func(n int) []string {
		var ids []string
		for i := range n {
			ids = append(ids, Record(i).RequestID)
		}
		return ids
	}
	t.Run("what was written is kept in order", func(t *testing.T) {
		s := open(t)
		write(t, s, 0, 10)
		if got := read(t); !slices.Equal(got, want(10)) {
			t.Errorf("kept %v, want %v", got, want(10))
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	t.Run("what was kept stays when it is opened again", func(t *testing.T) {
		s := open(t)
		write(t, s, 10, 12)
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
		if got := read(t); !slices.Equal(got, want(12)) {
			t.Errorf("kept %v, want %v", got, want(12))
		}
	})
	t.Run("a record may come twice", func(t *testing.T) {
		s := open(t)
		write(t, s, 11, 12)
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
		got := read(t)
		if !slices.Equal(slices.Compact(got), want(12)) {
			t.Errorf("kept %v, want %v with the last one twice at most", got, want(12))
		}
	})
	t.Run("every kind of record is taken", func(t *testing.T) {
		s := open(t)
		for _, k := range []audit.Kind{audit.Request, audit.Intent, audit.Outcome, audit.Event} {
			if err := s.Write(t.Context(), &audit.Record{Kind: k, Time: Record(0).Time, Event: "unsealed"}); err != nil {
				t.Errorf("Write of an empty %s = %v", k, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	t.Run("closing twice is not an error, and writing afterwards is one", func(t *testing.T) {
		s := open(t)
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("second Close() = %v", err)
		}
		if err := s.Write(t.Context(), Record(0)); err == nil {
			t.Error("Write after Close = nil, want an error")
		}
	})
}
