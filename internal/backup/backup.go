// Package backup is the file that holds all that a store holds at one moment:
// what it is made of, and that it is whole.
//
//	file    = header | chunk* | sum (32)
//	header  = "RTNDBAK" | 1 | length (4) | body
//	body    = id (16) | cluster (16) | made (8) | mark (8) | text: name of the cluster | count (1) | row*
//	chunk   = length (4) | last (1) | derived, AAD("backup chunk", cluster, SHA-256(header), number, last)
//	          of row*, or in the last one of: number of rows (8) | bytes of rows (8)
//	row     = length (2) | scope | length (2) | row | length (4) | value
//	sum     = SHA-256 of all that is before it
//
// The rows are those of the physical store: they are encrypted before they come
// here, and ascend. Those of the header are the keyring and the seal slots once
// more, by which whoever has the seal's key comes to the key of the chunks. The
// sum finds damage without any key. A chunk is bound to the header, which is so
// authenticated too, to its number, and to whether it is the last: nothing is
// changed, moved, taken out or cut off unseen by who has the key.
//
// Nothing here is larger in memory than a chunk.
package backup

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

var (
	// ErrDamaged says that a file is not as it was written: it is to be
	// replaced by another copy.
	ErrDamaged = errors.New("backup: damaged")

	// ErrNewer says that a later version wrote the file.
	ErrNewer = errors.New("backup: written by a newer version")

	// ErrNotBackup says that a file is something else.
	ErrNotBackup = errors.New("backup: not a backup")
)

// Purpose is that of the key, for the barrier's Derive.
const Purpose = "backup"

const (
	magic     = "RTNDBAK"
	format    = 1
	headSize  = len(magic) + 1 + 4
	maxHeader = 4 << 20
	chunkSize = 256 << 10                                                // from which on a chunk is written
	maxChunk  = chunkSize + storage.MaxBytes + 2*storage.MaxKey + 64<<10 // of its plaintext
	maxRows   = 16                                                       // of a header
	totals    = 16                                                       // bytes of the last chunk
)

// Row is a row of the physical store.
type Row struct {
	Key   storage.Key
	Value []byte
}

// Header is what a file says of itself. It is proved when the first row has been read.
type Header struct {
	ID      [16]byte // random
	Cluster [16]byte
	Made    time.Time
	Mark    storage.Mark // of the snapshot
	Name    string       // of the cluster
	Rows    []Row        // that open the rest
}

func (h Header) encode() []byte {
	b := append([]byte(magic), format, 0, 0, 0, 0)
	b = append(append(b, h.ID[:]...), h.Cluster[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Made.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, uint64(h.Mark))
	b = binary.AppendUvarint(b, uint64(len(h.Name)))
	b = append(b, h.Name...)
	b = append(b, byte(len(h.Rows))) //nolint:gosec // at most maxRows
	for _, r := range h.Rows {
		b = appendRow(b, r)
	}
	binary.BigEndian.PutUint32(b[headSize-4:], uint32(len(b)-headSize)) //nolint:gosec // of few rows
	return b
}

func appendRow(b []byte, r Row) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Key.Scope))) //nolint:gosec // at most storage.MaxKey
	b = append(b, r.Key.Scope...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Key.Row))) //nolint:gosec // at most storage.MaxKey
	b = append(b, r.Key.Row...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Value))) //nolint:gosec // at most storage.MaxBytes
	return append(b, r.Value...)
}

