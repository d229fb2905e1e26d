// Package fault says what kind of thing went wrong, once for every door.
package fault

import (
	"errors"
	"fmt"
)

// Kind is the class of a failure: what the caller should do about it. The zero
// value is Internal, so that an unknown failure is silent.
type Kind uint8

// The kinds of failure.
const (
	Internal        Kind = iota // a bug or a broken dependency; the cause is logged and never sent
	Invalid                     // the request is malformed, or can never be right
	Unauthenticated             // no valid credential
	Denied                      // a valid credential, not allowed
	NotFound                    // no such thing, or the caller may not know
	NoRoute                     // nothing is mounted there, or it has no such path
	Unsupported                 // the path exists and cannot do this (405)
	Exists                      // it is already there
	Conflict                    // it changed since the caller looked (check-and-set)
	Deleted                     // it was there and can be recovered, or is known to be destroyed; the answer still carries data
	TooLarge                    // more bytes than the operation takes
	MediaType                   // the content type is not one that the operation takes
	Sealed                      // nothing can be answered until unsealed
	Uninitialized               // nothing can be answered until initialized
	Limited                     // too many requests
	Unavailable                 // try again later, elsewhere or both
	numKinds
)

var names = [numKinds]string{
	"internal", "invalid", "unauthenticated", "denied", "not-found", "no-route", "unsupported", "exists",
	"conflict", "deleted", "too-large", "media-type", "sealed", "uninitialized", "limited", "unavailable",
}

// String returns the kind's stable name, as audit records and metrics show it.
func (k Kind) String() string {
	if k < numKinds {
		return names[k]
	}
	return "internal"
}

// Kinds returns every kind, for tables and the tests of tables.
func Kinds() []Kind {
	ks := make([]Kind, numKinds)
	for i := range ks {
		ks[i] = Kind(i)
	}
	return ks
}

// Error is a failure with a kind and a message that is safe to send.
type Error struct {
	Kind   Kind
	Public string // for the caller; never holds a secret, a path the caller did not send or an internal detail; may be empty
	Err    error  // for the log; may be nil
}

// Error returns the public message followed by the cause.
func (e *Error) Error() string {
	public := e.Public
	if public == "" {
		public = e.Kind.String()
	}
	if e.Err == nil {
		return public
	}
	return public + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns a fault of kind k.
func New(k Kind, format string, args ...any) error {
	return &Error{Kind: k, Public: fmt.Sprintf(format, args...)}
}

// Wrap returns a fault of kind k caused by err, or nil if err is nil.
func Wrap(k Kind, err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: k, Public: fmt.Sprintf(format, args...), Err: err}
}

// KindOf returns the kind of the outermost fault in err's tree. An error with
// no fault in it is Internal.
func KindOf(err error) Kind {
	if f, ok := errors.AsType[*Error](err); ok {
		return f.Kind
	}
	return Internal
}

// Is reports whether err's outermost fault is of kind k. It is false for nil.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }

// Public returns the message of err that may be sent to the caller: that of
// its outermost fault, and "internal error" where there is none or where it is
// Internal.
func Public(err error) string {
	if f, ok := errors.AsType[*Error](err); ok && f.Kind != Internal {
		return f.Public
	}
	return "internal error"
}
