package server

// enterable says nothing: who may make files in dir is told by making one.
func enterable(string) error { return nil }

// writable says nothing: who may write to a file is told by writing.
func writable(string) error { return nil }
