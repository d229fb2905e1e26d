//go:build !windows

package server

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"rotunda.dev/rotunda/internal/listen"
)

// surviveFileLimit lets a write beyond the size that the process's files may
// have fail, as on a full disk, where it would end the process.
func surviveFileLimit() { signal.Ignore(syscall.SIGXFSZ) }

// reloadOnSignal calls reload on each SIGHUP, until ctx ends.
func (n *Node) reloadOnSignal(ctx context.Context, certificates ...*listen.TLS) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		n.reload(ctx, certificates...)
	}
}
