package child

import (
	"bufio"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestKilledParentTakesTheProgramAlong kills a process that runs a program:
// this test, once more. The program says when it is told to end.
func TestKilledParentTakesTheProgramAlong(t *testing.T) {
	t.Parallel()
	if os.Getenv("CHILD_TEST_ORPHAN") != "" {
		_, _ = Run(Command{ // it does not return
			Args: []string{"sh", "-c", `trap "echo told to end >&3; exit" TERM; echo ready >&3; while :; do sleep 0.02; done`},
			Env:  os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Filter: filter,
		})
		return
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()                                                                                                                  // the test is over
	cmd := exec.Command("sh", "-c", `exec 3>&1 1>/dev/null; exec "$0" -test.run=^TestKilledParentTakesTheProgramAlong$`, os.Args[0]) //nolint:noctx // ourselves
	cmd.Env = append(os.Environ(), "CHILD_TEST_ORPHAN=yes")
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close() // it has its own
	s := bufio.NewScanner(r)
	if !s.Scan() || s.Text() != "ready" {
		t.Fatalf("the program says %q, want ready", s.Text())
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if !s.Scan() || s.Text() != "told to end" {
		t.Errorf("after its parent was killed the program says %q, want that it was told to end", s.Text())
	}
}
