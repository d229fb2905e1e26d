package audit

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Kind says what a record tells.
type Kind string

// The kinds of records.
const (
	Request Kind = "request" // an operation and how it ended
	Intent  Kind = "intent"  // an operation that is about to have effects; an Outcome with the same RequestID follows
	Outcome Kind = "outcome" // how an operation ended that an Intent announced
	Event   Kind = "event"   // something that the server did by itself: Record.Event says what
)

// OutcomeOK is the Outcome of what was done; any other is the name of a
// [fault.Kind], or [OutcomeUnknown].
const OutcomeOK = "ok"

// OutcomeUnknown is the Outcome of an operation whose intent is in the journal
// and whose end the server did not live to see.
const OutcomeUnknown = "unknown"

// Actor is who asked.
type Actor struct {
	TokenHash   string // keyed hash of the token as presented
	Accessor    string
	DisplayName string
	EntityID    string
	TokenKind   string // "service" or "batch"
	Policies    []string
}

// Header is a request header that the configuration lets the journal see.
type Header struct{ Name, Value string }

// Record is one entry of the journal. What a caller sent or got is in it only
// as keyed hashes; see [Hasher].
type Record struct {
	Seq       uint64 // its place in the journal, from 1; set by the journal
	ID        string // 32 hex digits, unique; set by the journal
	Kind      Kind
	Time      time.Time
	Node      string
	RequestID string
	Op        string // "kv.get"
	Verb      string
	Path      string // what the policy was asked about

	MountPath, MountKind, MountAccessor, MountID string

	Actor   Actor
	Remote  string // "192.0.2.1:4711"
	Headers []Header
	Allowed bool
	Rule    string // of the policy that decided
	Outcome string // "ok", or the name of a fault.Kind
	Status  int
	Error   string         // as the caller was told
	In, Out jsontext.Value // canonical JSON, as [Hasher.Redact] returns it

	WrapTTL  time.Duration
	Wrapped  bool
	Warnings int

	Event string // of an Event: "unsealed"
	Note  string // of an Event: one sentence for people

	// Critical lets the record use the reserve when the disk is full: sealing,
	// revoking and repairing must go on. It is not kept.
	Critical bool
}
