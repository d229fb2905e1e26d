package overlay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/storage"
)

// Reader shows a Base for a View. It is for one goroutine. It is a
// [storage.Catalog] where the Base has a method Scopes as that has.
type Reader struct {
	ctx   context.Context //nolint:containedctx // of the View, and no longer
	base  Base
	mark  storage.Mark
	now   func() time.Time
	start time.Time     // on the machine's clock, whatever now says
	most  time.Duration // that the View may take
	over  bool
}

// NewReader returns a Reader of base that ends with ctx, after most, or when
// it is closed, whichever comes first.
func NewReader(ctx context.Context, base Base, mark storage.Mark, now func() time.Time, most time.Duration) *Reader {
	return &Reader{ctx: ctx, base: base, mark: mark, now: now, start: clock.System{}.Now(), most: most}
}

var _ storage.Catalog = (*Reader)(nil)

// Close ends r.
func (r *Reader) Close() { r.over = true }

func (r *Reader) alive() error {
	if r.over {
		panic("storage: view used after its function returned")
	}
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if (clock.System{}).Now().Sub(r.start) > r.most {
		return fmt.Errorf("storage: view is over after %v: %w", r.most, context.DeadlineExceeded)
	}
	return nil
}

// Get implements [storage.Reader].
func (r *Reader) Get(k storage.Key) ([]byte, error) {
	if err := r.alive(); err != nil {
		return nil, err
	}
	v, ok, err := r.base.Find(k)
	if err == nil && !ok {
		err = storage.ErrNotFound
	}
	return v, err
}

// GetMany implements [storage.Reader].
func (r *Reader) GetMany(ks []storage.Key) ([][]byte, error) {
	if err := r.alive(); err != nil {
		return nil, err
	}
	vs := make([][]byte, len(ks))
	for i, k := range ks {
		var err error
		if vs[i], _, err = r.base.Find(k); err != nil {
			return nil, err
		}
	}
	return vs, nil
}

// Scan implements [storage.Reader].
func (r *Reader) Scan(scope, after, end string, limit int) ([]storage.Item, bool, error) {
	if err := r.alive(); err != nil {
		return nil, false, err
	}
	return r.base.Scan(scope, after, end, limit)
}

// Scopes implements [storage.Catalog].
func (r *Reader) Scopes(prefix string, size int, after string, limit int) ([]string, bool, error) {
	if err := r.alive(); err != nil {
		return nil, false, err
	}
	b, ok := r.base.(interface {
		Scopes(prefix string, size int, after string, limit int) ([]string, bool, error)
	})
	if !ok {
		return nil, false, fmt.Errorf("storage: no catalog of scopes: %w", errors.ErrUnsupported)
	}
	return b.Scopes(prefix, size, after, limit)
}

// Mark implements [storage.Reader].
func (r *Reader) Mark() storage.Mark { return r.mark }

// Now implements [storage.Reader].
func (r *Reader) Now() time.Time { return r.now() }
