//go:build !unix

package memory

func allocate(size int) ([]byte, Kind) { return make([]byte, size), Plain }

func release(region) error { return nil }

func harden() error { return nil }
