package safe

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"rotunda.dev/rotunda/internal/storage"
)

// The head of a secret, before it is encrypted:
//
//	head    = format | field*         format is 1 byte: 1
//	field   = tag | length | bytes    tag is 1 byte, length a uvarint; in the order of the tags
//
//	tag  1  id                16 bytes
//	     2  created           time
//	     3  updated           time
//	     4  last number       uvarint
//	     5  oldest number     uvarint
//	     6  next sequence     uvarint
//	     7  flags             1 byte: 1 = CAS required, 2 = gone
//	     8  max versions      uvarint
//	     9  delete after      uvarint of nanoseconds
//	    10  recover until     time
//	    11  plan              bytes
//	    12  custom metadata   uvarint length of the key | key | value; one field each, in order of keys
//	    13  tag               the same
//	    14  label             sequence (8 bytes) | name; one field each, in order of names
//	    15  version           one field each, in order of sequence:
//	                          sequence (8) | id (16) | number (8) | kind (1) | flags (1: 1 = disabled, 2 = destroyed)
//	                          | created | deleted at | not before | expires (8 each) | wrapped key (the rest)
//	    16  garbage           sequence (8 bytes); one field each
//
// A time is 8 bytes: nanoseconds since 1970, 0 for none. Integers are
// big-endian. A field that holds its zero value is left out, so there is one
// encoding of a head. What is unknown was written by a newer version.
const headFormat = 1

const (
	tagID = iota + 1
	tagCreated
	tagUpdated
	tagLast
	tagOldest
	tagNext
	tagFlags
	tagMaxVersions
	tagDeleteAfter
	tagRecoverUntil
	tagPlan
	tagCustom
	tagTag
	tagLabel
	tagVersion
	tagGarbage
)

const (
	flagCAS  = 1
	flagGone = 2

	flagDisabled  = 1
	flagDestroyed = 2

	versionSize = 8 + 16 + 8 + 1 + 1 + 4*8
)

type encoder []byte

func (e *encoder) field(tag byte, b []byte) {
	*e = append(*e, tag)
	*e = binary.AppendUvarint(*e, uint64(len(b)))
	*e = append(*e, b...)
}

func (e *encoder) number(tag byte, n uint64) {
	if n != 0 {
		var b [binary.MaxVarintLen64]byte
		e.field(tag, b[:binary.PutUvarint(b[:], n)])
	}
}

func (e *encoder) fixed(tag byte, n uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	e.field(tag, b[:])
}

func (e *encoder) time(tag byte, t time.Time) {
	if n := nanos(t); n != 0 {
		e.fixed(tag, n)
	}
}

func (e *encoder) pairs(tag byte, m map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b := binary.AppendUvarint(nil, uint64(len(k)))
		b = append(append(b, k...), m[k]...)
		e.field(tag, b)
	}
}

func nanos(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

func instant(n uint64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(n)).UTC() //nolint:gosec // as nanos wrote it
}

func encodeHead(x *Secret) []byte {
	e := make(encoder, 0, 128+len(x.Versions)*192)
	e = append(e, headFormat)
	e.field(tagID, x.ID[:])
	e.time(tagCreated, x.Created)
	e.time(tagUpdated, x.Updated)
	e.number(tagLast, x.Last)
	e.number(tagOldest, x.Oldest)
	e.number(tagNext, x.next)
	var flags byte
	if x.Settings.CASRequired {
		flags |= flagCAS
	}
	if x.gone {
		flags |= flagGone
	}
	if flags != 0 {
		e.field(tagFlags, []byte{flags})
	}
	e.number(tagMaxVersions, uint64(max(0, x.Settings.MaxVersions)))
	e.number(tagDeleteAfter, uint64(max(0, x.Settings.DeleteAfter)))
	e.time(tagRecoverUntil, x.RecoverUntil)
	if len(x.Plan) > 0 {
		e.field(tagPlan, x.Plan)
	}
	e.pairs(tagCustom, x.Custom)
	e.pairs(tagTag, x.Tags)
	for _, m := range x.labels {
		b := binary.BigEndian.AppendUint64(nil, m.seq)
		e.field(tagLabel, append(b, m.label...))
	}
	var b []byte
	for i := range x.Versions {
		b = encodeVersion(b[:0], &x.Versions[i])
		e.field(tagVersion, b)
	}
	for _, seq := range x.garbage {
		e.fixed(tagGarbage, seq)
	}
	return e
}

func encodeVersion(b []byte, v *Version) []byte {
	b = binary.BigEndian.AppendUint64(b, v.seq)
	b = append(b, v.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, v.Number)
	var flags byte
	if v.Disabled {
		flags |= flagDisabled
	}
	if v.Destroyed {
		flags |= flagDestroyed
	}
	b = append(b, byte(v.Kind), flags)
	for _, t := range [...]time.Time{v.Created, v.DeletedAt, v.NotBefore, v.Expires} {
		b = binary.BigEndian.AppendUint64(b, nanos(t))
	}
	return append(b, v.wrapped...)
}

func corrupt(what string) error {
	return fmt.Errorf("reading the head of a secret: %s: %w", what, storage.ErrCorrupt)
}

