//go:build goexperiment.runtimesecret

package secret

import "runtime/secret"

// Erases reports whether [Do] erases what its function leaves behind.
const Erases = true

// Do calls fn. What fn leaves in registers and on the stack is erased when it
// returns, and what it has allocated when the collector finds that nobody has
// it any more.
func Do(fn func()) { secret.Do(fn) }
