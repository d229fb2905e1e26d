//go:build unix && !linux

package child

import "os/exec"

// endWithUs does nothing: no signal tells of a parent's end here. A program
// that has our terminal or our pipes finds out by them.
func endWithUs(*exec.Cmd) (release func()) { return func() {} }
