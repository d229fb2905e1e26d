//go:build unix

package file

import (
	"io/fs"
	"syscall"
)

// mayBeLinked reports whether a file may have more names than one.
func mayBeLinked(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return !ok || st.Nlink > 1
}
