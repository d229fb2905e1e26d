// Package wire holds the types of request and response fields that clients
// spell in more than one way, each with the one form in which it is answered.
//
// The plain types bool, int and string are coerced by a door's decoder itself.
package wire

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Duration is a length of time. It is read from a number of seconds, from text
// that holds one, and from text such as "1h30m" or "7d"; it is answered as a
// whole number of seconds. What is negative, or longer than [MaxDuration], is
// refused.
type Duration time.Duration

// MaxDuration bounds a Duration: 100 years of 365 days.
const MaxDuration = Duration(100 * 365 * 24 * time.Hour)

var errDuration = errors.New(`a duration is a number of seconds or text such as "90s", "1h30m" or "7d", from 0 to 100 years`)

// ParseDuration reads s as [Duration] says. The empty string is 0.
func ParseDuration(s string) (Duration, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0, nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if math.IsNaN(f) || f < 0 || f > time.Duration(MaxDuration).Seconds() || strings.ContainsAny(s, "xXpP_") {
			return 0, errDuration
		}
		return Duration(f * float64(time.Second)), nil
	}
	var days time.Duration
	if head, rest, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(head, 10, 32)
		if err != nil || n > 36500 {
			return 0, errDuration
		}
		days, s = time.Duration(n)*24*time.Hour, rest
		if s == "" {
			return Duration(days), nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > time.Duration(MaxDuration)-days {
		return 0, errDuration
	}
	return Duration(days + d), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(b []byte) error {
	v := jsontext.Value(b)
	switch v.Kind() {
	case 'n':
		*d = 0
		return nil
	case '0', '"':
		s := string(b)
		if v.Kind() == '"' {
			if err := json.Unmarshal(b, &s); err != nil {
				return errDuration
			}
		}
		got, err := ParseDuration(s)
		*d = got
		return err
	default:
		return errDuration
	}
}

// MarshalJSON writes whole seconds.
func (d Duration) MarshalJSON() ([]byte, error) {
	return strconv.AppendInt(nil, int64(time.Duration(d)/time.Second), 10), nil
}

// Text is d as operators write it: "0s", "1h30m0s".
func (d Duration) Text() string { return time.Duration(d).String() }

// Strings is a list of strings. It is read from a JSON array of strings or
// numbers, from one string with commas between the items, and from null;
// items are trimmed and empty ones dropped. It is answered as an array.
type Strings []string

var errStrings = errors.New("a list is an array of strings or one string with commas")

// UnmarshalJSON implements json.Unmarshaler.
func (l *Strings) UnmarshalJSON(b []byte) error {
	v := jsontext.Value(b)
	var out Strings
	add := func(s string) {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	switch v.Kind() {
	case 'n':
	case '"':
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return errStrings
		}
		for item := range strings.SplitSeq(s, ",") {
			add(item)
		}
	case '0':
		add(string(b))
	case '[':
		var items []jsontext.Value
		if err := json.Unmarshal(b, &items); err != nil {
			return errStrings
		}
		for _, item := range items {
			switch item.Kind() {
			case '"':
				var s string
				if err := json.Unmarshal(item, &s); err != nil {
					return errStrings
				}
				add(s)
			case '0':
				add(string(item))
			default:
				return errStrings
			}
		}
	default:
		return errStrings
	}
	if out == nil {
		out = Strings{}
	}
	*l = out
	return nil
}

// MarshalJSON writes an array, also for nil.
func (l Strings) MarshalJSON() ([]byte, error) {
	if l == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]string(l))
}

// Map is text under text keys. It is read from a JSON object whose values are
// strings, numbers or booleans, from a string that holds such an object, from
// "k=v", and from an array of "k=v". It is answered as an object in the order
// of its keys; nil is null.
type Map map[string]string

var errMap = errors.New(`a map is an object of strings, or "key=value" text`)

// UnmarshalJSON implements json.Unmarshaler.
func (m *Map) UnmarshalJSON(b []byte) error {
	v := jsontext.Value(b)
	out := Map{}
	pair := func(s string) bool {
		k, val, ok := strings.Cut(s, "=")
		if k = strings.TrimSpace(k); !ok || k == "" {
			return false
		}
		out[k] = strings.TrimSpace(val)
		return true
	}
	switch v.Kind() {
	case 'n':
		*m = nil
		return nil
	case '{':
		var items map[string]jsontext.Value
		if err := json.Unmarshal(b, &items); err != nil {
			return errMap
		}
		for k, item := range items {
			switch item.Kind() {
			case '"':
				var s string
				if err := json.Unmarshal(item, &s); err != nil {
					return errMap
				}
				out[k] = s
			case '0', 't', 'f':
				out[k] = string(item)
			default:
				return errMap
			}
		}
	case '"':
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return errMap
		}
		if s = strings.TrimSpace(s); strings.HasPrefix(s, "{") {
			inner := jsontext.Value(s)
			if !inner.IsValid() {
				return errMap
			}
			return m.UnmarshalJSON(inner)
		}
		for item := range strings.SplitSeq(s, ",") {
			if strings.TrimSpace(item) != "" && !pair(item) {
				return errMap
			}
		}
	case '[':
		var items Strings
		if err := items.UnmarshalJSON(b); err != nil {
			return errMap
		}
		for _, item := range items {
			if !pair(item) {
				return errMap
			}
		}
	default:
		return errMap
	}
	*m = out
	return nil
}

// MarshalJSON writes an object in the order of its keys.
func (m Map) MarshalJSON() ([]byte, error) {
	if m == nil {
		return []byte("null"), nil
	}
	return json.Marshal(map[string]string(m), json.Deterministic(true))
}

// Keys returns the keys of m in order.
func (m Map) Keys() []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Time is an instant, answered in RFC 3339 with nanoseconds in UTC; the zero
// Time is the empty string.
type Time time.Time

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte(`""`), nil
	}
	return append(time.Time(t).UTC().AppendFormat([]byte{'"'}, time.RFC3339Nano), '"'), nil
}
