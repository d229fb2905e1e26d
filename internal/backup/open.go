package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// Report is what a file holds, or what of it was found whole.
type Report struct {
	Made      time.Time
	ClusterID string // as a UUID
	Name      string // of the cluster
	Rows      uint64 // all of them
	Spaces    uint64 // whose keys are there
	Opened    uint64 // rows of spaces, each of which was opened
	Lost      uint64 // rows of spaces whose keys are destroyed
	Bytes     uint64 // of rows
}

// Write writes all that the store below b holds at one moment. The name is the
// cluster's, for people.
func Write(ctx context.Context, b *barrier.Barrier, name string, w io.Writer) (made Report, err error) {
	key := b.Derive(Purpose)
	defer key.Wipe()
	err = b.Whole(ctx, func(r storage.Reader, each func(func(storage.Key, []byte) error) error) error {
		head := barrier.Head()
		found, err := r.GetMany(head)
		if err != nil {
			return err
		}
		cluster, err := barrier.Binding(ctx, b.Raw())
		if err != nil {
			return err
		}
		h := Header{Cluster: [16]byte(cluster), Made: r.Now(), Mark: r.Mark(), Name: name}
		for i, k := range head {
			if found[i] == nil {
				return barrier.ErrUninitialized
			}
			h.Rows = append(h.Rows, Row{k, found[i]})
		}
		out, err := NewWriter(w, h, key)
		if err != nil {
			return err
		}
		if err := each(func(k storage.Key, value []byte) error { return out.Add(Row{k, value}) }); err != nil {
			return err
		}
		made = Report{Made: h.Made, ClusterID: b.ClusterID(), Name: name, Rows: out.rows, Bytes: out.bytes}
		return out.Close()
	})
	if err != nil {
		return Report{}, fmt.Errorf("writing a backup: %w", err)
	}
	return made, nil
}

// Unseal returns the root key by one of the stanzas; see [seal.Sealer].
type Unseal func(ctx context.Context, stanzas []seal.Stanza, binding []byte) (secret.Bytes, error)

// Opened is a file whose rows can be read. Make it with [Open].
type Opened struct {
	r       *Reader
	keys    *keys
	barrier *barrier.Barrier
	report  Report
}

// Open reads the header of a file and unseals it. The caller closes it.
func Open(ctx context.Context, file io.Reader, unseal Unseal) (*Opened, error) {
	r, err := NewReader(file)
	if err != nil {
		return nil, err
	}
	k := &keys{rows: map[storage.Key][]byte{}, now: r.header.Made}
	for _, row := range r.header.Rows {
		k.rows[row.Key] = row.Value
	}
	stanzas, err := barrier.Stanzas(ctx, k)
	if err != nil {
		return nil, fmt.Errorf("reading the seal slots of the backup: %w", err)
	}
	binding, err := barrier.Binding(ctx, k)
	if err != nil {
		return nil, fmt.Errorf("reading the seal slots of the backup: %w", err)
	}
	if !bytes.Equal(binding, r.header.Cluster[:]) {
		return nil, fmt.Errorf("%w: it names two clusters", ErrDamaged)
	}
	root, err := unseal(ctx, stanzas, binding)
	if err != nil {
		return nil, fmt.Errorf("unsealing the backup: %w", err)
	}
	defer root.Wipe()
	b, err := barrier.Open(ctx, k, root)
	if err != nil {
		return nil, fmt.Errorf("opening the backup's keyring: %w", err)
	}
	key := b.Derive(Purpose)
	defer key.Wipe()
	r.Unlock(key)
	return &Opened{r: r, keys: k, barrier: b, report: Report{Made: r.header.Made, ClusterID: b.ClusterID(), Name: r.header.Name}}, nil
}

// Close forgets the keys.
func (o *Opened) Close() { o.barrier.Close() }

