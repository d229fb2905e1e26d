package audit

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
)

// # Heads
//
// journal-head and sealed-head say what was durable a moment ago, so that
// records cut off at either end of a journal are missed. They are written
// behind the records: every ten seconds, when a segment is begun or removed,
// and when the journal is locked.
//
//	  0   8  "RTNDHED" and the format, 1
//	  8   1  stream, as in a segment
//	  9   7  zero
//	 16  16  journal id
//	 32   8  sequence of the first record that is kept
//	 40   8  sequence of the last record
//	 48  32  chain value after it
//	 80   8  sequence of the first intent that has no outcome, or that of the next record
//	 88  32  HMAC-SHA256(audit key, "rotunda audit head", bytes 0 to 87)
//	120   4  CRC-32C of the 120 bytes before
type headFile struct {
	stream           stream
	journal          [16]byte
	first, last, low uint64
	chain            [32]byte
	mac              [32]byte
}

const (
	headMagic  = "RTNDHED"
	headFormat = 1
	headBody   = 88
	headLen    = 124
)

func (s stream) headName() string { return s.prefix() + "head" }

func (h *headFile) body() []byte {
	b := append(make([]byte, 0, headLen), headMagic...)
	b = append(b, headFormat, byte(h.stream), 0, 0, 0, 0, 0, 0, 0)
	b = append(b, h.journal[:]...)
	b = binary.BigEndian.AppendUint64(b, h.first)
	b = binary.BigEndian.AppendUint64(b, h.last)
	b = append(b, h.chain[:]...)
	return binary.BigEndian.AppendUint64(b, h.low)
}

func (h *headFile) bytes() []byte {
	b := append(h.body(), h.mac[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func (h *headFile) sum(k *keys) ([32]byte, error) { return k.mac("rotunda audit head", h.body()) }

// authentic reports whether h was written under k.
func (h *headFile) authentic(k *keys) bool {
	mac, err := h.sum(k)
	return err == nil && hmac.Equal(mac[:], h.mac[:])
}

func parseHead(b []byte) (headFile, error) {
	var h headFile
	if len(b) >= 8 && string(b[:7]) == headMagic && b[7] > headFormat {
		return h, ErrNewer
	}
	if len(b) == headLen {
		h.stream = stream(b[8])
		copy(h.journal[:], b[16:])
		h.first, h.last = binary.BigEndian.Uint64(b[32:]), binary.BigEndian.Uint64(b[40:])
		copy(h.chain[:], b[48:])
		h.low = binary.BigEndian.Uint64(b[80:])
		copy(h.mac[:], b[headBody:])
		if bytes.Equal(b, h.bytes()) {
			return h, nil
		}
	}
	return h, errors.New("the head is damaged")
}

// readHead returns the head of a stream; nil where there is none.
func readHead(d Disk, s stream) (*headFile, error) {
	b, err := readAll(d, s.headName())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // a journal may have none
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.headName(), err)
	}
	h, err := parseHead(b)
	if errors.Is(err, ErrNewer) {
		return nil, err
	}
	if err != nil || h.stream != s {
		return nil, &Damage{Segment: s.headName(), What: "the head is damaged"}
	}
	return &h, nil
}

// check reports what h knows to have been durable and is not in segs, whose
// last record is at last.
func (h *headFile) check(segs []segment, journal [16]byte, last position) error {
	d := &Damage{Segment: h.stream.headName(), Seq: h.first}
	switch {
	case len(segs) == 0:
		d.What = fmt.Sprintf("all segments are missing: records %d to %d", h.first, h.last)
	case h.journal != journal:
		d.What = "the head is of another journal"
	case segs[0].first > h.first:
		d.What = fmt.Sprintf("records %d to %d are missing", h.first, segs[0].first-1)
	case last.seq < h.last:
		d.Segment, d.Offset, d.Seq = h.stream.name(segs[len(segs)-1].first), last.off, last.seq+1
		d.What = fmt.Sprintf("records %d to %d are missing", last.seq+1, h.last)
	case last.seq == h.last && last.chain != h.chain:
		d.What, d.Seq = "the last record is not the one that was durable", h.last
	default:
		return nil
	}
	return d
}

// saveHead writes the head of t. One goroutine at a time calls it.
func (t *tape) saveHead() error {
	s := t.status()
	t.mu.Lock()
	k := t.keys
	t.mu.Unlock()
	if k == nil || len(s.segments) == 0 {
		return nil
	}
	return t.writeHead(k, s, s.segments[0].first)
}

func (t *tape) writeHead(k *keys, s status, first uint64) error {
	h := headFile{stream: t.stream, journal: s.journal, first: first, last: s.head.seq, low: s.low, chain: s.head.chain}
	var err error
	if h.mac, err = h.sum(k); err != nil {
		return err
	}
	if h == t.saved {
		return nil
	}
	if err := t.disk.Replace(t.stream.headName(), h.bytes()); err != nil {
		return fmt.Errorf("writing %s: %w", t.stream.headName(), err)
	}
	t.saved = h
	return nil
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
