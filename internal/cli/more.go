package cli

import (
	"github.com/spf13/cobra"
)

// moreCommand makes a command of one that another package performs.
func (a *app) moreCommand(m Command) *cobra.Command {
	return &cobra.Command{
		Use: m.Name, Short: m.Short, Long: m.Long,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.target()
			if err != nil {
				return err
			}
			if code := m.Run(cmd.Context(), Call{Args: args, Stdin: a.stdin, Stdout: a.Stdout, Stderr: a.Stderr, Address: t.address, Token: t.token, CACert: t.caCert}); code != 0 {
				return silent(code)
			}
			return nil
		},
	}
}