// cut takes n bytes off b.
func cut(b []byte, n int) (head, rest []byte, ok bool) {
	if n < 0 || n > len(b) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// readRow takes a row off b. Its value is a part of b.
func readRow(b []byte) (r Row, rest []byte, ok bool) {
	var parts [3][]byte
	for i, size := range []int{2, 2, 4} {
		var n []byte
		if n, b, ok = cut(b, size); !ok {
			return Row{}, nil, false
		}
		length := uint64(0)
		for _, x := range n {
			length = length<<8 | uint64(x)
		}
		if length > storage.MaxBytes {
			return Row{}, nil, false
		}
		if parts[i], b, ok = cut(b, int(length)); !ok {
			return Row{}, nil, false
		}
	}
	if len(parts[0])+len(parts[1]) > storage.MaxKey {
		return Row{}, nil, false
	}
	return Row{storage.Key{Scope: string(parts[0]), Row: string(parts[1])}, parts[2]}, b, true
}

// after reports whether k comes after last in the order of a file: by the
// length of scopes, by scopes, by rows.
func after(last, k storage.Key) bool {
	if len(last.Scope) != len(k.Scope) {
		return len(last.Scope) < len(k.Scope)
	}
	if last.Scope != k.Scope {
		return last.Scope < k.Scope
	}
	return last.Row < k.Row
}

// sealer seals or opens the chunks of one file.
type sealer struct {
	key     *aead.Deriver
	cluster [16]byte
	header  [32]byte
	number  uint64
	aad     aead.AAD
}

func (s *sealer) next(last byte) aead.AAD {
	s.aad = append(s.aad[:0], aead.For("backup chunk")...)
	s.aad = s.aad.Add(aead.FieldCluster, s.cluster[:]).Add(aead.FieldFile, s.header[:]).Num(aead.FieldNumber, s.number).Num(aead.FieldKind, uint64(last))
	s.number++
	return s.aad
}

func newSealer(key secret.Bytes, h Header, encoded []byte) (s sealer) {
	_ = key.Use(func(k []byte) error {
		s.key = aead.NewDeriver(k)
		return nil
	})
	s.cluster, s.header = h.Cluster, sha256.Sum256(encoded)
	return s
}

// Writer writes a file. Make it with [NewWriter].
type Writer struct {
	w      io.Writer // the file and its sum
	sum    hash.Hash
	sealer sealer
	plain  []byte
	sealed []byte
	last   storage.Key
	begun  bool
	rows   uint64
	bytes  uint64
}

// NewWriter begins a file with a header, whose id it makes, under the key that
// the barrier derives for [Purpose].
func NewWriter(w io.Writer, h Header, key secret.Bytes) (*Writer, error) {
	rand.Read(h.ID[:])
	if len(h.Rows) > maxRows || len(h.Name) > 1<<10 {
		return nil, errors.New("backup: internal error: too much in a header")
	}
	head := h.encode()
	if len(head) > maxHeader {
		return nil, errors.New("backup: internal error: too much in a header")
	}
	out := &Writer{sum: sha256.New(), sealer: newSealer(key, h, head)}
	out.w = io.MultiWriter(w, out.sum)
	if _, err := out.w.Write(head); err != nil {
		return nil, err
	}
	return out, nil
}

// Add writes a row, which must come after the one before it. It keeps nothing of it.
func (w *Writer) Add(r Row) error {
	if w.begun && !after(w.last, r.Key) {
		return fmt.Errorf("rows out of order: %w", storage.ErrCorrupt)
	}
	w.last, w.begun = r.Key, true
	n := len(w.plain)
	w.plain = appendRow(w.plain, r)
	w.rows++
	w.bytes += uint64(len(w.plain) - n) //nolint:gosec // it grows
	if len(w.plain) < chunkSize {
		return nil
	}
	return w.flush(0)
}

func (w *Writer) flush(last byte) error {
	w.sealed = append(w.sealed[:0], 0, 0, 0, 0, last)
	w.sealed = w.sealer.key.Seal(w.sealed, w.plain, w.sealer.next(last))
	binary.BigEndian.PutUint32(w.sealed, uint32(len(w.sealed)-5)) //nolint:gosec // at most maxChunk
	w.plain = w.plain[:0]
	_, err := w.w.Write(w.sealed)
	return err
}

// Close ends the file. What was not closed is no backup. It does not close the writer below.
func (w *Writer) Close() error {
	if len(w.plain) > 0 {
		if err := w.flush(0); err != nil {
			return err
		}
	}
	w.plain = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(w.plain, w.rows), w.bytes)
	if err := w.flush(1); err != nil {
		return err
	}
	_, err := w.w.Write(w.sum.Sum(nil))
	return err
}

// Rows returns how many rows have been written.
func (w *Writer) Rows() uint64 { return w.rows }

// Reader reads a file from its beginning to its end. Make it with [NewReader].
type Reader struct {
	r      io.Reader // the file and its sum
	file   io.Reader
	sum    hash.Hash
	header Header
	head   []byte
	sealer sealer
	sealed []byte
	plain  []byte // what is left of the chunk
	buffer []byte
	last   storage.Key
	begun  bool
	rows   uint64
	bytes  uint64
	ended  bool
}

// NewReader reads the header of a file. Nothing of it is proved before a row
// has been read.
func NewReader(file io.Reader) (*Reader, error) {
	r := &Reader{file: file, sum: sha256.New()}
	r.r = io.TeeReader(file, r.sum)
	head := make([]byte, headSize)
	if _, err := io.ReadFull(r.r, head); err != nil {
		return nil, cutOff(err, ErrNotBackup)
	}
	if string(head[:len(magic)]) != magic {
		return nil, ErrNotBackup
	}
	switch f := head[len(magic)]; {
	case f > format:
		return nil, fmt.Errorf("%w: it has format %d, this program knows %d", ErrNewer, f, format)
	case f < format:
		return nil, fmt.Errorf("%w: format 0", ErrDamaged)
	}
	n := binary.BigEndian.Uint32(head[headSize-4:])
	if n > maxHeader {
		return nil, fmt.Errorf("%w: header of %d bytes", ErrDamaged, n)
	}
	body, err := readN(r.r, int(n))
	if err != nil {
		return nil, cutOff(err, ErrDamaged)
	}
	h, ok := parseHeader(body)
	if r.head = slices.Concat(head, body); !ok || !bytes.Equal(h.encode(), r.head) {
		return nil, fmt.Errorf("%w: malformed header", ErrDamaged)
	}
	r.header = h
	return r, nil
}

