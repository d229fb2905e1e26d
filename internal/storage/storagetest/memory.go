package storagetest

import (
	"os"
	"testing"
)

// memory is where files live in memory, on systems that have such a place.
const memory = "/dev/shm"

// MemoryDir returns a directory of the test's own. It is in memory where it can
// be: a test of what a node answers must not depend on how long a busy disk
// takes to sync, and what outlives a crash is shown elsewhere.
func MemoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(memory, "rotunda-test-") //nolint:usetesting // t.TempDir is on the disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the test's directory: %v", err)
		}
	})
	return dir
}
