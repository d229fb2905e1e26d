// Package secret holds values that must never be shown by accident.
//
// Printing, logging or marshalling a [Text], a [JSON] or a [Bytes] is always
// safe: the first two say "[secret]", the last fails. The one way to the value
// is Reveal (Use for Bytes), so every place where plaintext leaves the program
// can be found by its name.
package secret

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const shown = "[secret]"

// ErrMarshalled is returned when a secret reaches an encoder that was not
// told to reveal it. It fails, rather than writing "[secret]", so that a
// struct saved by mistake is an error and not lost data.
var ErrMarshalled = errors.New("secret: refusing to marshal a secret")

// Text is a secret string. Its zero value is the empty secret.
type Text struct {
	_ [0]func() // no ==; use Equal, which takes constant time
	p *string   // a pointer, because fmt ignores methods on unexported fields and would print what it finds there
}

// New returns s as a secret.
func New(s string) Text { return Text{p: &s} }

// Reveal returns the plaintext.
func (t Text) Reveal() string {
	if t.p == nil {
		return ""
	}
	return *t.p
}

// Equal reports whether t and u hold the same plaintext.
func (t Text) Equal(u Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.Reveal()), []byte(u.Reveal())) == 1
}

// Format implements [fmt.Formatter] for every verb.
func (Text) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, shown) }

// LogValue implements [slog.LogValuer].
func (Text) LogValue() slog.Value { return slog.StringValue(shown) }

// MarshalJSON always fails; see [ErrMarshalled].
func (Text) MarshalJSON() ([]byte, error) { return nil, ErrMarshalled }

// MarshalText always fails; see [ErrMarshalled].
func (Text) MarshalText() ([]byte, error) { return nil, ErrMarshalled }

// UnmarshalText sets t to a copy of b.
func (t *Text) UnmarshalText(b []byte) error {
	*t = New(string(b))
	return nil
}

// Empty reports whether t holds nothing or the empty string.
func (t Text) Empty() bool { return t.p == nil || *t.p == "" }

// Len returns the length of the plaintext in bytes.
func (t Text) Len() int { return len(t.Reveal()) }

// JSON is one secret JSON value, kept byte for byte as it was given: numbers
// keep their digits, objects their order. Its zero value is no value at all.
type JSON struct {
	_ [0]func()
	p *[]byte
}

// NewJSON takes b over, which must hold one valid JSON value; the caller must
// not change it afterwards.
func NewJSON(b []byte) JSON { return JSON{p: &b} }

// Reveal returns the value, which the caller must not change; nil if j holds none.
func (j JSON) Reveal() []byte {
	if j.p == nil {
		return nil
	}
	return *j.p
}

// Empty reports whether j holds no value.
func (j JSON) Empty() bool { return j.p == nil || len(*j.p) == 0 }

// Format implements [fmt.Formatter] for every verb.
func (JSON) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, shown) }

// LogValue implements [slog.LogValuer].
func (JSON) LogValue() slog.Value { return slog.StringValue(shown) }

// MarshalJSON always fails; see [ErrMarshalled].
func (JSON) MarshalJSON() ([]byte, error) { return nil, ErrMarshalled }

// UnmarshalJSON sets j to a copy of b.
func (j *JSON) UnmarshalJSON(b []byte) error {
	*j = NewJSON(append([]byte(nil), b...))
	return nil
}

// Bytes is a secret that is not text: a key. Unlike a Text it can be wiped.
type Bytes struct {
	_ [0]func()
	p *[]byte
}

// NewBytes takes b over; the caller must not keep it.
func NewBytes(b []byte) Bytes { return Bytes{p: &b} }

// Use calls fn with the plaintext, which fn must not keep.
func (b Bytes) Use(fn func(plain []byte) error) error {
	if b.p == nil {
		return fn(nil)
	}
	return fn(*b.p)
}

// Wipe overwrites the plaintext. Every copy of b is empty afterwards.
func (b Bytes) Wipe() {
	if b.p != nil {
		clear(*b.p)
		*b.p = nil
	}
}

// Format implements [fmt.Formatter] for every verb.
func (Bytes) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, shown) }

// LogValue implements [slog.LogValuer].
func (Bytes) LogValue() slog.Value { return slog.StringValue(shown) }

// MarshalJSON always fails; see [ErrMarshalled].
func (Bytes) MarshalJSON() ([]byte, error) { return nil, ErrMarshalled }

// MarshalText always fails; see [ErrMarshalled].
func (Bytes) MarshalText() ([]byte, error) { return nil, ErrMarshalled }

// Len returns the length of the plaintext; 0 once wiped.
func (b Bytes) Len() int {
	if b.p == nil {
		return 0
	}
	return len(*b.p)
}

// Clone returns a copy that is wiped on its own.
func (b Bytes) Clone() Bytes {
	if b.p == nil {
		return Bytes{}
	}
	return NewBytes(append([]byte(nil), *b.p...))
}
