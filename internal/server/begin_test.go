package server

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestNodesBeginWhereTheyHaveRoom(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, c := range []struct {
		name        string
		free, total int64
		segment     int64
		refusal     string
	}{
		{"a usual disk", 50 << 30, 100 << 30, 0, ""},
		{"a small disk", 79 * mib, 80 * mib, 0, ""},
		{"a very small disk", 24 * mib, 24 * mib, 0, "its disk has 24 MiB left, and 26 MiB are needed"},
		{"a large disk that is full", 100 * mib, 100 << 30, 0, "its disk has 100 MiB left, and 116 MiB are needed"},
		{"segments that are too large", 79 * mib, 80 * mib, 32 * mib, "its disk has 79 MiB left, and 94 MiB are needed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := enough(c.free, c.total, c.segment)
			if c.refusal == "" && err != nil || c.refusal != "" && (err == nil || !strings.HasPrefix(err.Error(), c.refusal)) {
				t.Errorf("enough(%d, %d, %d) = %v; want %q", c.free, c.total, c.segment, err, c.refusal)
			}
		})
	}
}

// Of a directory that is still to be made, the disk is that of the way to it.
func TestNearest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct{ give, want string }{{dir, dir}, {filepath.Join(dir, "a", "b"), dir}, {"/", "/"}} {
		if got := nearest(c.give); got != c.want {
			t.Errorf("nearest(%q) = %q; want %q", c.give, got, c.want)
		}
	}
}
