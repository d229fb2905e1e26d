// Package child runs a program as a shell would: it passes signals on, gives
// it a terminal where there is one, and answers with its exit code. Between
// the program's output and ours may stand a [Filter].
package child

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"time"

	"rotunda.dev/rotunda/internal/clock"
)

// The exit codes of a shell for programs that could not be run.
const (
	NotExecutable = 126
	NotFound      = 127
)

// idle is how long output rests before its Filter is told, and grace how long
// after the program's end output of those it left behind is waited for.
const (
	idle  = 50 * time.Millisecond
	grace = 2 * time.Second
)

// Filter stands between the program's output and ours.
type Filter interface {
	io.WriteCloser

	// Pause is called when nothing has come for a moment.
	Pause() error
}

// Command is a program to run.
type Command struct {
	Args   []string // the program and its arguments
	Env    []string // its whole environment
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Clock  clock.Clock

	// Filter, where set, returns the Filter for one stream of output. Where
	// standard output is a terminal, the program then gets one of its own.
	Filter func(io.Writer) Filter
}

// Run runs c and returns its exit code: 128+n where it died by signal n. An
// error says why it could not be run at all; the code is then what a shell
// answers. Signals that come meanwhile are the program's.
func Run(c Command) (int, error) {
	path, err := exec.LookPath(c.Args[0])
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return NotFound, fmt.Errorf("%s: no such program", c.Args[0])
	case errors.Is(err, exec.ErrDot):
		return NotFound, fmt.Errorf("%s is only in this directory: write ./%s", c.Args[0], c.Args[0])
	case err != nil:
		return NotExecutable, fmt.Errorf("%s cannot be run: %w", c.Args[0], errors.Unwrap(err))
	}
	if c.Clock == nil {
		c.Clock = clock.System{}
	}
	cmd := &exec.Cmd{Path: path, Args: c.Args, Env: c.Env, Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr, WaitDelay: grace}
	return c.run(cmd)
}

// stream is output of the program on its way through a Filter.
type stream struct {
	filter Filter
	done   chan struct{}
}

// piped makes one stream of cmd a pipe that is pumped through a Filter once
// the program has started: it returns the end for the program.
func (c Command) piped(w io.Writer) (theirs *os.File, start func() *stream, err error) {
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("making a pipe: %w", err)
	}
	return theirs, func() *stream { return c.pump(ours, w) }, nil
}

// pump copies r to w through a Filter until r ends.
func (c Command) pump(r io.ReadCloser, w io.Writer) *stream {
	s := &stream{filter: c.Filter(w), done: make(chan struct{})}
	chunks := make(chan []byte)
	go func() {
		defer close(chunks)
		defer r.Close() // it was only read, and may be closed below
		buf := make([]byte, 32<<10)
		for {
			n, err := r.Read(buf)
			if n > 0 {
				chunks <- slices.Clone(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	go func() {
		defer close(s.done)
		for chunk, ok := <-chunks; ok; chunk, ok = c.next(chunks, s.filter) {
			if _, err := s.filter.Write(chunk); err != nil {
				// Nobody reads our output any more. The program finds the same
				// of its own, as it would if it wrote there itself.
				_ = r.Close()
			}
			clear(chunk)
		}
		_ = s.filter.Close() // a write that failed has had its effect
	}()
	return s
}

// next returns the next chunk, and tells f where it lets itself be waited for.
func (c Command) next(chunks <-chan []byte, f Filter) (chunk []byte, ok bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	rests := make(chan struct{})
	go func() {
		if c.Clock.Wait(ctx, c.Clock.Now().Add(idle)) == nil {
			close(rests)
		}
	}()
	select {
	case chunk, ok = <-chunks:
		return chunk, ok
	case <-rests:
		_ = f.Pause() // the next write says the same
	}
	chunk, ok = <-chunks
	return chunk, ok
}

// finish waits for what is left of the program's output, but not for ever: a
// program that it left running may keep the pipe open.
func (c Command) finish(streams []*stream) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	over := make(chan struct{})
	go func() {
		if c.Clock.Wait(ctx, c.Clock.Now().Add(grace)) == nil {
			close(over)
		}
	}()
	for _, s := range streams {
		select {
		case <-s.done:
		case <-over:
			_ = s.filter.Close() // nobody is left to tell
		}
	}
}

// startError returns what a shell answers where a program that was found could
// not be started.
func startError(name string, err error) (int, error) {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return NotFound, fmt.Errorf("%s cannot be run: %w", name, err)
	}
	return NotExecutable, fmt.Errorf("%s cannot be run: %w", name, err)
}
