package memory

import (
	"runtime"
	"runtime/debug"
)

// Erase has the garbage collector take back all that is not in use, and gives
// what is free to the operating system, which hands it out again as zeros: of
// keys and plaintexts that were let go of, little is left, and of what
// [rotunda.dev/rotunda/internal/secret.Do] has made nothing, in a build where that erases. It takes as long
// as some collections.
func Erase() {
	for range 3 { // pools keep what they have for two
		runtime.GC()
	}
	debug.FreeOSMemory()
}
