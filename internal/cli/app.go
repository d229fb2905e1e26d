package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// app is the state of one run.
type app struct {
	Program
	root *cobra.Command
}

func newApp(p Program) *app {
	a := &app{Program: p}
	a.root = &cobra.Command{
		Use:           "rotunda",
		Short:         "A secrets manager",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	a.root.SetIn(p.Stdin)
	a.root.SetOut(p.Stdout)
	a.root.SetErr(p.Stderr)
	return a
}

func (a *app) run(ctx context.Context) int {
	a.root.SetArgs(a.Args)
	if err := a.root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(a.Stderr, "rotunda:", err)
		return 1
	}
	return 0
}
