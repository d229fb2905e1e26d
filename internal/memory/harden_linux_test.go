package memory_test

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"rotunda.dev/rotunda/internal/memory"
)

// Hardening lasts for the life of a process, so it is tried in one of its own.
func TestHarden(t *testing.T) {
	if os.Getenv("ROTUNDA_TEST_HARDEN") == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHarden$", "-test.v")
		cmd.Env = append(os.Environ(), "ROTUNDA_TEST_HARDEN=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("in a process of its own: %v\n%s", err, out)
		}
		return
	}
	if err := memory.Harden(); err != nil {
		t.Fatalf("Harden: %v", err)
	}
	var limit unix.Rlimit
	dumpable, err1 := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	err2 := unix.Getrlimit(unix.RLIMIT_CORE, &limit)
	if err := errors.Join(err1, err2); err != nil || dumpable != 0 || limit != (unix.Rlimit{}) {
		t.Errorf("dumpable %d, core limit %+v, %v; want none", dumpable, limit, err)
	}
}
