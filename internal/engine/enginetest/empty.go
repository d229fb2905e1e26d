package enginetest

import (
	"context"
	"testing"

	"rotunda.dev/rotunda/internal/storage"
)

// Rows returns the number of rows in each scope of the mount that has been
// written to since the store was made, as far as the store remembers.
func Rows(ctx context.Context, r *Rig) (map[string]int, error) {
	changes, err := r.Raw.Changes(ctx, 1)
	if err != nil {
		return nil, err
	}
	rows := map[string]int{}
	err = r.Raw.View(ctx, func(reader storage.Reader) error {
		clear(rows)
		for _, scope := range changes.Scopes {
			if len(scope) < 17 || scope[1:17] != string(r.id[:]) || scope[0] == 'k' {
				continue
			}
			items, _, err := reader.Scan(scope, "", "", 0)
			if err != nil {
				return err
			}
			if len(items) > 0 {
				rows[scope] = len(items)
			}
		}
		return nil
	})
	return rows, err
}

// WantEmpty fails t where the mount has rows in its store.
func WantEmpty(t testing.TB, r *Rig) {
	t.Helper()
	rows, err := Rows(context.Background(), r)
	must(t, err)
	for scope, n := range rows {
		t.Errorf("%d rows are left in a scope of table %q", n, scope[:1])
	}
}
