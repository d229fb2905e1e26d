//go:build !windows

package server

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"rotunda.dev/rotunda/internal/cli"
)

const privateModes = true

// leastRoom is what a node should have left on its disk.
const leastRoom = 1 << 30

func room(dir string) cli.Finding {
	free, _, err := space(dir)
	if err != nil {
		return cli.Finding{Check: "disk space", State: cli.Warning, Detail: err.Error()}
	}
	if free < leastRoom {
		return cli.Finding{Check: "disk space", State: cli.Warning, Detail: fmt.Sprintf("%d MiB left; a full disk refuses every request", free>>20), Fix: "make room on the disk of " + dir}
	}
	return cli.Finding{Check: "disk space", State: cli.Good, Detail: fmt.Sprintf("%d GiB left", free>>30)}
}

// space returns how many bytes the file system of dir has left, and how many
// it has.
func space(dir string) (free, total int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	size := uint64(s.Bsize) //nolint:gosec // the types differ between systems
	bytes := func(blocks uint64) int64 {
		if size == 0 || blocks == 0 && s.Blocks == 0 || blocks > math.MaxInt64/size {
			return math.MaxInt64 // it does not say
		}
		return int64(blocks * size) //nolint:gosec // it fits
	}
	return bytes(uint64(s.Bavail)), bytes(uint64(s.Blocks)), nil //nolint:unconvert // as above
}
