//go:build !unix

package child

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
)

// run gives the program pipes where its output is filtered. The keys that
// interrupt reach every program of a console, so they are only kept from
// ending this one.
func (c Command) run(cmd *exec.Cmd) (int, error) {
	var theirs []*os.File
	var starts []func() *stream
	if c.Filter != nil {
		for _, s := range []*io.Writer{&cmd.Stdout, &cmd.Stderr} {
			end, start, err := c.piped(*s)
			if err != nil {
				return NotExecutable, err
			}
			*s, theirs, starts = end, append(theirs, end), append(starts, start)
		}
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt)
	defer signal.Stop(signals)

	err := cmd.Start()
	for _, f := range theirs {
		_ = f.Close() //nolint:errcheck // the program has its own
	}
	if err != nil {
		return startError(c.Args[0], err)
	}
	var streams []*stream
	for _, start := range starts {
		streams = append(streams, start())
	}
	_ = cmd.Wait() //nolint:errcheck // the exit code says it
	finish(streams, signals, func(os.Signal) bool { return true })
	return cmd.ProcessState.ExitCode(), nil
}
