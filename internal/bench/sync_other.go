//go:build !linux

package bench

import (
	"errors"
	"os"
	"time"
)

func datasync(f *os.File) error { return f.Sync() }

func cpuTime(int) (time.Duration, error) {
	return 0, errors.New("the CPU time of a process is read on Linux only")
}

func pin(int, int) error { return errors.New("processes are pinned on Linux only") }

func listener(int) int { return 0 }