// decodeHead takes b over.
func decodeHead(b []byte) (*Secret, error) {
	if len(b) == 0 {
		return nil, corrupt("empty")
	}
	if b[0] != headFormat {
		return nil, fmt.Errorf("reading the head of a secret: format %d: %w", b[0], storage.ErrNewer)
	}
	x := &Secret{}
	var last byte
	var key string // of the pair before
	for b = b[1:]; len(b) > 0; {
		tag := b[0]
		n, w := binary.Uvarint(b[1:])
		if w <= 0 || w != uvarintLen(n) || n > uint64(len(b)-1-w) { //nolint:gosec // w is at most what is left
			return nil, corrupt("cut short")
		}
		if tag < last || tag == last && tag < tagCustom {
			return nil, corrupt("fields out of order")
		}
		last = tag
		body := b[1+w : 1+w+int(n)] //nolint:gosec // at most len(b)
		b = b[1+w+int(n):]          //nolint:gosec // at most len(b)
		if x.Versions == nil && tag == tagVersion {
			x.Versions = make([]Version, 0, 1+len(b)/versionSize)
		}
		if err := x.decodeField(tag, body, &key); err != nil {
			return nil, err
		}
	}
	if x.ID == [16]byte{} || x.next == 0 {
		return nil, corrupt("no id")
	}
	return x, nil
}

func (x *Secret) decodeField(tag byte, b []byte, key *string) error {
	switch tag {
	case tagID:
		if len(b) != len(x.ID) || x.ID != [16]byte{} {
			return corrupt("id")
		}
		copy(x.ID[:], b)
		return nil
	case tagCreated:
		return decodeTime(b, &x.Created)
	case tagUpdated:
		return decodeTime(b, &x.Updated)
	case tagLast:
		return decodeNumber(b, &x.Last)
	case tagOldest:
		return decodeNumber(b, &x.Oldest)
	case tagNext:
		return decodeNumber(b, &x.next)
	case tagFlags:
		if len(b) != 1 || b[0] == 0 || b[0]&^(flagCAS|flagGone) != 0 {
			return corrupt("flags")
		}
		x.Settings.CASRequired, x.gone = b[0]&flagCAS != 0, b[0]&flagGone != 0
		return nil
	case tagMaxVersions:
		var n uint64
		err := decodeNumber(b, &n)
		x.Settings.MaxVersions = int(n & (1<<31 - 1))
		if err == nil && n >= 1<<31 {
			err = corrupt("number")
		}
		return err
	case tagDeleteAfter:
		var n uint64
		err := decodeNumber(b, &n)
		x.Settings.DeleteAfter = time.Duration(n)
		if err == nil && x.Settings.DeleteAfter < 0 {
			err = corrupt("number")
		}
		return err
	case tagRecoverUntil:
		return decodeTime(b, &x.RecoverUntil)
	case tagPlan:
		if len(b) == 0 {
			return corrupt("plan")
		}
		x.Plan = b
		return nil
	case tagCustom:
		return decodePair(b, &x.Custom, key)
	case tagTag:
		return decodePair(b, &x.Tags, key)
	case tagLabel:
		if len(b) <= 8 {
			return corrupt("label")
		}
		m := mark{Label(b[8:]), binary.BigEndian.Uint64(b)}
		if n := len(x.labels); n > 0 && x.labels[n-1].label >= m.label {
			return corrupt("labels out of order")
		}
		x.labels = append(x.labels, m)
		return nil
	case tagVersion:
		return x.decodeVersion(b)
	case tagGarbage:
		if len(b) != 8 {
			return corrupt("garbage")
		}
		x.garbage = append(x.garbage, binary.BigEndian.Uint64(b))
		return nil
	}
	return fmt.Errorf("reading the head of a secret: field %d: %w", tag, storage.ErrNewer)
}

func (x *Secret) decodeVersion(b []byte) error {
	if len(b) < versionSize {
		return corrupt("version")
	}
	v := Version{seq: binary.BigEndian.Uint64(b), Number: binary.BigEndian.Uint64(b[24:]), Kind: Kind(b[32])}
	copy(v.ID[:], b[8:24])
	if b[33]&^(flagDisabled|flagDestroyed) != 0 {
		return corrupt("version")
	}
	v.Disabled, v.Destroyed = b[33]&flagDisabled != 0, b[33]&flagDestroyed != 0
	for i, t := range [...]*time.Time{&v.Created, &v.DeletedAt, &v.NotBefore, &v.Expires} {
		*t = instant(binary.BigEndian.Uint64(b[34+8*i:]))
	}
	v.wrapped = b[versionSize:]
	if n := len(x.Versions); n > 0 && cmp.Compare(x.Versions[n-1].seq, v.seq) >= 0 {
		return corrupt("versions out of order")
	}
	x.Versions = append(x.Versions, v)
	return nil
}

func decodeTime(b []byte, t *time.Time) error {
	if len(b) != 8 {
		return corrupt("time")
	}
	n := binary.BigEndian.Uint64(b)
	if n == 0 {
		return corrupt("time")
	}
	*t = instant(n)
	return nil
}

func decodeNumber(b []byte, n *uint64) error {
	v, w := binary.Uvarint(b)
	if w <= 0 || w != len(b) || v == 0 || w != uvarintLen(v) {
		return corrupt("number")
	}
	*n = v
	return nil
}

// decodePair puts a pair into m; before is the key of the last one.
func decodePair(b []byte, m *map[string]string, before *string) error {
	n, w := binary.Uvarint(b)
	if w <= 0 || w != uvarintLen(n) || n > uint64(len(b)-w) { //nolint:gosec // w is at most what is left
		return corrupt("pair")
	}
	k := string(b[w : w+int(n)]) //nolint:gosec // at most len(b)
	if *m == nil {
		*m = map[string]string{}
	}
	if len(*m) > 0 && *before >= k {
		return corrupt("pairs out of order")
	}
	*before = k
	(*m)[k] = string(b[w+int(n):]) //nolint:gosec // at most len(b)
	return nil
}

func uvarintLen(n uint64) int {
	w := 1
	for ; n >= 0x80; n >>= 7 {
		w++
	}
	return w
}
