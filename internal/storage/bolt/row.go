package bolt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"rotunda.dev/rotunda/internal/storage"
)

// A row of the bucket "rows":
//
//	key   = be16(len(scope)) | scope | row
//	value = value | be32(crc32c(key | value))
//
// The length keeps a scope's rows together and in order, and a scan of one
// scope out of another that begins alike. The sum tells a damaged row from a
// whole one without a key of the barrier; it proves nothing against a forger.

const sumSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encodeKey returns the bucket's key for k.
func encodeKey(k storage.Key) []byte {
	return appendKey(make([]byte, 0, 2+len(k.Scope)+len(k.Row)), k)
}

func appendKey(b []byte, k storage.Key) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(k.Scope))) //nolint:gosec // at most storage.MaxKey
	b = append(b, k.Scope...)
	return append(b, k.Row...)
}

// decodeKey is the inverse of encodeKey.
func decodeKey(b []byte) (storage.Key, error) {
	if len(b) < 2 {
		return storage.Key{}, fmt.Errorf("%w: key of %d bytes", storage.ErrCorrupt, len(b))
	}
	n, rest := int(binary.BigEndian.Uint16(b)), b[2:]
	if n > len(rest) || len(rest) > storage.MaxKey {
		return storage.Key{}, fmt.Errorf("%w: key of %d bytes with a scope of %d", storage.ErrCorrupt, len(b), n)
	}
	return storage.Key{Scope: string(rest[:n]), Row: string(rest[n:])}, nil
}

// encodeValue returns the bucket's value for value at the encoded key.
func encodeValue(key, value []byte) []byte {
	b := make([]byte, 0, len(value)+sumSize)
	b = append(b, value...)
	return binary.BigEndian.AppendUint32(b, sum(key, value))
}

// decodeValue returns a copy of the value that encodeValue was given.
func decodeValue(key, b []byte) ([]byte, error) {
	n := len(b) - sumSize
	if n < 0 || n > storage.MaxBytes {
		return nil, fmt.Errorf("%w: row of %d bytes", storage.ErrCorrupt, len(b))
	}
	// Copied before it is summed: what is checked is what is returned.
	c := append(make([]byte, 0, len(b)), b...)
	if sum(key, c[:n]) != binary.BigEndian.Uint32(c[n:]) {
		return nil, fmt.Errorf("%w: row whose checksum is wrong", storage.ErrCorrupt)
	}
	return c[:n:n], nil
}

func sum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}
