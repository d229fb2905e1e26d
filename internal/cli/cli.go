// Package cli is the command line of Rotunda: a client of any server that
// speaks the Vault API, and the way to start our own.
//
// [Main] runs one command line and returns its exit code. Everything that it
// touches is given to it in a [Program]: arguments, streams, environment,
// time, and the server as functions, so that this package needs to import
// none of it. Data goes to standard output and everything else to standard
// error; a secret is shown only where the command was asked for it.
package cli

import (
	"context"
	"fmt"
	"io"

	"rotunda.dev/rotunda/internal/clock"
)

// Program is one run of the command line.
type Program struct {
	Args    []string // without the program's own name
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Environ []string // as [os.Environ] gives it; read here and nowhere else
	Clock   clock.Clock
	Server  Server
}

// Main runs p and returns its exit code: see `rotunda help exit-codes`.
func Main(ctx context.Context, p Program) int {
	if p.Clock == nil {
		p.Clock = clock.System{}
	}
	return guarded(p.Stderr, func() int {
		return newApp(p).run(ctx) //nolint:contextcheck // a command takes the context of its call
	})
}

// guarded returns what run does. A panic, which only a mistake in this program
// can cause, becomes one line: a stack could hold secrets and helps nobody who
// reads it here.
func guarded(stderr io.Writer, run func() int) (code int) {
	defer func() {
		if recover() != nil {
			_, _ = fmt.Fprintln(stderr, "rotunda: internal error, please report it with the command that you gave") // nobody to tell
			code = 1
		}
	}()
	return run()
}
