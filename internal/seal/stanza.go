package seal

import (
	"encoding/binary"
	"fmt"
)

// The bounds of a stanza. They are far beyond any that a Sealer here makes.
const (
	maxKind = 64
	maxArgs = 64
	maxArg  = 4096
	maxBody = 64 << 10
)

// Append appends the stanza's bytes to b:
//
//	kind length 1 | kind | count 1 | { length 2 | arg } | body length 4 | body
func (s Stanza) Append(b []byte) ([]byte, error) {
	if s.Kind == "" || len(s.Kind) > maxKind || len(s.Args) > maxArgs || len(s.Body) > maxBody {
		return nil, fmt.Errorf("seal: stanza of kind %q is beyond the bounds", s.Kind)
	}
	b = append(append(b, byte(len(s.Kind))), s.Kind...) //nolint:gosec // G115: at most maxKind
	b = append(b, byte(len(s.Args)))                    //nolint:gosec // G115: at most maxArgs
	for _, a := range s.Args {
		if len(a) > maxArg {
			return nil, fmt.Errorf("seal: stanza of kind %q is beyond the bounds", s.Kind)
		}
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(a))), a...) //nolint:gosec // G115: at most maxArg
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s.Body))), s.Body...), nil //nolint:gosec // G115: at most maxBody
}

// ParseStanza reads what [Stanza.Append] wrote, and returns what is behind it.
// An error wraps [ErrDamaged].
func ParseStanza(b []byte) (s Stanza, rest []byte, err error) {
	ok := true
	next := func(n int) []byte {
		if !ok || n > len(b) {
			ok = false
			return make([]byte, min(n, 4))
		}
		out := b[:n]
		b = b[n:]
		return out
	}
	bounded := func(n, most int) int {
		if n > most {
			ok = false
			return 0
		}
		return n
	}
	s.Kind = string(next(bounded(int(next(1)[0]), maxKind)))
	for range bounded(int(next(1)[0]), maxArgs) {
		s.Args = append(s.Args, string(next(bounded(int(binary.BigEndian.Uint16(next(2))), maxArg))))
	}
	n := binary.BigEndian.Uint32(next(4))
	if n > maxBody {
		ok = false
		n = 0
	}
	s.Body = append([]byte{}, next(int(n))...)
	if !ok || s.Kind == "" {
		return Stanza{}, nil, fmt.Errorf("parsing a stanza: %w", ErrDamaged)
	}
	return s, b, nil
}
