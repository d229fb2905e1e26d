//go:build !unix

package keyfile

// syncDir does nothing where directories cannot be synced.
func syncDir(string) error { return nil }
