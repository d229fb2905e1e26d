//go:build !windows

package audit

import "syscall"

const errQuota = syscall.EDQUOT
