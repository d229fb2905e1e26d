// Package door says what a front door is: a wire dialect of the one broker.
//
// A door takes a request apart, within limits and before it believes any of
// it, and hands it on as a [Request]; it lays out the answer as its clients
// expect it. It decides nothing: who may do what is the [Handler]'s to say.
package door

import (
	"context"
	"net/http"

	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
)

// Request is one request as a door has parsed it.
type Request = broker.Request

// Header is a request header for the audit log.
type Header = broker.Header

// Response is what an operation answered.
type Response = broker.Response

// MountedOps is what can be done at one mount.
type MountedOps struct {
	Mount op.Mount
	Ops   []op.Op
}

// Handler does what a door was asked for. It is there also while the server is
// sealed, when it answers with faults of kind Sealed to all but what can be
// called then.
type Handler interface {
	// Handle runs the operation that r names. When it returns, what happened is
	// durable in the audit journal. The response comes together with an error
	// where that is of kind Deleted, and never otherwise. With r.Help it runs
	// nothing and the response says which operation would run.
	Handle(ctx context.Context, r *Request) (*Response, error)

	// Route returns the operation that verb at path means, for its bounds and
	// for who may call it, and the mount's path, empty for what answers beside
	// all mounts. It tells nothing to the caller and asks no policy.
	Route(ctx context.Context, verb op.Verb, path name.Path) (op.Op, name.Path, error)

	// Refused records a request that a door refused on its own, for cause. Where
	// that cannot be made durable the error says so, and is answered instead.
	Refused(ctx context.Context, r *Request, cause error) error

	// Operations returns what can be done at each mount, for those who describe.
	Operations(ctx context.Context) ([]MountedOps, error)
}

// Dialect is a wire API that clients speak.
type Dialect struct {
	Name   string                     // "vault"
	Faults map[fault.Kind]FaultStatus // every kind; a test holds it to be whole
	New    func(Env) http.Handler     // makes the handler that all listeners share
}

// FaultStatus is how a dialect says that something went wrong.
type FaultStatus struct {
	Status int
	Code   string // "ResourceNotFoundException"; empty where the dialect has none
}
