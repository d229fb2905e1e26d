package server

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/netresearch/go-cron"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/backup"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/conf"
)

// scheduleOf returns when and where backups are written by a configuration.
func scheduleOf(c conf.Backup) (backup.Schedule, error) {
	s := backup.Schedule{Dir: c.Dir, Keep: c.Keep, KeepFor: c.KeepFor}
	if c.Schedule == "" {
		every := cmp.Or(c.Interval, 24*time.Hour)
		s.Next = func(after time.Time) time.Time { return after.Add(every) }
		return s, nil
	}
	times, err := cron.StandardParser().Parse(c.Schedule)
	if err != nil {
		return s, fmt.Errorf("reading the schedule of backups, %q: %w", c.Schedule, err)
	}
	if times.Next(time.Unix(0, 0).UTC()).IsZero() {
		return s, fmt.Errorf("reading the schedule of backups, %q: it has no time", c.Schedule)
	}
	s.Next = func(after time.Time) time.Time { return times.Next(after.UTC()) }
	return s, nil
}

// keepBackups writes backups as they are scheduled, until ctx ends.
func (n *Node) keepBackups(ctx context.Context, b *barrier.Barrier) error {
	k := backup.Keeper{
		Schedule: n.c.Backups, Barrier: b, Name: n.c.Info.ClusterName, Clock: n.c.Clock, Log: n.c.Log, Book: &n.backups,
		Record: func(ctx context.Context, event, outcome, note string) error {
			return n.journal.Append(ctx, &audit.Record{
				Kind: audit.Event, Time: n.c.Clock.Now(), Node: n.c.Info.ClusterName, Event: event, Outcome: outcome, Allowed: true, Note: note,
			})
		},
	}
	return k.Run(ctx)
}

// backupStatus says how scheduled backups stand.
func (n *Node) backupStatus() backup.Status {
	s := n.backups.Status()
	s.Scheduled = n.c.Backups.Dir != ""
	return s
}
