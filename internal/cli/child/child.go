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
// it rests after the program's end until no more is expected.
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
	clock  clock.Clock
	r      io.ReadCloser
	filter Filter
	chunks chan []byte
	ended  chan struct{} // closed when the program has ended
	done   chan struct{} // closed when everything is written
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

// pump copies r to w through a Filter until r ends. Once the program has ended
// it is enough that nothing comes for a while: what the program left running
// may keep r open.
func (c Command) pump(r io.ReadCloser, w io.Writer) *stream {
	s := &stream{clock: c.Clock, r: r, filter: c.Filter(w), chunks: make(chan []byte), ended: make(chan struct{}), done: make(chan struct{})}
	go s.read()
	go func() {
		defer close(s.done)
		defer r.Close() // whoever still writes there finds out
		for chunk, ok := s.next(); ok; chunk, ok = s.next() {
			_, err := s.filter.Write(chunk)
			clear(chunk)
			if err != nil {
				return // nobody reads our output any more; the program finds out as if it wrote there itself
			}
		}
		_ = s.filter.Close() // there is nothing left to tell
	}()
	return s
}

func (s *stream) read() {
	defer close(s.chunks)
	buf := make([]byte, 32<<10)
	for {
		n, err := s.r.Read(buf)
		if n > 0 {
			select {
			case s.chunks <- slices.Clone(buf[:n]):
			case <-s.done:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// next returns the next chunk, if there is one.
func (s *stream) next() (chunk []byte, ok bool) {
	rest, stop := s.after(idle)
	defer stop()
	select {
	case chunk, ok = <-s.chunks:
		return chunk, ok
	case <-rest:
		_ = s.filter.Pause() // the next write says the same
	}
	select {
	case chunk, ok = <-s.chunks:
		return chunk, ok
	case <-s.ended:
	}
	enough, stop := s.after(grace)
	defer stop()
	select {
	case chunk, ok = <-s.chunks:
		return chunk, ok
	case <-enough:
		return nil, false
	}
}

// after returns a channel that is closed when d is over.
func (s *stream) after(d time.Duration) (over <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	c := make(chan struct{})
	go func() {
		if s.clock.Wait(ctx, s.clock.Now().Add(d)) == nil {
			close(c)
		}
	}()
	return c, cancel
}

// finish waits until what the program has written is written, or until the
// person has enough.
func finish(streams []*stream, signals <-chan os.Signal, ends func(os.Signal) bool) {
	for _, s := range streams {
		close(s.ended)
	}
	for _, s := range streams {
		for open := true; open; {
			select {
			case <-s.done:
				open = false
			case sig := <-signals:
				if ends(sig) {
					return
				}
			}
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
