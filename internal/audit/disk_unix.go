//go:build !windows

package audit

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Total returns the size of the file system that d is on.
func (d *osDisk) Total() (int64, error) {
	dir, err := d.root.Open(".")
	if err != nil {
		return 0, err
	}
	defer func() { _ = dir.Close() }() // it was only looked at
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &s); err != nil {
		return 0, fmt.Errorf("asking the file system: %w", err)
	}
	blocks, size := uint64(s.Blocks), uint64(s.Bsize) //nolint:gosec,unconvert // the types differ between systems
	if blocks == 0 || size == 0 || blocks > math.MaxInt64/size {
		return math.MaxInt64, nil // it does not say
	}
	return int64(blocks * size), nil //nolint:gosec // it fits
}
