//go:build !windows

package server

import (
	"fmt"
	"os"
	"syscall"
)

// keptApart refuses to make keys in a container whose configuration directory
// would be lost with it: the first process of a container, and no volume of
// its own below the directory.
func keptApart(config string) error {
	if os.Getpid() != 1 {
		return nil
	}
	if err := os.MkdirAll(config, 0o700); err != nil {
		return fmt.Errorf("making %s: %w", config, err)
	}
	root, err := os.Stat("/")
	if err != nil {
		return fmt.Errorf("looking at the root directory: %w", err)
	}
	dir, err := os.Stat(config)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", config, err)
	}
	a, ok := root.Sys().(*syscall.Stat_t)
	b, also := dir.Sys().(*syscall.Stat_t)
	if ok && also && a.Dev == b.Dev {
		return fmt.Errorf("%s is on no volume, so the keys in it would be lost with this container and the data could never be opened again; mount a volume there, apart from the data's", config)
	}
	return nil
}
