package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/cli"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// acceptRollback accepts an old copy of the store of a stopped node.
func acceptRollback(ctx context.Context, in cli.AcceptConfig) (out cli.Accepted, err error) {
	c, err := stopped(in.Data, in.Config, in.File)
	if err != nil {
		return out, err
	}
	n, err := Open(c)
	if errors.Is(err, storage.ErrInUse) {
		return out, fmt.Errorf("the node is running; stop it first: %w", err)
	}
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	root, err := n.rootByQuorum(ctx, in.Share)
	if err != nil {
		return out, err
	}
	defer root.Wipe()
	err = n.gate.AcceptOld(ctx, root, func(ctx context.Context, b *broker.Broker) (err error) {
		p, now := b.Parts(), n.c.Clock.Now()
		out.ClusterID = p.Barrier.ClusterID()
		if out.Tokens, err = p.Tokens.EndAll(ctx, now); err != nil || !in.RootToken {
			return err
		}
		if out.RootToken, err = b.IssueShortRoot(ctx, n.c.Clock.Now()); err != nil {
			return fmt.Errorf("making a root token: %w", err)
		}
		return n.recordEvent(ctx, now, "root-token-issued", "A quorum that accepted an old copy of the store has a root token for an hour.")
	})
	return out, err
}

// rootByQuorum returns the root key: by shares where the store has some, and
// only where it has none by what opens it without people.
func (n *Node) rootByQuorum(ctx context.Context, ask func(have, need int) (secret.Text, error)) (secret.Bytes, error) {
	stanzas, err := barrier.Stanzas(ctx, n.store)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("reading the seal slots: %w", err)
	}
	binding, err := barrier.Binding(ctx, n.store)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("reading the seal slots: %w", err)
	}
	if i := slices.IndexFunc(stanzas, func(s seal.Stanza) bool { return s.Kind == quorum{}.Kind() }); i >= 0 {
		return gather(stanzas[i], binding, ask)
	}
	return n.c.rootBySeal(ctx, stanzas, binding)
}
