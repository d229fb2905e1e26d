package cli

import (
	"flag"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// outputFlag is the flag that all commands have; one of the same name of
// another package's command is it.
const outputFlag = "output"

// moreCommand makes a command of one that another package performs: it is
// given the flags that are its own.
func (a *app) moreCommand(m Command) *cobra.Command {
	c := &cobra.Command{Use: m.Name, Short: m.Short, Long: m.Long, Example: m.Example}
	own := map[string]bool{}
	if m.Flags != nil {
		m.Flags().VisitAll(func(f *flag.Flag) {
			own[f.Name] = true
			if f.Name != outputFlag {
				c.Flags().AddGoFlag(f)
			}
		})
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := a.target()
		if err != nil {
			return err
		}
		var given []string
		cmd.Flags().Visit(func(f *pflag.Flag) {
			if own[f.Name] && f.Name != outputFlag {
				given = append(given, "--"+f.Name+"="+f.Value.String())
			}
		})
		if own[outputFlag] {
			format, err := a.format()
			if err != nil {
				return err
			}
			given = append(given, "--"+outputFlag+"="+format)
		}
		if code := m.Run(cmd.Context(), Call{Args: append(given, args...), Stdin: a.stdin, Stdout: a.Stdout, Stderr: a.Stderr, Address: t.address, Token: t.token, CACert: t.caCert}); code != 0 {
			return silent(code)
		}
		return nil
	}
	return c
}
