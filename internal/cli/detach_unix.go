//go:build unix

package cli

import "syscall"

// apart keeps a node in the background from the terminal that started it.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
