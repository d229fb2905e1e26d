//go:build unix

package file

import "syscall"

// openFlags keep the opening of what is not a file from blocking, and of a link from working.
const openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK
