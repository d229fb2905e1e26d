package audit

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// modesMeanSomething is false where access is decided by lists, not by modes.
const modesMeanSomething = false

func allocate(f *os.File, size int64) error { return f.Truncate(size) }

func syncData(f *os.File) error { return f.Sync() }

// syncDir does nothing: a directory has nothing to flush there.
func syncDir(*os.File) error { return nil }

func lockFile(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrInUse
	}
	return err
}
