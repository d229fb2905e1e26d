//go:build unix

package child

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

func (c Command) run(cmd *exec.Cmd) (int, error) {
	var streams []*stream
	var starts []func() *stream
	var theirs []*os.File // the program's ends, closed here once it has them
	var terminal *os.File // our end of the program's terminal, if it has one
	closeTheirs := func() {
		for _, f := range theirs {
			_ = f.Close() // the program has its own
		}
	}

	if c.Filter != nil {
		if out, ok := file(c.Stdout); ok && term.IsTerminal(int(out.Fd())) {
			ours, slave, err := pty.Open()
			if err != nil {
				return NotExecutable, err
			}
			terminal, theirs = ours, append(theirs, slave)
			_ = pty.InheritSize(out, ours) // a size is a nicety
			cmd.Stdout = slave
			if isTerminal(c.Stderr) {
				cmd.Stderr = slave
			}
			if isTerminal(c.Stdin) {
				cmd.Stdin = slave
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 1}
			starts = append(starts, func() *stream { return c.pump(ours, c.Stdout) })
		}
		for _, s := range []*io.Writer{&cmd.Stdout, &cmd.Stderr} {
			if f, ok := (*s).(*os.File); ok && terminal != nil && f == theirs[0] {
				continue
			}
			end, start, err := c.piped(*s)
			if err != nil {
				closeTheirs()
				return NotExecutable, err
			}
			*s, theirs, starts = end, append(theirs, end), append(starts, start)
		}
	}

	release := endWithUs(cmd)
	defer release()

	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGPIPE)
	defer signal.Stop(signals)

	err := cmd.Start()
	closeTheirs()
	if err != nil {
		if terminal != nil {
			_ = terminal.Close() // never used
		}
		return startError(c.Args[0], err)
	}
	for _, start := range starts {
		streams = append(streams, start())
	}
	if in, ok := file(c.Stdin); ok && terminal != nil && isTerminal(c.Stdin) {
		if state, err := term.MakeRaw(int(in.Fd())); err == nil {
			defer func() { _ = term.Restore(int(in.Fd()), state) }()
		}
		go func() { _, _ = io.Copy(terminal, in) }() // ends with this program
	}

	waited := make(chan struct{})
	go func() {
		defer close(waited)
		_ = cmd.Wait() // the state says it
	}()
	for {
		select {
		case sig := <-signals:
			switch {
			case sig == unix.SIGPIPE:
				// Ours: a write fails instead of ending us, and pump sees to it.
			case sig == unix.SIGWINCH:
				if out, ok := file(c.Stdout); ok && terminal != nil {
					_ = pty.InheritSize(out, terminal) // a size is a nicety
				}
			case terminal == nil && (sig == unix.SIGINT || sig == unix.SIGQUIT) && foreground():
				// The keyboard sends it to the whole group, so the program has it.
			default:
				_ = cmd.Process.Signal(sig) // it may just have ended
			}
		case <-waited:
			finish(streams, signals, func(s os.Signal) bool { return s != unix.SIGWINCH && s != unix.SIGPIPE })
			return code(cmd.ProcessState), nil
		}
	}
}

// code returns the exit code that a shell gives for s.
func code(s *os.ProcessState) int {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}

// foreground reports whether our process group is the one that a terminal's
// keyboard sends signals to.
func foreground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close() // it is only asked
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

func isTerminal(s any) bool {
	f, ok := file(s)
	return ok && term.IsTerminal(int(f.Fd()))
}

func file(s any) (*os.File, bool) {
	f, ok := s.(*os.File)
	return f, ok && f != nil
}
