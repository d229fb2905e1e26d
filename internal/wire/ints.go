package wire

import (
	"errors"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Ints is a list of whole numbers. It is read from a JSON array of numbers or
// of text that holds numbers, from one number, from one text with commas
// between the items, and from null; empty items are dropped. It is answered as
// an array of numbers.
type Ints []int

var errInts = errors.New("a list of numbers is an array of whole numbers or one string with commas")

// UnmarshalJSON implements json.Unmarshaler.
func (l *Ints) UnmarshalJSON(b []byte) error {
	out := Ints{}
	add := func(s string) error {
		if s = strings.TrimSpace(s); s == "" {
			return nil
		}
		n, err := strconv.Atoi(s)
		if err != nil {
			return errInts
		}
		out = append(out, n)
		return nil
	}
	item := func(v jsontext.Value) error {
		switch v.Kind() {
		case '0':
			return add(string(v))
		case '"':
			var s string
			if err := json.Unmarshal(v, &s); err != nil {
				return errInts
			}
			for part := range strings.SplitSeq(s, ",") {
				if err := add(part); err != nil {
					return err
				}
			}
			return nil
		default:
			return errInts
		}
	}
	v := jsontext.Value(b)
	switch v.Kind() {
	case 'n':
	case '[':
		var items []jsontext.Value
		if err := json.Unmarshal(b, &items); err != nil {
			return errInts
		}
		for _, x := range items {
			if err := item(x); err != nil {
				return err
			}
		}
	default:
		if err := item(v); err != nil {
			return err
		}
	}
	*l = out
	return nil
}

// MarshalJSON writes an array, also for nil.
func (l Ints) MarshalJSON() ([]byte, error) {
	out := []byte{'['}
	for i, n := range l {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendInt(out, int64(n), 10)
	}
	return append(out, ']'), nil
}
