package door

import (
	"cmp"
	"log/slog"
	"time"

	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/token"
)

// Env is all that a door may touch.
type Env struct {
	Handler Handler
	Clock   clock.Clock
	Log     *slog.Logger
	Guard   *Guard // nil lets everything in

	Limits Limits

	// BodyLimit bounds the body of a request that carries a token, OpenLimit
	// that of any other, in bytes; 0 stands for 1 MiB and 64 KiB. An operation
	// may take more or less.
	BodyLimit, OpenLimit int64

	// Timeout bounds a request, LongTimeout one of an operation that takes
	// long; 0 stands for 30 s and 90 s.
	Timeout, LongTimeout time.Duration

	// AuditHeaders are the names of the request headers that the audit log may
	// see, in lower case.
	AuditHeaders []string

	// Observe is told of every answer, for metrics; nil for nobody. The
	// operation is "none" where there is none of that name.
	Observe func(opName string, status int, took time.Duration)
}

// Limits bounds what of a request is looked at. A zero field stands for the default.
type Limits struct {
	URLBytes        int // of a request's target; 4 KiB
	Segments        int // of a path; 32, which is the most
	SegmentBytes    int // of a segment of a path; 255, which is the most
	TokenBytes      int // in a header; 1 KiB
	BatchTokenBytes int // of a batch token, in a header; 8 KiB
	JSONDepth       int // of a body; 32
	JSONTokens      int // of a body: names, values and brackets; 10 000
	JSONKeyBytes    int // of a name in a body; 256
	ListItems       int // of a list that an operation takes; 128
}

// WithDefaults returns l with its zero fields filled in.
func (l Limits) WithDefaults() Limits {
	l.URLBytes = cmp.Or(l.URLBytes, 4<<10)
	l.Segments = cmp.Or(l.Segments, name.MaxSegments)
	l.SegmentBytes = cmp.Or(l.SegmentBytes, name.MaxSegment)
	l.TokenBytes = cmp.Or(l.TokenBytes, 1<<10)
	l.BatchTokenBytes = cmp.Or(l.BatchTokenBytes, token.MaxText)
	l.JSONDepth = cmp.Or(l.JSONDepth, 32)
	l.JSONTokens = cmp.Or(l.JSONTokens, 10_000)
	l.JSONKeyBytes = cmp.Or(l.JSONKeyBytes, 256)
	l.ListItems = cmp.Or(l.ListItems, 128)
	return l
}
