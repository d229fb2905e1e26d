package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// normalise returns args with long flags that have one dash, as Vault's
// commands take them, given two: -format=json becomes --format=json. What is
// no long flag of any command keeps its shape, and nothing after "--" is
// touched.
func normalise(args []string, long map[string]bool) []string {
	out := make([]string, 0, len(args))
	for i, arg := range args {
		if arg == "--" {
			return append(out, args[i:]...)
		}
		if len(arg) > 2 && arg[0] == '-' {
			name, value, ok := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
			to, alias := aliases[name]
			if alias {
				name = to
			}
			if long[name] && (alias || arg[1] != '-') {
				if arg = "--" + name; ok {
					arg += "=" + value
				}
			}
		}
		out = append(out, arg)
	}
	return out
}

// refuseToken refuses a token among args, without repeating it.
func refuseToken(args []string) error {
	for _, arg := range args {
		if arg == "--" {
			return nil
		}
		if name, _, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "="); name == "-token" || name == "token" && strings.HasPrefix(arg, "-") {
			return advise(errors.New("a token is never a flag: other users see the command line, and the shell keeps it"), "rotunda login", "set VAULT_TOKEN for one command")
		}
	}
	return nil
}

// aliases are other names of flags.
var aliases = map[string]string{
	"ns":              "namespace",
	"non-interactive": "no-input",
	"agent-address":   "address",
}

// longFlags returns the names of all long flags in the tree under root.
func longFlags(root *cobra.Command) map[string]bool {
	long := map[string]bool{"help": true, "version": true}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		add := func(f *pflag.Flag) {
			if len(f.Name) > 1 {
				long[f.Name] = true
			}
		}
		c.LocalFlags().VisitAll(add)
		c.PersistentFlags().VisitAll(add)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return long
}
