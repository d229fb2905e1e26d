package server

import (
	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/storage/bolt"
)

// observe tells the metrics what can be read at any time.
func (n *Node) observe() {
	n.metrics.Gauge("rotunda_sealed", "1 while the node is sealed.", func() float64 {
		if n.gate.Sealed() {
			return 1
		}
		return 0
	})
	n.metrics.Gauge("rotunda_connections", "Connections that are open.", func() float64 {
		total := 0
		if servers := n.connections.Load(); servers != nil {
			for _, s := range *servers {
				total += s.Connections()
			}
		}
		return float64(total)
	})
	n.metrics.Counter("rotunda_connections_refused_total", "Connections refused because there were too many.", func() float64 {
		total := uint64(0)
		if servers := n.connections.Load(); servers != nil {
			for _, s := range *servers {
				total += s.Refused()
			}
		}
		return float64(total)
	})
	n.metrics.Counters("rotunda_refused_total", "What was refused before it was a request: connections, handshakes, and bytes that are no request.", "kind", n.refusalCounts)
	n.metrics.Counter("rotunda_audit_records_total", "Records appended to the audit journal.", func() float64 {
		return float64(n.journal.Stats().Records)
	})
	n.metrics.Counter("rotunda_audit_bytes_total", "Bytes appended to the audit journal.", func() float64 {
		return float64(n.journal.Stats().Bytes)
	})
	n.metrics.Counter("rotunda_audit_syncs_total", "Times that the audit journal was made durable.", func() float64 {
		return float64(n.journal.Stats().Syncs)
	})
	n.metrics.Gauge("rotunda_audit_checkpoint_timestamp_seconds", "When the last checkpoint of the audit journal was signed; 0 while the node is sealed.", func() float64 {
		at, _ := n.journal.Certified()
		if at.IsZero() {
			return 0
		}
		return float64(at.Unix())
	})
	n.metrics.Gauge("rotunda_pin_timestamp_seconds", "When the node has last remembered how far its store has come, of which an older copy is refused; 0 for never, and while it is sealed.", func() float64 {
		if at := n.gate.Pinned(); !at.IsZero() {
			return float64(at.Unix())
		}
		return 0
	})
	n.metrics.Gauge("rotunda_backup_timestamp_seconds", "When the newest scheduled backup was made that was found whole; 0 for none.", func() float64 {
		if last := n.backupStatus().Last; !last.IsZero() {
			return float64(last.Unix())
		}
		return 0
	})
	n.metrics.Gauge("rotunda_backup_overdue", "1 while a scheduled backup should be there that is not.", func() float64 {
		if n.backupStatus().Overdue(n.c.Clock.Now()) {
			return 1
		}
		return 0
	})
	n.metrics.Counter("rotunda_backup_failures_total", "Scheduled backups that could not be written, or were not whole.", func() float64 {
		return float64(n.backupStatus().Failures)
	})
	n.metrics.Gauges("rotunda_trouble", "1 where the machine below the node lets it down in this way.", "trouble", n.troubleGauge)
	n.observeSinks()
	if s, ok := n.store.(interface{ Stats() bolt.Stats }); ok {
		n.metrics.Counter("rotunda_store_lost_total", "Transactions that were refused because the disk took no writes.", func() float64 {
			return float64(s.Stats().Lost)
		})
		n.metrics.Counter("rotunda_store_stalls_total", "Transactions that were told that their outcome is not known, because the disk did not answer.", func() float64 {
			return float64(s.Stats().Stalls)
		})
		n.metrics.Counter("rotunda_store_commits_total", "Times that transactions were made durable together.", func() float64 {
			return float64(s.Stats().Commits)
		})
		n.metrics.Counter("rotunda_store_updates_total", "Transactions that were made durable.", func() float64 {
			return float64(s.Stats().Updates)
		})
		n.metrics.Counter("rotunda_store_bytes_total", "Bytes of keys and values that transactions wrote.", func() float64 {
			return float64(s.Stats().Bytes)
		})
		n.metrics.Gauge("rotunda_store_size_bytes", "Size of the store's file.", func() float64 {
			return float64(s.Stats().Size)
		})
	}
}

// observeSinks tells the metrics how the feeds of audit sinks go.
func (n *Node) observeSinks() {
	each := func(value func(audit.FeedStatus) float64) func() map[string]float64 {
		return func() map[string]float64 {
			out := map[string]float64{}
			for _, f := range n.journal.FeedStatus() {
				out[f.Name] = value(f)
			}
			return out
		}
	}
	n.metrics.Gauges("rotunda_audit_sink_lag_records", "Records in the journal that an audit sink does not have yet.", "sink",
		each(func(f audit.FeedStatus) float64 { return float64(f.Behind) }))
	n.metrics.Gauges("rotunda_audit_sink_failing", "1 while an audit sink takes no records, which wait in the journal.", "sink",
		each(func(f audit.FeedStatus) float64 {
			if f.Late {
				return 1
			}
			return 0
		}))
	n.metrics.Counters("rotunda_audit_sink_failures_total", "Times that an audit sink did not take its records, since the server was unsealed.", "sink",
		each(func(f audit.FeedStatus) float64 { return float64(f.Failures) }))
}
