package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/show"
)

// completePaths completes the names of secrets, for the first n arguments or,
// where n is negative, for all. It asks the server, and never for values.
func (a *app) completePaths(n int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		if n >= 0 && len(args) >= n {
			return nil, none
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
		defer cancel()
		cl, err := a.plainClient()
		if err != nil {
			return nil, none
		}
		m, err := a.short(ctx, cl)
		if err != nil {
			return nil, none
		}
		dir := typed[:strings.LastIndex(typed, "/")+1]
		keys, err := a.list(ctx, cl, m, dir)
		if err != nil {
			return nil, none
		}
		var out []string
		for _, k := range keys {
			if strings.HasPrefix(dir+k, typed) && show.Clean(k) == k {
				out = append(out, dir+k)
			}
		}
		return out, none | cobra.ShellCompDirectiveNoSpace
	}
}

// atLeast, atMost, exactly and between check the number of arguments.
func atLeast(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < n {
			return usageError{fmt.Errorf("%s is missing: %s", what, c.UseLine()), c.CommandPath()}
		}
		return nil
	}
}

func atMost(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > n {
			return usageError{fmt.Errorf("there are too many arguments: %s", c.UseLine()), c.CommandPath()}
		}
		return nil
	}
}

func between(low, high int, what string) cobra.PositionalArgs {
	return cobra.MatchAll(atLeast(low, what), atMost(high))
}

func exactly(n int, what string) cobra.PositionalArgs { return between(n, n, what) }
