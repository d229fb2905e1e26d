//go:build !windows

package bolt

import "syscall"

const errQuota = syscall.EDQUOT
