package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/show"
)

// notText is the error for what JSON, and so the API, cannot carry: it would
// come back different. What names it.
func notText(what string) error {
	return fmt.Errorf("%s is not UTF-8 text, and would not come back byte for byte: base64 it", what)
}

// checkText refuses s, which what names, where it is not UTF-8.
func checkText(s, what string) error {
	if !utf8.ValidString(s) {
		return notText(what)
	}
	return nil
}

// checkArgs refuses arguments that are not UTF-8. Behind "--" stands a
// program's own command line, which is passed on as it is.
func checkArgs(args []string) error {
	for i, arg := range args {
		if arg == "--" {
			return nil
		}
		if utf8.ValidString(arg) {
			continue
		}
		what := fmt.Sprintf("argument %d", i+1)
		name, _, pair := strings.Cut(arg, "=")
		switch {
		case pair && name != "" && utf8.ValidString(name):
			what = "the value of " + show.Clean(name)
		case i > 0 && strings.HasPrefix(args[i-1], "-") && len(args[i-1]) > 1 && !strings.Contains(args[i-1], "="):
			what = fmt.Sprintf("argument %d, behind %s,", i+1, show.Clean(args[i-1]))
		}
		return usageError{notText(what), ""}
	}
	return nil
}

// checkSettings refuses variables that are read as settings and are not UTF-8.
func checkSettings(env environment) error {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		for _, p := range prefixes {
			if strings.HasPrefix(name, p) && !utf8.ValidString(env[name]) {
				return usageError{fmt.Errorf("the variable %s is not UTF-8 text", show.Clean(name)), ""}
			}
		}
	}
	return nil
}

// textFile reads a file, or standard input where path is "-", that must be text.
func (a *app) textFile(path string) (string, error) {
	what := show.Clean(path)
	read := func() ([]byte, error) { return a.readFile(path) }
	if path == "-" {
		what, read = "standard input", a.readAll
	}
	b, err := read()
	if err != nil {
		return "", err
	}
	if !utf8.Valid(b) {
		return "", errors.New(what + " is not UTF-8 text")
	}
	return string(b), nil
}

// commandFor returns the command line that says what cmd does with path, as
// advice begins: in the same mount, without what is to be written.
func commandFor(cmd *cobra.Command, path string) string {
	line := cmd.CommandPath()
	if f := cmd.Flags().Lookup("mount"); f != nil && f.Changed {
		line += " --mount " + show.Shell(strings.Trim(f.Value.String(), "/"))
	}
	return line + " " + show.Shell(path)
}
