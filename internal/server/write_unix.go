//go:build !windows

package server

import (
	"os"

	"github.com/google/renameio/v2"
)

// writeFile replaces a file as a whole: a crash leaves the old one or the new.
func writeFile(path string, data []byte, mode os.FileMode) error {
	return renameio.WriteFile(path, data, mode)
}
