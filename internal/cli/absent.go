package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// absent are the commands of Vault that have no meaning here, with why and with
// what does the same job. A line of next that holds "   (" says what it is for.
var absent = []struct {
	path, why string
	next      []string
}{
	{"agent", "there is no agent: a program gets its secrets from run", []string{"rotunda run -- COMMAND"}},
	{"debug", "there are no bundles for a support desk", []string{"rotunda doctor", "rotunda read sys/metrics -format=raw"}},
	{"events", "there is no stream of events; the audit journal has what happens", []string{"rotunda audit tail"}},
	{"hcp", "there is no cloud behind this", nil},
	{"monitor", "the log is written by the server, where its service manager or up says", []string{"journalctl -u rotunda", "rotunda audit tail"}},
	{"namespace", "a server is one namespace; mounts and policies keep teams apart", []string{"rotunda secrets enable -path=team -version=2 kv", "rotunda policy write team FILE"}},
	{"pki", "there is no such engine here", []string{"rotunda secrets list"}},
	{"plugin", "engines are built in, and nothing else is loaded", []string{"rotunda secrets list"}},
	{"proxy", "there is no proxy: clients ask the server itself", []string{`eval "$(rotunda env)"   (for other clients)`}},
	{"ssh", "there is no such engine here", []string{"rotunda secrets list"}},
	{"transform", "there is no such engine here", []string{"rotunda secrets list"}},
	{"transit", "there is no such engine here", []string{"rotunda secrets list"}},
	{"auth help", "a server describes its methods itself", []string{"rotunda auth list", "rotunda path-help auth/token"}},
	{"operator diagnose", "a configuration is checked by the server, and a node by doctor", []string{"rotunda server --check --config FILE", "rotunda doctor"}},
	{"operator import", "secrets of files are imported by import", []string{"rotunda import FILE"}},
	{"operator migrate", "a store is moved by a backup", []string{"rotunda operator backup FILE", "rotunda operator restore FILE"}},
	{"operator raft", "the store is this node's own, so it has no peers; snapshots are backups", []string{"rotunda operator backup FILE", "rotunda operator restore FILE", "rotunda operator members"}},
	{"operator usage", "clients are not counted", []string{"rotunda read sys/metrics -format=raw"}},
	{"operator utilization", "use is not reported", []string{"rotunda read sys/metrics -format=raw"}},
}

// addAbsent puts the commands that are only explained into the tree, where help
// does not list them.
func addAbsent(root *cobra.Command) {
	for _, c := range absent {
		parent, name := root, c.path
		if group, rest, deeper := strings.Cut(c.path, " "); deeper {
			name = rest
			for _, sub := range root.Commands() {
				if sub.Name() == group {
					parent = sub
				}
			}
		}
		parent.AddCommand(&cobra.Command{
			Use: name, Short: "Not here: " + c.why, Hidden: true, DisableFlagParsing: true,
			RunE: func(*cobra.Command, []string) error {
				return failure{err: errors.New("rotunda " + c.path + " is not here: " + c.why), code: 1, next: c.next}
			},
		})
	}
}

// absentPage is what the reference says of them.
func absentPage() string {
	var b strings.Builder
	b.WriteString("## Commands of Vault that are not here\n\nThey say so, and what to use, with exit code 1.\n\n| command | why | instead |\n|---|---|---|\n")
	for _, c := range absent {
		next := make([]string, len(c.next))
		for i, n := range c.next {
			cmd, _, _ := strings.Cut(n, "   (")
			next[i] = "`" + cmd + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.path, c.why, strings.Join(next, ", "))
	}
	return b.String() + "\n"
}
