package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
)

// # Segments
//
// A journal is a sequence of segments, each a file that is named by the
// sequence of its first record: journal-00000000000000000001.seg, or
// sealed-… for events while sealed. Numbers are big-endian.
//
//	segment header, 128 bytes
//	   0   8  "RTNDAUD" and the format, 1
//	   8   1  stream: 1 records, 2 events while sealed
//	   9   7  zero
//	  16  16  journal id, random
//	  32   8  sequence of the first record
//	  40   8  when the segment was begun, Unix nanoseconds
//	  48  32  chain value before the first record
//	  80   8  id of the key that records are sealed under
//	  88  36  zero
//	 124   4  CRC-32C of the 124 bytes before
//
// Frames follow, one a record, with nothing between them. The segment that is
// written to has space allocated in advance, which is zero.
//
//	frame
//	   0   1  0xa7
//	   1   3  n, the length of the stored bytes
//	   4   4  CRC-32C of bytes 1 to 3 and 8 to 43+n
//	   8   4  place in its batch: how many frames were made durable together with it and stand before it
//	  12  32  chain value: SHA-256(chain value of the frame before, leaf hash of the stored bytes)
//	  44   n  stored bytes
//	44+n   1  0x7a
//
//	stored bytes
//	   0   1  format of what is sealed, 1: a record as canonical JSON
//	   1   8  sequence
//	   9      sealed by AES-256-GCM under the record's own key, bound to the journal id and the 9 bytes before
//
// The record's key is HMAC-SHA256(audit key, "rotunda audit record", journal
// id, sequence), so the key of one record can be shown and tells nothing about
// any other. The leaf hash is that of RFC 6962, SHA-256(0x00, stored bytes).
// The chain value before the first record of a journal is SHA-256("rotunda
// audit journal", stream, journal id). Chain and leaves are over the stored
// bytes, so whoever verifies needs no key.
const (
	segmentMagic  = "RTNDAUD"
	segmentFormat = 1
	headerLen     = 128

	frameHead  = 44
	frameExtra = frameHead + 1
	storedHead = 9
	frameBegin = 0xa7
	frameEnd   = 0x7a
	maxStored  = 1 << 20
	sealedJSON = 1

	sector = 512
)

// stream says what the segments of a directory hold.
type stream byte

const (
	records stream = 1
	events  stream = 2
)

func (s stream) prefix() string {
	if s == events {
		return "sealed-"
	}
	return "journal-"
}

// name returns the name of the segment whose first record has the given sequence.
func (s stream) name(first uint64) string { return fmt.Sprintf("%s%020d.seg", s.prefix(), first) }

// parseName returns the sequence of the first record of the segment called name.
func (s stream) parseName(name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, s.prefix())
	if !ok {
		return 0, false
	}
	digits, ok = strings.CutSuffix(digits, ".seg")
	if !ok || len(digits) != 20 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n > 0 && s.name(n) == name
}

// Damage says where a journal is damaged. It wraps [ErrCorrupt].
type Damage struct {
	Segment string // name of the file
	Offset  int64  // in it
	Seq     uint64 // of the record that should be there; 0 where that is not known
	What    string
}

// Error says what is damaged and where.
func (d *Damage) Error() string {
	if d.Seq == 0 {
		return fmt.Sprintf("%v: %s at offset %d: %s", ErrCorrupt, d.Segment, d.Offset, d.What)
	}
	return fmt.Sprintf("%v: %s at offset %d, record %d: %s", ErrCorrupt, d.Segment, d.Offset, d.Seq, d.What)
}

// Unwrap returns [ErrCorrupt].
func (d *Damage) Unwrap() error { return ErrCorrupt }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type header struct {
	stream  stream
	journal [16]byte
	first   uint64
	begun   time.Time
	chain   [32]byte
	key     [8]byte
}

func (h *header) encode() []byte {
	dst := append(make([]byte, 0, headerLen), segmentMagic...)
	dst = append(dst, segmentFormat, byte(h.stream), 0, 0, 0, 0, 0, 0, 0)
	dst = append(dst, h.journal[:]...)
	dst = binary.BigEndian.AppendUint64(dst, h.first)
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.begun.UnixNano()))
	dst = append(dst, h.chain[:]...)
	dst = append(dst, h.key[:]...)
	dst = append(dst, make([]byte, 36)...)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst, castagnoli))
}

var errHeader = errors.New("the segment header is damaged")

