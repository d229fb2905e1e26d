package door

import (
	"log/slog"
	"time"

	"rotunda.dev/rotunda/internal/clock"
)

// Env is all that a door may touch.
type Env struct {
	Handler Handler
	Clock   clock.Clock
	Log     *slog.Logger
	Guard   *Guard // nil lets everything in

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
