// Command rotunda is the server and its client in one program.
package main

import (
	"context"
	"os"

	"rotunda.dev/rotunda/internal/cli"
	"rotunda.dev/rotunda/internal/server"
)

func main() {
	os.Exit(cli.Main(context.Background(), cli.Program{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ(), Server: server.CLI(),
	}))
}
