//go:build unix

package child

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"rotunda.dev/rotunda/internal/clock"
)

// upper is a Filter that shows that output went through it.
type upper struct{ w io.Writer }

func (u upper) Write(p []byte) (int, error) { return u.w.Write(bytes.ToUpper(p)) }
func (u upper) Pause() error                { return nil }
func (u upper) Close() error                { return nil }

func filter(w io.Writer) Filter { return upper{w} }

func run(t *testing.T, stdin string, f func(io.Writer) Filter, args ...string) (out, errs string, code int, err error) {
	t.Helper()
	var o, e bytes.Buffer
	code, err = Run(Command{Args: args, Env: os.Environ(), Stdin: strings.NewReader(stdin), Stdout: &o, Stderr: &e, Filter: f})
	return o.String(), e.String(), code, err
}

func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	noInterpreter := filepath.Join(dir, "script")
	if err := os.WriteFile(noInterpreter, []byte("#!/nonexistent/interpreter\n"), 0o700); err != nil { // it must be executable
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name      string
		args      []string
		out, errs string
		code      int
		fails     bool
	}{
		{"output of both kinds", []string{"sh", "-c", "echo out; echo err >&2"}, "OUT\n", "ERR\n", 0, false},
		{"input", []string{"cat"}, "IN\n", "", 0, false},
		{"exit code", []string{"sh", "-c", "exit 7"}, "", "", 7, false},
		{"killed", []string{"sh", "-c", "kill -KILL $$"}, "", "", 137, false},
		{"no program", []string{"no-such-program-anywhere"}, "", "", 127, true},
		{"no file", []string{filepath.Join(dir, "nothing")}, "", "", 127, true},
		{"not executable", []string{plain}, "", "", 126, true},
		{"a directory", []string{dir}, "", "", 126, true},
		{"no interpreter", []string{noInterpreter}, "", "", 127, true},
		{"large output", []string{"sh", "-c", "i=0; while [ $i -lt 2000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done"}, strings.Repeat("0123456789012345678901234567890123456789\n", 2000), "", 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			out, errs, code, err := run(t, "in\n", filter, tc.args...)
			if out != tc.out || errs != tc.errs || code != tc.code || (err != nil) != tc.fails {
				t.Errorf("Run(%q) = %q, %q, %d, %v; want %q, %q, %d", tc.args, out, errs, code, err, tc.out, tc.errs, tc.code)
			}
		})
	}
	if out, _, code, err := run(t, "", nil, "echo", "as it is"); out != "as it is\n" || code != 0 || err != nil {
		t.Errorf("Run without a filter = %q, %d, %v; want the output as it is", out, code, err)
	}
}

// TestNobodyReads runs a program that would write for ever into a pipe that
// nobody reads any more.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()   // what is under test
	defer w.Close() // nothing was written
	code, err := Run(Command{Args: []string{"yes"}, Env: os.Environ(), Stdin: strings.NewReader(""), Stdout: w, Stderr: io.Discard, Filter: filter})
	if code != 128+int(syscall.SIGPIPE) || err != nil {
		t.Errorf("Run = %d, %v; want %d: the program is told by the signal that it is told by without us", code, err, 128+int(syscall.SIGPIPE))
	}
}

// pausing counts pauses and lets the test know of the first.
type pausing struct {
	upper
	once   *sync.Once
	paused chan struct{}
}

func (p pausing) Pause() error {
	p.once.Do(func() { close(p.paused) })
	return nil
}

func TestPauseIsTold(t *testing.T) {
	t.Parallel()
	in, feed := io.Pipe()
	paused, once := make(chan struct{}), &sync.Once{}
	var out bytes.Buffer
	done := make(chan int, 1)
	go func() {
		code, _ := Run(Command{ // the code says it
			Args: []string{"sh", "-c", "printf prompt; read answer; echo $answer"}, Env: os.Environ(), Stdin: in, Stdout: &out, Stderr: io.Discard,
			Filter: func(w io.Writer) Filter { return pausing{upper{w}, once, paused} },
		})
		done <- code
	}()
	<-paused // standard output rests after the prompt, or standard error from the start
	if _, err := io.WriteString(feed, "yes\n"); err != nil {
		t.Fatal(err)
	}
	_ = feed.Close() // a pipe in memory
	if code := <-done; code != 0 || out.String() != "PROMPTYES\n" {
		t.Errorf("Run = %d with output %q, want 0 with the prompt and the answer", code, out.String())
	}
}

