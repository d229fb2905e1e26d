package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"rotunda.dev/rotunda/internal/backup"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/bolt"
)

// rig is a store with some rows in two spaces, and its root key.
type rig struct {
	store   *bolt.Store
	dir     string
	root    secret.Bytes
	barrier *barrier.Barrier
}

func newRig(t testing.TB, rows, size int) *rig {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	store, err := bolt.Open(dir, bolt.Config{})
	if err != nil {
		t.Fatal(err)
	}
	root := secret.NewBytes(bytes.Repeat([]byte{7}, 32))
	ctx := t.Context()
	if err := barrier.Create(ctx, store, root, []seal.Stanza{{Kind: "test", Args: []string{"a"}, Body: []byte("body")}}); err != nil {
		t.Fatal(err)
	}
	b, err := barrier.Open(ctx, store, root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(); _ = store.Close() })
	core, err := b.Space(ctx, barrier.Core)
	if err != nil {
		t.Fatal(err)
	}
	page := max(1, min(100, 800_000/max(size, 1)))
	for from := 0; from < rows; from += page {
		if err := core.Update(ctx, storage.Locks{Own: []string{"xscope"}}, func(tx storage.Tx) error {
			for i := from; i < min(from+page, rows); i++ {
				tx.Put(storage.Key{Scope: "xscope", Row: fmt.Sprintf("%04d", i)}, bytes.Repeat([]byte{byte(i)}, size))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Update(ctx, storage.Locks{Own: []string{"\x02outbox1234567890123456"}}, func(tx storage.Tx) error {
		tx.Put(storage.Key{Scope: "\x02outbox1234567890123456", Row: "x"}, []byte("waiting"))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return &rig{store, dir, root, b}
}

func (r *rig) unseal(context.Context, []seal.Stanza, []byte) (secret.Bytes, error) {
	return r.root.Clone(), nil
}

func (r *rig) write(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := backup.Write(t.Context(), r.barrier, "name", &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (r *rig) check(ctx context.Context, file []byte) (backup.Report, error) {
	o, err := backup.Open(ctx, bytes.NewReader(file), r.unseal)
	if err != nil {
		return backup.Report{}, err
	}
	defer o.Close()
	return o.Check(ctx)
}

// rowsOf returns all rows of a store.
func rowsOf(t testing.TB, s storage.Whole) map[storage.Key]string {
	t.Helper()
	all := map[storage.Key]string{}
	if err := s.Whole(t.Context(), func(_ storage.Reader, each func(func(storage.Key, []byte) error) error) error {
		return each(func(k storage.Key, v []byte) error {
			all[k] = string(v)
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for _, shape := range []struct{ rows, size int }{{0, 0}, {3, 10}, {700, 2000}, {3, 900 << 10}} {
		r := newRig(t, shape.rows, shape.size)
		file := r.write(t)
		h, size, err := backup.Scrub(bytes.NewReader(file))
		if err != nil || size != int64(len(file)) || h.Name != "name" {
			t.Errorf("Scrub = %v, %d, %v; want %d bytes", h, size, err, len(file))
		}
		report, err := r.check(t.Context(), file)
		if err != nil || report.Spaces != 2 || report.Opened != uint64(shape.rows) || report.Rows != uint64(shape.rows)+5 || report.ClusterID != r.barrier.ClusterID() {
			t.Errorf("Check of %v = %+v, %v", shape, report, err)
		}
		o, err := backup.Open(t.Context(), bytes.NewReader(file), r.unseal)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "store")
		if err := bolt.Load(dir, func() (storage.Key, []byte, error) {
			row, err := o.Next(t.Context())
			return row.Key, row.Value, err
		}); err != nil {
			t.Fatal(err)
		}
		o.Close()
		again, err := bolt.Open(dir, bolt.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Check(t.Context()); err != nil {
			t.Errorf("Check of what was loaded = %v", err)
		}
		want, got := rowsOf(t, r.store), rowsOf(t, again)
		if len(want) != len(got) {
			t.Errorf("%d rows were loaded, want %d", len(got), len(want))
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("row %q differs", k)
			}
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}

// refused checks that a file is refused, with and without its key.
func refused(t *testing.T, r *rig, file []byte, what string) {
	t.Helper()
	if _, _, err := backup.Scrub(bytes.NewReader(file)); err == nil {
		t.Errorf("Scrub of a file with %s = nil", what)
	}
	if _, err := r.check(t.Context(), file); err == nil {
		t.Errorf("Check of a file with %s = nil", what)
	}
}

func TestDamageIsFound(t *testing.T) {
	r := newRig(t, 60, 9000)
	file := r.write(t)
	random := rand.New(rand.NewPCG(1, 2))
	at := func(i int) {
		broken := bytes.Clone(file)
		broken[i] ^= 1 << random.IntN(8)
		refused(t, r, broken, fmt.Sprintf("byte %d changed", i))
	}
	for i := range 1200 { // header, and the beginning of the first chunk
		at(i)
	}
	for range 300 {
		at(random.IntN(len(file)))
	}
	for i := range 100 {
		at(len(file) - 1 - i)
	}
	for range 200 {
		n := random.IntN(len(file))
		refused(t, r, file[:n], fmt.Sprintf("only %d bytes", n))
	}
	for i := range 130 {
		refused(t, r, file[:len(file)-1-i], fmt.Sprintf("%d bytes cut off", i+1))
	}
	refused(t, r, append(bytes.Clone(file), 0), "a byte too many")
	refused(t, r, append(bytes.Clone(file), file...), "itself behind it")
	refused(t, r, nil, "nothing in it")
}

// chunksOf takes a file apart: header, chunks, sum.
func chunksOf(t *testing.T, file []byte) (header []byte, chunks [][]byte) {
	t.Helper()
	n := func(b []byte) int { return int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3]) }
	head := 12 + n(file[8:])
	header, rest := file[:head], file[head:]
	for len(rest) > 32 {
		size := 5 + n(rest)
		chunks = append(chunks, rest[:size])
		rest = rest[size:]
	}
	return header, chunks
}

// A forger without the key can make the sum right, and nothing else.
func TestForgeriesAreFound(t *testing.T) {
	r := newRig(t, 700, 2000)
	header, chunks := chunksOf(t, r.write(t))
	other, _ := chunksOf(t, r.write(t))
	if len(chunks) < 5 {
		t.Fatalf("%d chunks", len(chunks))
	}
	build := func(header []byte, chunks ...[]byte) []byte {
		return resum(append(bytes.Clone(header), bytes.Join(chunks, nil)...))
	}
	if _, err := r.check(t.Context(), build(header, chunks...)); err != nil {
		t.Fatalf("Check of the file put together again = %v", err)
	}
	last := len(chunks) - 1
	swapped := append([][]byte{chunks[1], chunks[0]}, chunks[2:]...)
	opened := bytes.Clone(chunks[0])
	opened[4] = 1
	for what, file := range map[string][]byte{
		"two chunks swapped":    build(header, swapped...),
		"a chunk left out":      build(header, chunks[1:]...),
		"a later one left out":  build(header, append(append([][]byte{}, chunks[:2]...), chunks[3:]...)...),
		"a chunk twice":         build(header, append([][]byte{chunks[0]}, chunks...)...),
		"the end moved forward": build(header, chunks[0], chunks[last]),
		"another one's header":  build(other, chunks...),
		"a first chunk as last": build(header, opened),
		"no last chunk":         build(header, chunks[:last]...),
	} {
		if _, err := r.check(t.Context(), file); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("Check of a file with %s = %v, want ErrDamaged", what, err)
		}
	}
	flipped := bytes.Clone(header)
	flipped[len(flipped)-1] ^= 1
	if _, err := r.check(t.Context(), build(flipped, chunks...)); err == nil {
		t.Error("a changed header is taken")
	}
}

// A backup is of one moment, whatever is written meanwhile.
func TestBackupIsOfOneMoment(t *testing.T) {
	r := newRig(t, 600, 1000)
	core, err := r.barrier.Space(t.Context(), barrier.Core)
	if err != nil {
		t.Fatal(err)
	}
	before := rowsOf(t, r.store)
	var file bytes.Buffer
	first := true
	w := writer(func(b []byte) (int, error) {
		if first {
			first = false
			if err := core.Update(t.Context(), storage.Locks{Own: []string{"xscope", "ynew"}}, func(tx storage.Tx) error {
				tx.Delete(storage.Key{Scope: "xscope", Row: "0000"})
				tx.Put(storage.Key{Scope: "ynew", Row: "r"}, []byte("later"))
				return nil
			}); err != nil {
				return 0, err
			}
		}
		return file.Write(b)
	})
	if _, err := backup.Write(t.Context(), r.barrier, "", w); err != nil {
		t.Fatal(err)
	}
	o, err := backup.Open(t.Context(), &file, r.unseal)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	n := 0
	for {
		row, err := o.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
		if before[row.Key] != string(row.Value) {
			t.Fatalf("row %q is not as it was", row.Key)
		}
	}
	if n != len(before) {
		t.Errorf("%d rows, want %d", n, len(before))
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func FuzzReader(f *testing.F) {
	r := newRig(f, 3, 10)
	f.Add(r.write(f))
	f.Add([]byte("RTNDBAK\x01\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, file []byte) {
		_, _, scrubbed := backup.Scrub(bytes.NewReader(file))
		if _, err := r.check(t.Context(), file); err == nil && scrubbed != nil {
			t.Errorf("Check = nil and Scrub = %v", scrubbed)
		}
	})
}