// readN reads n bytes, and has no more in memory than were there.
func readN(r io.Reader, n int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(b) < n {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// cutOff says of a file that ended early that it is damaged.
func cutOff(err, as error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends too early", as)
	}
	return fmt.Errorf("reading a backup: %w", err)
}

func parseHeader(b []byte) (h Header, ok bool) {
	fixed, b, ok := cut(b, 48)
	if !ok {
		return h, false
	}
	copy(h.ID[:], fixed)
	copy(h.Cluster[:], fixed[16:])
	h.Made = time.Unix(0, int64(binary.BigEndian.Uint64(fixed[32:]))).UTC() //nolint:gosec // as it was written
	h.Mark = storage.Mark(binary.BigEndian.Uint64(fixed[40:]))
	n, size := binary.Uvarint(b)
	if size <= 0 || n > 1<<10 {
		return h, false
	}
	name, b, ok := cut(b[size:], int(n))
	if !ok {
		return h, false
	}
	h.Name = string(name)
	count, b, ok := cut(b, 1)
	if !ok || count[0] > maxRows {
		return h, false
	}
	for range count[0] {
		var row Row
		if row, b, ok = readRow(b); !ok {
			return h, false
		}
		row.Value = bytes.Clone(row.Value)
		h.Rows = append(h.Rows, row)
	}
	return h, len(b) == 0
}

// Header returns what the file says of itself.
func (r *Reader) Header() Header { return r.header }

// Unlock takes the key that the rows are under. It is to be called before [Reader.Next].
func (r *Reader) Unlock(key secret.Bytes) { r.sealer = newSealer(key, r.header, r.head) }

// Next returns the next row, whose value is valid until the next call. The
// error is io.EOF when all rows were read and nothing is missing; one wrapping
// [ErrDamaged] says that what was read may not be used.
func (r *Reader) Next() (Row, error) {
	for len(r.plain) == 0 {
		if r.ended {
			return Row{}, io.EOF
		}
		if err := r.chunk(); err != nil {
			return Row{}, err
		}
	}
	n := len(r.plain)
	row, rest, ok := readRow(r.plain)
	if !ok || r.begun && !after(r.last, row.Key) {
		return Row{}, fmt.Errorf("%w: malformed rows", ErrDamaged)
	}
	r.last, r.begun, r.plain = row.Key, true, rest
	r.rows++
	r.bytes += uint64(n - len(rest)) //nolint:gosec // it shrinks
	return row, nil
}

// frame reads a chunk as it is sealed, into r.sealed.
func (r *Reader) frame() (last byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return 0, cutOff(err, ErrDamaged)
	}
	n, last := binary.BigEndian.Uint32(head[:]), head[4]
	if n < aead.DeriverOverhead || n > maxChunk+aead.DeriverOverhead || last > 1 {
		return 0, fmt.Errorf("%w: malformed chunk", ErrDamaged)
	}
	if cap(r.sealed) < int(n) {
		r.sealed = make([]byte, n)
	}
	r.sealed = r.sealed[:n]
	if _, err := io.ReadFull(r.r, r.sealed); err != nil {
		return 0, cutOff(err, ErrDamaged)
	}
	return last, nil
}

func (r *Reader) chunk() error {
	last, err := r.frame()
	if err != nil {
		return err
	}
	number := r.sealer.number
	plain, err := r.sealer.key.Open(r.buffer[:0], r.sealed, r.sealer.next(last))
	if err != nil {
		return fmt.Errorf("%w: chunk %d does not open", ErrDamaged, number)
	}
	r.buffer = plain
	if last == 0 {
		if len(plain) == 0 {
			return fmt.Errorf("%w: chunk %d is empty", ErrDamaged, number)
		}
		r.plain = plain
		return nil
	}
	if len(plain) != totals || binary.BigEndian.Uint64(plain) != r.rows || binary.BigEndian.Uint64(plain[8:]) != r.bytes {
		return fmt.Errorf("%w: it has %d rows, and not those that it was made of", ErrDamaged, r.rows)
	}
	r.ended = true
	return r.end()
}

// end checks the sum, and that nothing comes after it.
func (r *Reader) end() error {
	want := r.sum.Sum(nil)
	var got [sha256.Size + 1]byte
	n, err := io.ReadFull(r.file, got[:])
	if err == nil || n > sha256.Size {
		return fmt.Errorf("%w: something follows its end", ErrDamaged)
	}
	if n < sha256.Size || !errors.Is(err, io.ErrUnexpectedEOF) {
		return cutOff(err, ErrDamaged)
	}
	if !bytes.Equal(got[:n], want) {
		return fmt.Errorf("%w: its sum is wrong", ErrDamaged)
	}
	return nil
}

// Scrub reads a file without its key, and returns its header and its size. The
// error wraps [ErrDamaged] where the file is not as it was written; it says
// nothing against a forger.
func Scrub(file io.Reader) (h Header, size int64, err error) {
	r, err := NewReader(file)
	if err != nil {
		return h, 0, err
	}
	size = int64(len(r.head))
	for {
		last, err := r.frame()
		if err != nil {
			return h, 0, err
		}
		if size += int64(len(r.sealed)) + 5; last == 1 {
			return r.header, size + sha256.Size, r.end()
		}
	}
}
