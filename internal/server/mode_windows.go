package server

import "io/fs"

// checkPrivate leaves it to the access control lists of the user's profile.
func checkPrivate(string, fs.FileInfo) error { return nil }
