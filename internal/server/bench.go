package server

import (
	"context"

	"rotunda.dev/rotunda/internal/bench"
	"rotunda.dev/rotunda/internal/cli"
)

var benchCommand = cli.Command{
	Name: "bench", Short: "Measure a server under load, beside the least that one can do", Long: bench.Help, Flags: bench.Flags,
	Example: "  rotunda bench --seconds 10\n  rotunda bench --workload kv-read,kv-write --limit -o json",
	Run: func(ctx context.Context, c cli.Call) int {
		return bench.Run(ctx, bench.Call{
			Args: c.Args, Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr, Address: c.Address, Token: c.Token.Reveal(), CACert: c.CACert, //nolint:forbidigo // goes into requests' headers only
		})
	},
}
