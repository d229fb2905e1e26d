package server

// keptApart has nothing to refuse here.
func keptApart(string) error { return nil }