// TestDescendantsDoNotHoldUp runs a program that leaves another one behind,
// which keeps the pipe open.
func TestDescendantsDoNotHoldUp(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := Command{Args: []string{"sh", "-c", "sleep 60 & echo $!"}, Env: os.Environ(), Stdin: strings.NewReader(""), Stdout: &out, Stderr: io.Discard, Filter: filter, Clock: &hasty{}}
	code, err := Run(c)
	if code != 0 || err != nil {
		t.Errorf("Run = %d, %v; want the exit code of the program itself", code, err)
	}
	if pid := strings.TrimSpace(out.String()); pid != "" {
		_ = exec.Command("kill", pid).Run() // only so that it does not linger
	}
}

// slow is a reader of our output who takes a while.
type slow struct {
	got  bytes.Buffer
	wait func() error
}

func (s *slow) Write(p []byte) (int, error) {
	if err := s.wait(); err != nil {
		return 0, err
	}
	return s.got.Write(p)
}

// TestSlowReadersGetEverything has a reader who is slower than the patience
// with those that a program leaves running.
func TestSlowReadersGetEverything(t *testing.T) {
	t.Parallel()
	out := &slow{wait: func() error {
		c := clock.System{}
		return c.Wait(t.Context(), c.Now().Add(100*time.Millisecond))
	}}
	code, err := Run(Command{Args: []string{"sh", "-c", "head -c 200000 /dev/zero"}, Env: os.Environ(), Stdin: strings.NewReader(""), Stdout: out, Stderr: io.Discard, Filter: filter, Clock: &hasty{}})
	if code != 0 || err != nil || out.got.Len() != 200000 {
		t.Errorf("Run = %d, %v with %d bytes, want all 200000", code, err, out.got.Len())
	}
}

// hasty waits a hundredth of what it is asked to.
type hasty struct{ clock.System }

func (h *hasty) Wait(ctx context.Context, t time.Time) error {
	now := h.Now()
	return h.System.Wait(ctx, now.Add(t.Sub(now)/100))
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()                                                          // the test is over
	if err := pty.Setsize(ours, &pty.Winsize{Rows: 33, Cols: 77}); err != nil { // the program's has the same
		t.Fatal(err)
	}
	lines := make(chan string, 10)
	go func() {
		defer close(lines)
		s := bufio.NewScanner(ours)
		for s.Scan() {
			lines <- strings.TrimSpace(s.Text())
		}
	}()
	code, err := Run(Command{
		Args: []string{"sh", "-c", "test -t 1 && test -t 2 && echo terminal; stty size < /dev/tty; exit 4"},
		Env:  os.Environ(), Stdin: strings.NewReader(""), Stdout: theirs, Stderr: theirs, Filter: filter,
	})
	if code != 4 || err != nil {
		t.Errorf("Run on a terminal = %d, %v; want the program's code", code, err)
	}
	for _, want := range []string{"TERMINAL", "33 77"} {
		if got := <-lines; got != want {
			t.Errorf("the terminal shows %q, want %q", got, want)
		}
	}
	_ = theirs.Close() // the test is over
}

// TestSignalsArePassedOn sends a signal to a process that runs a program: this
// test, once more.
func TestSignalsArePassedOn(t *testing.T) {
	t.Parallel()
	if os.Getenv("CHILD_TEST_PROGRAM") != "" {
		code, err := Run(Command{Args: []string{"sh", "-c", os.Getenv("CHILD_TEST_PROGRAM")}, Env: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Filter: filter})
		if err != nil {
			t.Fatal(err)
		}
		os.Exit(code)
	}
	for _, tc := range []struct {
		name   string
		signal syscall.Signal
		does   string
		want   int
	}{
		{"handled", syscall.SIGTERM, `trap "exit 9" TERM; echo ready; while :; do sleep 0.02; done`, 9},
		{"not handled", syscall.SIGHUP, `echo ready; exec sleep 60`, 129},
		{"user's", syscall.SIGUSR1, `trap "exit 8" USR1; echo ready; while :; do sleep 0.02; done`, 8},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestSignalsArePassedOn$") //nolint:noctx // ourselves
			cmd.Env = append(os.Environ(), "CHILD_TEST_PROGRAM="+tc.does)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			s := bufio.NewScanner(out)
			if !s.Scan() || s.Text() != "READY" {
				t.Fatalf("the program says %q, want READY", s.Text())
			}
			if err := cmd.Process.Signal(tc.signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // the code says it
			if got := cmd.ProcessState.ExitCode(); got != tc.want {
				t.Errorf("after %v the exit code is %d, want %d", tc.signal, got, tc.want)
			}
		})
	}
}
