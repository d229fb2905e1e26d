package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Reference returns the reference of all commands, in Markdown. More are
// commands of other packages.
func Reference(more []Command) string {
	a := newApp(Program{Server: Server{More: more}})
	var b strings.Builder
	b.WriteString("# The command line\n\nGenerated from the commands themselves; `make docs` writes it.\n\n")
	b.WriteString("Flags may have one dash or two: `-format=json` is `--format=json`.\n\n## Flags of every command\n\n")
	flags(&b, a.root.PersistentFlags())
	for _, topic := range []string{"exit-codes", "environment", "paths"} {
		for _, c := range a.root.Commands() {
			if c.Name() == topic {
				fmt.Fprintf(&b, "## %s\n\n```\n%s\n```\n\n", c.Short, c.Long)
			}
		}
	}
	b.WriteString("## Commands\n\n")
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if !sub.IsAvailableCommand() || sub.Name() == "help" {
				continue
			}
			entry(&b, sub)
			walk(sub)
		}
	}
	walk(a.root)
	b.WriteString(absentPage())
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func entry(b *strings.Builder, c *cobra.Command) {
	use := strings.TrimSpace(strings.TrimSuffix(c.UseLine(), "[flags]"))
	fmt.Fprintf(b, "### %s\n\n%s.\n\n", use, strings.TrimSuffix(c.Short, "."))
	if c.Long != "" && !strings.HasPrefix(c.Short, c.Long) {
		_, rest, more := strings.Cut(c.Long, "\n")
		text := c.Long
		if first, _, _ := strings.Cut(c.Long, "\n"); strings.TrimSuffix(first, ".") == c.Short {
			text = ""
			if more {
				text = strings.TrimSpace(rest)
			}
		}
		if text != "" {
			fmt.Fprintf(b, "```\n%s\n```\n\n", text)
		}
	}
	if c.Example != "" {
		fmt.Fprintf(b, "Example:\n\n```\n%s\n```\n\n", unindent(c.Example))
	}
	flags(b, c.LocalNonPersistentFlags())
	if c.HasAvailableSubCommands() {
		return
	}
	fmt.Fprintf(b, "Exit codes: %s.\n\n", exitCodes(pathOf(c)))
}

func unindent(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}

func flags(b *strings.Builder, set *pflag.FlagSet) {
	some := false
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" && f.Value.Type() == "bool" {
			return
		}
		if !some {
			b.WriteString("| flag | what it does |\n|---|---|\n")
			some = true
		}
		name, usage := pflag.UnquoteUsage(f)
		short := ""
		if f.Shorthand != "" {
			short = "-" + f.Shorthand + ", "
		}
		if name != "" {
			name = " " + name
		}
		fmt.Fprintf(b, "| `%s--%s%s` | %s |\n", short, f.Name, name, strings.ReplaceAll(usage, "|", "\\|"))
	})
	if some {
		b.WriteString("\n")
	}
}
