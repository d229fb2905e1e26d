package child

import (
	"os/exec"
	"runtime"
	"syscall"
)

// endWithUs has the kernel ask the program to end where we are killed and
// cannot. The kernel watches the thread that starts the program, so this
// goroutine keeps its own until release.
func endWithUs(cmd *exec.Cmd) (release func()) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}
