package system

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/wire"
)

// The row of the core space that says which versions of the program have run
// on the store: JSON, oldest first, the first and the last of more than
// maxVersions,
//
//	{"format":1,"versions":[{"version":"1.2.3","build_date":…,"since":…}, …]}
var versionsKey = storage.Key{Scope: "v", Row: "versions"}

const (
	versionsFormat = 1
	maxVersions    = 100
)

type versionsRow struct {
	Format   int          `json:"format"`
	Versions []versionRow `json:"versions"`
}

type versionRow struct {
	Version   string    `json:"version"`
	BuildDate string    `json:"build_date"` // RFC 3339, or empty
	Since     time.Time `json:"since"`
}

// RecordVersion remembers in the core space that this version of the program
// runs on the store from now on. Of the version that ran last it writes nothing.
func RecordVersion(ctx context.Context, core storage.Store, info Info, now time.Time) error {
	last := func(r storage.Reader) (versionsRow, bool, error) {
		row, err := readVersions(r)
		n := len(row.Versions)
		return row, err == nil && n > 0 && row.Versions[n-1].Version == info.Version, err
	}
	known := false
	err := core.View(ctx, func(r storage.Reader) (err error) {
		_, known, err = last(r)
		return err
	})
	if err != nil || known {
		return err
	}
	err = core.Update(ctx, storage.Locks{Own: []string{versionsKey.Scope}}, func(tx storage.Tx) error {
		row, known, err := last(tx)
		if err != nil || known {
			return err
		}
		row.Format, row.Versions = versionsFormat, append(row.Versions, versionRow{info.Version, info.BuildDate, now.UTC()})
		if over := len(row.Versions) - maxVersions; over > 0 {
			row.Versions = append(row.Versions[:1], row.Versions[1+over:]...)
		}
		b, err := json.Marshal(row)
		if err != nil {
			return fmt.Errorf("encoding the versions that have run: %w", err)
		}
		tx.Put(versionsKey, b)
		return nil
	})
	if err != nil {
		return fmt.Errorf("recording the version that runs: %w", err)
	}
	return nil
}

func readVersions(r storage.Reader) (row versionsRow, err error) {
	b, err := r.Get(versionsKey)
	if errors.Is(err, storage.ErrNotFound) {
		return row, nil
	}
	if err != nil {
		return row, fmt.Errorf("reading the versions that have run: %w", err)
	}
	if err := json.Unmarshal(b, &row); err != nil {
		return row, fmt.Errorf("decoding the versions that have run: %w: %w", storage.ErrCorrupt, err)
	}
	if row.Format != versionsFormat {
		return row, fmt.Errorf("decoding the versions that have run: format %d: %w", row.Format, storage.ErrNewer)
	}
	return row, nil
}

type versionInfo struct {
	BuildDate string    `json:"build_date" audit:"clear"`
	Previous  *string   `json:"previous_version" audit:"clear"` // null for the first
	Installed wire.Time `json:"timestamp_installed"`
}

type versionsOut struct {
	Keys    []string               `json:"keys"`
	KeyInfo map[string]versionInfo `json:"key_info"`
}

func versionOps(p *Parts) []op.Op { return versionsOf(p.Core) }

func versionsOf(core storage.Store) []op.Op {
	return []op.Op{
		op.Def[op.Nothing, versionsOut]{
			Name: "system.version-history", Verb: op.List, Path: "version-history/", Does: "List the versions of the program that have run on the store, oldest first.",
		}.With(func(ctx context.Context, _ *op.Call, _ op.Nothing) (versionsOut, error) {
			out := versionsOut{Keys: []string{}, KeyInfo: map[string]versionInfo{}}
			err := core.View(ctx, func(r storage.Reader) error {
				row, err := readVersions(r)
				if err != nil {
					return err
				}
				for i, v := range row.Versions {
					if _, again := out.KeyInfo[v.Version]; again { // it came back after another: shown since it came first
						continue
					}
					shown := versionInfo{BuildDate: v.BuildDate, Installed: wire.Time(v.Since)}
					if i > 0 {
						shown.Previous = &row.Versions[i-1].Version
					}
					out.Keys, out.KeyInfo[v.Version] = append(out.Keys, v.Version), shown
				}
				return nil
			})
			return out, err
		}),
	}
}
