package server

import (
	"context"

	"rotunda.dev/rotunda/internal/listen"
)

// reloadOnSignal has no signal to wait for here; certificates are looked at
// every few seconds anyway.
func (n *Node) reloadOnSignal(context.Context, ...*listen.TLS) {}

// surviveFileLimit does nothing: there is no such limit.
func surviveFileLimit() {}
