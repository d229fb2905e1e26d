package server

import (
	"context"
	"fmt"
	"log/slog"

	"rotunda.dev/rotunda/internal/backup"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/engine/system"
	"rotunda.dev/rotunda/internal/storage"
)

// settle begins what an unsealed node does by itself, unless its store is quarantined.
func (n *Node) settle(ctx context.Context, parts *system.Parts) error {
	home, err := backup.Settle(ctx, parts.Core, n.c.Info.ClusterName)
	if err != nil {
		return err
	}
	if home.Quarantined() {
		n.c.Log.LogAttrs(ctx, slog.LevelWarn, "the store is quarantined: it answers, and does nothing by itself until rotunda operator resume",
			slog.String("reason", home.Reason), slog.String("belongs_to", home.Name))
		return nil
	}
	return parts.Resume(ctx)
}

// quarantine marks a store as restored.
func quarantine(ctx context.Context, b *barrier.Barrier) error {
	core, err := b.Space(ctx, barrier.Core)
	if err != nil {
		return fmt.Errorf("opening the core space: %w", err)
	}
	home, err := backup.ReadHome(ctx, core)
	if err != nil {
		return err
	}
	err = core.Update(ctx, storage.Locks{Own: []string{backup.Scope}}, func(tx storage.Tx) error {
		return backup.WriteHome(tx, backup.Home{Name: home.Name, Reason: backup.Restored, Since: tx.Now()})
	})
	if err != nil {
		return fmt.Errorf("quarantining the store: %w", err)
	}
	return nil
}