// Next returns the next row, when it has opened it; io.EOF when the file was
// found whole.
func (o *Opened) Next(ctx context.Context) (Row, error) {
	row, err := o.r.Next()
	if errors.Is(err, io.EOF) {
		for _, h := range o.r.header.Rows {
			if !o.keys.met[h.Key] {
				return Row{}, fmt.Errorf("%w: a row of its header is not among its rows", ErrDamaged)
			}
		}
		return Row{}, io.EOF
	}
	if err != nil {
		return Row{}, err
	}
	if err := o.keys.meet(row); err != nil {
		return Row{}, err
	}
	kind, err := o.barrier.CheckRow(ctx, row.Key, row.Value)
	if err != nil {
		return Row{}, fmt.Errorf("opening row %d of the backup: %w", o.report.Rows+1, err)
	}
	o.report.Rows++
	o.report.Bytes = o.r.bytes
	switch kind {
	case barrier.KeysRow:
		o.report.Spaces++
	case barrier.SpaceRow:
		o.report.Opened++
	case barrier.LostRow:
		o.report.Lost++
	case barrier.HeadRow, barrier.OtherRow:
	}
	return row, nil
}

// Check reads all rows and opens each.
func (o *Opened) Check(ctx context.Context) (Report, error) {
	for {
		if _, err := o.Next(ctx); err != nil {
			if errors.Is(err, io.EOF) {
				return o.report, nil
			}
			return Report{}, err
		}
		if o.report.Rows%1024 == 0 && ctx.Err() != nil {
			return Report{}, ctx.Err()
		}
	}
}

// Report returns what has been read.
func (o *Opened) Report() Report { return o.report }

// keys is a store of the rows that open others. It is only read.
type keys struct {
	rows map[storage.Key][]byte
	met  map[storage.Key]bool // those of the header that came again among the rows
	now  time.Time
}

// longestKeyScope is the length of the longest scope that holds keys: those of
// rows are longer, and come later.
var longestKeyScope = len(barrier.KeyScope(barrier.Core))

// meet keeps a row that opens others. One of the header must be the same.
func (k *keys) meet(row Row) error {
	if len(row.Key.Scope) > longestKeyScope {
		return nil
	}
	if have, ok := k.rows[row.Key]; ok {
		if !bytes.Equal(have, row.Value) {
			return fmt.Errorf("%w: a row of its header is another among its rows", ErrDamaged)
		}
		if k.met == nil {
			k.met = map[storage.Key]bool{}
		}
		k.met[row.Key] = true
		return nil
	}
	k.rows[row.Key] = bytes.Clone(row.Value)
	return nil
}

// View implements [storage.Store].
func (k *keys) View(_ context.Context, fn func(storage.Reader) error) error { return fn(k) }

// Update implements [storage.Store].
func (k *keys) Update(context.Context, storage.Locks, func(storage.Tx) error) error {
	return fmt.Errorf("a backup is only read: %w", errors.ErrUnsupported)
}

// Changes implements [storage.Store].
func (k *keys) Changes(context.Context, storage.Mark) (storage.Changes, error) {
	return storage.Changes{Mark: 1, Now: k.now}, nil
}

// Close implements [storage.Store].
func (k *keys) Close() error { return nil }

// Get implements [storage.Reader].
func (k *keys) Get(key storage.Key) ([]byte, error) {
	if v, ok := k.rows[key]; ok {
		return bytes.Clone(v), nil
	}
	return nil, storage.ErrNotFound
}

// GetMany implements [storage.Reader].
func (k *keys) GetMany(ks []storage.Key) ([][]byte, error) {
	out := make([][]byte, len(ks))
	for i, key := range ks {
		out[i] = bytes.Clone(k.rows[key])
	}
	return out, nil
}

// Scan implements [storage.Reader].
func (k *keys) Scan(string, string, string, int) ([]storage.Item, bool, error) {
	return nil, false, fmt.Errorf("a backup is not scanned: %w", errors.ErrUnsupported)
}

// Mark implements [storage.Reader].
func (k *keys) Mark() storage.Mark { return 1 }

// Now implements [storage.Reader].
func (k *keys) Now() time.Time { return k.now }
