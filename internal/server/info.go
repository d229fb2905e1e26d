package server

import (
	"io"
	"log/slog"
	"strings"
	"time"

	"rotunda.dev/rotunda/internal/cli"
	"rotunda.dev/rotunda/internal/engine/system"
	"rotunda.dev/rotunda/internal/mount"
)

// usualCompat is the version of the Vault API that clients are told unless the
// configuration says another.
const usualCompat = "1.19.0"

var defaultTTL = mount.TTL{Default: 768 * time.Hour, Max: 768 * time.Hour}

func infoOf(cluster, apiAddr, compat string) system.Info {
	if compat == "" {
		compat = usualCompat
	}
	return system.Info{
		Version: cli.Version(), CompatVersion: compat, BuildDate: cli.BuildDate(), ClusterName: cluster, APIAddr: apiAddr, StorageType: "bolt",
	}
}

// newLogger writes structured logs to w. Nothing secret can reach it, because
// secrets do not print.
func newLogger(w io.Writer, level, format string) *slog.Logger {
	var at slog.Level
	switch strings.ToLower(level) {
	case "trace", "debug":
		at = slog.LevelDebug
	case "warn", "warning":
		at = slog.LevelWarn
	case "err", "error":
		at = slog.LevelError
	default:
		at = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: at}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
