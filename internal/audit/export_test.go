package audit

import "os"

// SyncData is the sync that segments use.
func SyncData(f *os.File) func() error { return func() error { return syncData(f) } }
