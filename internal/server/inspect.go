package server

import (
	"context"
	"net/http"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/storage"
)

// Store returns the node's physical store, for who looks after what requests change.
func (n *Node) Store() storage.Store { return n.store }

// Journal returns the node's audit journal, for who looks after what was recorded.
func (n *Node) Journal() *audit.Journal { return n.journal }

// Operations returns what can be done at each mount.
func (n *Node) Operations(ctx context.Context) ([]door.MountedOps, error) {
	return n.front.Operations(ctx)
}

// Handler returns what answers at a listener like any other, for who needs none.
func (n *Node) Handler() http.Handler { return n.handler(Listener{}) }

// Unseal opens the node by the seals that need no people.
func (n *Node) Unseal(ctx context.Context) error { return n.gate.AutoUnseal(ctx) }
