package audit

import "os"

// SyncData is the sync that segments use.
func SyncData(f *os.File) func() error { return func() error { return syncData(f) } }

// MaxHashes is up to how many strings of a list are hashed one by one.
const MaxHashes = maxHashes
