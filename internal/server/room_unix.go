//go:build !windows

package server

import (
	"fmt"

	"golang.org/x/sys/unix"

	"rotunda.dev/rotunda/internal/cli"
)

const privateModes = true

// leastRoom is what a node should have left on its disk.
const leastRoom = 1 << 30

func room(dir string) cli.Finding {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return cli.Finding{Check: "disk space", State: cli.Warning, Detail: err.Error()}
	}
	free := uint64(s.Bavail) * uint64(s.Bsize) //nolint:gosec,unconvert // the types differ between systems
	if free < leastRoom {
		return cli.Finding{Check: "disk space", State: cli.Warning, Detail: fmt.Sprintf("%d MiB left; a full disk refuses every request", free>>20), Fix: "make room on the disk of " + dir}
	}
	return cli.Finding{Check: "disk space", State: cli.Good, Detail: fmt.Sprintf("%d GiB left", free>>30)}
}
