//go:build !goexperiment.runtimesecret

package secret

// Erases reports whether [Do] erases what its function leaves behind.
const Erases = false

// Do calls fn. Built with GOEXPERIMENT=runtimesecret, what fn leaves in
// registers and on the stack is erased when it returns, and what it has
// allocated when the collector finds that nobody has it any more. In this build
// it is left to the collector alone.
func Do(fn func()) { fn() }