// parseHeader is the inverse of encode, for every byte of it.
func parseHeader(b []byte) (header, error) {
	var h header
	if len(b) < headerLen || string(b[:7]) != segmentMagic {
		return h, errHeader
	}
	if b[7] > segmentFormat {
		return h, ErrNewer
	}
	h.stream = stream(b[8])
	h.first = binary.BigEndian.Uint64(b[32:])
	h.begun = time.Unix(0, int64(binary.BigEndian.Uint64(b[40:]))).UTC() //nolint:gosec // as it was written
	copy(h.journal[:], b[16:])
	copy(h.chain[:], b[48:])
	copy(h.key[:], b[80:])
	if (h.stream != records && h.stream != events) || !bytes.Equal(h.encode(), b[:headerLen]) {
		return h, errHeader
	}
	return h, nil
}

// firstChain is the chain value before the first record of a journal.
func firstChain(s stream, journal [16]byte) [32]byte {
	b := append([]byte("rotunda audit journal"), byte(s))
	return sha256.Sum256(append(b, journal[:]...))
}

// nextChain is the chain value after a record.
func nextChain(chain, leaf [32]byte) [32]byte {
	var b [64]byte
	copy(b[:], chain[:])
	copy(b[32:], leaf[:])
	return sha256.Sum256(b[:])
}

// LeafHash returns the hash of a record's stored bytes as a leaf of a Merkle
// tree: https://www.rfc-editor.org/rfc/rfc6962#section-2.1
func LeafHash(stored []byte) [32]byte {
	var small [2048]byte
	b := append(small[:0], 0)
	return sha256.Sum256(append(b, stored...))
}

// frame is one record as it lies in a segment.
type frame struct {
	place  uint32 // in its batch
	chain  [32]byte
	stored []byte // points into what was parsed
}

func (f *frame) seq() uint64 { return binary.BigEndian.Uint64(f.stored[1:]) }
func (f *frame) size() int   { return frameExtra + len(f.stored) }

// finish completes the frame in b, whose stored bytes are in place.
func finishFrame(b []byte, place uint32, chain [32]byte) {
	n := len(b) - frameExtra
	binary.BigEndian.PutUint32(b, uint32(n)) //nolint:gosec // at most maxStored
	b[0] = frameBegin
	binary.BigEndian.PutUint32(b[8:], place)
	copy(b[12:], chain[:])
	b[len(b)-1] = frameEnd
	binary.BigEndian.PutUint32(b[4:], frameSum(b))
}

func frameSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[1:4], castagnoli), castagnoli, b[8:len(b)-1])
}

var (
	errNoFrame    = errors.New("no frame begins here")
	errShortFrame = errors.New("the frame is incomplete")
	errSum        = errors.New("the checksum is wrong")
)

// frameLen returns the length of the frame that b begins with.
func frameLen(b []byte) (int, error) {
	if len(b) < frameExtra {
		return 0, errShortFrame
	}
	if b[0] != frameBegin {
		return 0, errNoFrame
	}
	n := int(binary.BigEndian.Uint32(b) & 0xffffff)
	if n < storedHead || n > maxStored {
		return 0, errNoFrame
	}
	return frameExtra + n, nil
}

// parseFrame returns the frame that b begins with.
func parseFrame(b []byte) (frame, error) {
	size, err := frameLen(b)
	if err != nil {
		return frame{}, err
	}
	if len(b) < size {
		return frame{}, errShortFrame
	}
	b = b[:size]
	if b[size-1] != frameEnd || binary.BigEndian.Uint32(b[4:]) != frameSum(b) {
		return frame{}, errSum
	}
	f := frame{place: binary.BigEndian.Uint32(b[8:]), stored: b[frameHead : size-1]}
	copy(f.chain[:], b[12:])
	return f, nil
}

// torn reports whether what lies at offset at of a segment, whose bytes from
// there are rest, can be a batch that was being written when the machine
// stopped: a sector of its first frame never reached the disk. A frame that
// was whole once is never taken for one: its first and last bytes are not
// zero, and what is between is encrypted, so every sector of it shows.
func torn(rest []byte, at int64) bool {
	size, err := frameLen(rest)
	if err != nil {
		size = frameExtra
	}
	if size > len(rest) {
		return true // the file ends in it
	}
	for i := 0; i < size; {
		end := min(size, i+sector-int((at+int64(i))%sector))
		if zero(rest[i:end]) {
			return true
		}
		i = end
	}
	return false
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// laterBatch reports whether a whole frame lies in rest that can only have
// been written after everything before it was durable: last is the sequence of
// the record before rest, and began that of the first of its batch.
func laterBatch(rest []byte, last, began uint64) bool {
	for i := bytes.IndexByte(rest, frameBegin); i >= 0 && i < len(rest); {
		if f, err := parseFrame(rest[i:]); err == nil && f.seq() > last {
			if start := f.seq() - uint64(f.place); start != began && start != last+1 {
				return true
			}
		}
		next := bytes.IndexByte(rest[i+1:], frameBegin)
		if next < 0 {
			return false
		}
		i += 1 + next
	}
	return false
}
