package server

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/cli"
	"rotunda.dev/rotunda/internal/storage"
)

// verify reads and opens all that a stopped node keeps.
func verify(ctx context.Context, data, config string) []cli.Finding {
	h, err := findHome(data, config)
	if err != nil {
		return []cli.Finding{{Check: "node", State: cli.Bad, Detail: err.Error(), Fix: "name the directory of a node with --data"}}
	}
	return []cli.Finding{storeOf(ctx, h, true), openedRows(ctx, h), recordsOf(ctx, h)}
}

// openedRows opens each row of the store by its key.
func openedRows(ctx context.Context, h home) cli.Finding {
	opened, lost := 0, 0
	err := nodeOfHome(h, slog.New(slog.DiscardHandler)).unsealed(ctx, func(b *barrier.Barrier) error {
		return b.Whole(ctx, func(_ storage.Reader, each func(func(storage.Key, []byte) error) error) error {
			return each(func(k storage.Key, value []byte) error {
				kind, err := b.CheckRow(ctx, k, value)
				switch {
				case err != nil:
					return fmt.Errorf("opening row %d: %w", opened+lost+1, err)
				case kind == barrier.LostRow:
					lost++
				default:
					opened++
				}
				return nil
			})
		})
	})
	if err != nil {
		return cli.Finding{Check: "rows", State: cli.Bad, Detail: err.Error(), Fix: "keep a copy of " + h.data + ", and restore a backup"}
	}
	detail := fmt.Sprintf("%d rows open", opened)
	if lost > 0 {
		detail += fmt.Sprintf("; %d are of mounts that were removed, and wait to be", lost)
	}
	return cli.Finding{Check: "rows", State: cli.Good, Detail: detail}
}

// recordsOf opens each record of the journal, and holds it to the checkpoints.
func recordsOf(ctx context.Context, h home) cli.Finding {
	report, err := auditVerify(ctx, cli.AuditQuery{Data: h.data, Config: h.config})
	problems := report.Problems
	if err != nil {
		problems = append(problems, err.Error())
	}
	if len(problems) > 0 {
		return cli.Finding{Check: "audit journal", State: cli.Bad, Detail: strings.Join(problems, "; "), Fix: "rotunda audit verify --data " + h.data}
	}
	return cli.Finding{
		Check: "audit journal", State: cli.Good,
		Detail: fmt.Sprintf("%d records in %d segments, %d checkpoints up to record %d", report.Records, report.Segments, report.Checkpoints, report.Signed),
	}
}
