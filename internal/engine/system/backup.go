package system

import (
	"context"
	"io"
	"log/slog"

	"rotunda.dev/rotunda/internal/backup"
	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/wire"
)

// Quarantine is whether the server does nothing by itself.
type Quarantine struct {
	Quarantined bool      `json:"quarantined" doc:"Whether the store answers requests and does nothing by itself."`
	Reason      string    `json:"reason,omitempty" audit:"clear" doc:"restored: it comes from a backup. renamed: it was another cluster's, by its name."`
	Since       wire.Time `json:"since,omitzero" doc:"Since when."`
	Name        string    `json:"name" audit:"clear" doc:"Name of the cluster that the store belongs to."`
}

// BackupStatus is how scheduled backups stand.
type BackupStatus struct {
	Scheduled bool      `json:"scheduled" doc:"Whether backups are written without being asked."`
	Last      wire.Time `json:"last,omitzero" doc:"When the newest was made that is there and was found whole."`
	Bytes     int64     `json:"bytes,omitempty" doc:"Size of its file."`
	Due       wire.Time `json:"due,omitzero" doc:"When the next one is due, or was."`
	Overdue   bool      `json:"overdue" doc:"Whether a backup should be there that is not."`
	Failures  uint64    `json:"failures" doc:"Attempts that failed since the server was started."`
	Failure   string    `json:"failure,omitempty" audit:"clear" doc:"What becomes of the last attempt, where that failed."`
}

// backupOps write backups, and end the quarantine of what was restored from one.
func backupOps(p *Parts) []op.Op {
	return []op.Op{
		op.Def[op.Nothing, op.Raw]{
			Name: "system.backup", Verb: op.Read, Path: "backup", Sudo: true, Stream: true, Shape: op.Bare,
			Does: "Write a backup: all that the store holds at one moment, encrypted as it is there.",
		}.With(func(context.Context, *op.Call, op.Nothing) (op.Raw, error) {
			return op.Raw{ContentType: "application/octet-stream", Stream: p.backup}, nil
		}),
		op.Def[op.Nothing, BackupStatus]{
			Name: "system.backup.status", Verb: op.Read, Path: "backup/status", Does: "Say how scheduled backups stand: when the last was made, and when the next is due.",
		}.With(func(_ context.Context, c *op.Call, _ op.Nothing) (BackupStatus, error) {
			s := p.Backups()
			return BackupStatus{s.Scheduled, wire.Time(s.Last), s.Bytes, wire.Time(s.Due), s.Overdue(c.Time), s.Failures, s.Failure}, nil
		}),
		op.Def[op.Nothing, Quarantine]{
			Name: "system.quarantine", Verb: op.Read, Path: "quarantine", Does: "Say whether the server does nothing by itself, because its store was restored or was another cluster's.",
		}.With(func(ctx context.Context, _ *op.Call, _ op.Nothing) (Quarantine, error) {
			h, err := backup.ReadHome(ctx, p.Core)
			return Quarantine{h.Quarantined(), h.Reason, wire.Time(h.Since), h.Name}, err
		}),
		op.Def[op.Nothing, op.Empty]{
			Name: "system.quarantine.resume", Verb: op.Update, Path: "quarantine/resume", Sudo: true,
			Does: "End the quarantine: the server ends tokens whose time has come, turns keys, removes mounts and writes to sinks again.",
		}.With(func(ctx context.Context, _ *op.Call, _ op.Nothing) (op.Empty, error) {
			was, err := backup.Resume(ctx, p.Core, p.Info.ClusterName)
			if err == nil && was {
				err = p.Resume(context.WithoutCancel(ctx))
			}
			if err == nil && !was {
				err = fault.New(fault.Invalid, "the server is not quarantined")
			}
			return op.Empty{}, err
		}),
	}
}

// backup writes a backup as the answer to a request that has ended; it is
// inside the gate for as long as it takes, and is cut off when the server is sealed.
func (p *Parts) backup(ctx context.Context, w io.Writer) error {
	return p.Gate.With(ctx, func(ctx context.Context, b *broker.Broker) error {
		made, err := backup.Write(ctx, b.Parts().Barrier, p.Info.ClusterName, w)
		if err != nil {
			return err
		}
		p.Log.LogAttrs(ctx, slog.LevelInfo, "a backup was written", slog.Uint64("rows", made.Rows), slog.Uint64("bytes", made.Bytes))
		return nil
	})
}
