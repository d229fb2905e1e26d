package cli

import (
	"errors"
	"fmt"
	"strings"

	"rotunda.dev/rotunda/internal/cli/show"
)

// secretPath returns the path of a secret that an argument gives, without the
// slashes around it.
func secretPath(arg string) (string, error) {
	path, err := directory(arg)
	if err == nil && path == "" {
		err = errors.New("a secret needs a name: PATH must not be empty")
	}
	return path, err
}

// directory is secretPath for a path that may be empty: the top of the mount.
// It refuses what no server takes, before anything is sent.
func directory(arg string) (string, error) {
	path := strings.TrimSuffix(strings.TrimPrefix(arg, "/"), "/")
	if path == "" {
		return "", nil
	}
	for segment := range strings.SplitSeq(path, "/") {
		switch segment {
		case "":
			return "", fmt.Errorf("the path %q has two slashes with nothing between them", show.Clean(arg))
		case ".", "..":
			return "", fmt.Errorf("the path %q has the segment %q: paths are whole names, and nothing leads upwards", show.Clean(arg), segment)
		}
	}
	return path, nil
}
