//go:build !windows

package server

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"rotunda.dev/rotunda/internal/listen"
)

// reloadOnSignal reads certificates again and opens the files of sinks again
// on each SIGHUP, until ctx ends.
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
		for _, c := range certificates {
			if c == nil {
				continue
			}
			if err := c.Reload(); err != nil {
				n.c.Log.LogAttrs(ctx, slog.LevelError, "reloading a certificate; the one before stays in use", slog.Any("cause", err))
			}
		}
		if err := n.reopenSinks(); err != nil {
			n.c.Log.LogAttrs(ctx, slog.LevelError, "opening a sink again", slog.Any("cause", err))
		}
		n.c.Log.LogAttrs(ctx, slog.LevelInfo, "reloaded")
	}
}
