package file

import "io/fs"

// mayBeLinked reports whether a file may have more names than one.
func mayBeLinked(fs.FileInfo) bool { return true }
