// Package broker runs one operation for one caller: it finds out who calls,
// asks the policy, does the work, and has the record of it durable before
// anything is answered.
//
// A Broker exists only while the server is unsealed; package gate owns it.
package broker

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/fence"
	"rotunda.dev/rotunda/internal/mount"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/policy"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/token"
)

// Request is one request as a door has parsed it.
type Request struct {
	ID      string    // a UUIDv4 that the door made
	Time    time.Time // read once, by the door
	Remote  netip.AddrPort
	Token   secret.Text // as presented; empty for none
	Verb    op.Verb     // Read, List, Update for every kind of write, Patch or Delete
	Path    name.Path   // of a request that was refused for its path: empty, or "hash:" and 16 hex digits
	Source  op.Source   // nil in a request that was refused
	WrapTTL time.Duration
	Headers []Header // that the configuration lets the audit log see
	Help    bool     // asks what the path can do, and does nothing

	// Encode lays out an answer as the caller would get it, to be wrapped.
	Encode func(*Response) (secret.JSON, error)
}

// Header is a request header for the audit log.
type Header struct{ Name, Value string }

// Response is what an operation answered.
type Response struct {
	Op    op.Op
	Mount op.Mount
	Value any
	Reply op.Reply
}

// empty reports whether there is nothing in r that could be wrapped.
func (r *Response) empty() bool {
	_, nothing := r.Value.(op.Empty)
	return nothing && r.Reply.Auth == nil && r.Reply.Lease == nil && len(r.Reply.Warnings) == 0
}

// Parts is what a Broker is made of.
type Parts struct {
	Barrier  *barrier.Barrier
	Fence    *fence.Fence
	Mounts   *mount.Table
	Tokens   *token.Store
	Policies *policy.Store
	Journal  *audit.Journal
	Hasher   *audit.Hasher
	Node     string
	Clock    clock.Clock
	Log      *slog.Logger
	// Observe is told of every operation that ran, for metrics; nil for nobody.
	Observe func(opName, outcome string, took time.Duration)
	// Close ends what the broker's makers began, after its last request.
	Close func() error
}

// Broker runs operations. Make it with [New].
type Broker struct {
	p     Parts
	shown sync.Pool // of *[]byte: see passage.shown
}

// largestShown bounds the buffers that are kept for another request's records.
const largestShown = 16 << 10

// New returns a broker of parts.
func New(parts Parts) *Broker { return &Broker{p: parts} }

// Parts returns what b is made of, for who makes doors.
func (b *Broker) Parts() *Parts { return &b.p }

// Close lets go of everything that b holds.
func (b *Broker) Close() error {
	if b.p.Close == nil {
		return nil
	}
	return b.p.Close()
}

// passage is one request on its way.
type passage struct {
	b       *Broker
	req     *Request
	moment  fence.Moment
	mounted *mount.Mounted
	op      op.Op
	entry   *token.Entry
	acl     *policy.ACL
	call    op.Call
	verdict policy.Verdict
	allowed bool
	kept    bool // the record of the outcome is durable with the operation's own transaction
	intent  bool // a record that the operation began is durable
	used    bool // a use of a use-limited token has been counted
	wrapped *op.Wrap
	shown   []byte // what records show of the request and the answer
}

// Handle runs the operation that req names. When it returns, what happened is
// durable in the journal; where that cannot be, nothing is answered and the
// error is of kind Unavailable. The response comes together with an error
// where that is of kind Deleted.
func (b *Broker) Handle(ctx context.Context, req *Request) (*Response, error) {
	p := &passage{b: b, req: req}
	shown, ok := b.shown.Get().(*[]byte)
	if !ok {
		shown = new([]byte)
	}
	p.shown = (*shown)[:0]
	defer func() {
		if cap(p.shown) <= largestShown {
			*shown = p.shown
			b.shown.Put(shown)
		}
	}()
	value, err := p.run(ctx)
	if err != nil && ctx.Err() != nil && fault.KindOf(err) == fault.Internal {
		err = fault.Wrap(fault.Unavailable, err, "the request was given up or took too long")
	}
	p.call.Out = value
	response := &Response{Op: p.op, Mount: p.call.Mount, Value: value, Reply: p.call.Reply}
	if req.WrapTTL > 0 && err == nil && p.op.Name != "" && !req.Help && !response.empty() {
		err = p.wrap(ctx, response)
	}
	if !p.kept || err != nil {
		if recorded := b.p.Journal.Append(context.WithoutCancel(ctx), p.outcome(err)); recorded != nil {
			b.p.Log.LogAttrs(ctx, slog.LevelError, "recording an outcome", slog.String("request_id", req.ID), slog.Any("cause", recorded))
			if err == nil && p.op.Verb != op.Read && p.op.Verb != op.List {
				recorded = fault.Wrap(fault.Unavailable, recorded, "what was asked for may have been done, and the audit journal cannot record its outcome; look before it is tried again")
			}
			response, err = nil, recorded
		}
	}
	if p.used {
		if after := b.p.Tokens.AfterUse(context.WithoutCancel(ctx), p.entry); after != nil {
			b.p.Log.LogAttrs(ctx, slog.LevelError, "revoking a used-up token", slog.String("request_id", req.ID), slog.Any("cause", after))
		}
	}
	p.observe(err)
	if err != nil && fault.KindOf(err) == fault.Internal {
		b.p.Log.LogAttrs(ctx, slog.LevelError, "operation failed", slog.String("request_id", req.ID), slog.String("operation", p.op.Name), slog.Any("cause", err))
	}
	if err != nil && !fault.Is(err, fault.Deleted) {
		response = nil
	}
	return response, err
}

// recovered turns a panic into an error like another. It is deferred.
func (p *passage) recovered(ctx context.Context, err *error) {
	if r := recover(); r != nil {
		p.b.p.Log.LogAttrs(ctx, slog.LevelError, "operation panicked", slog.String("request_id", p.req.ID),
			slog.String("operation", p.op.Name), slog.String("panic_type", fmt.Sprintf("%T", r)), slog.String("stack", string(debug.Stack())))
		*err = fault.New(fault.Internal, "internal error")
	}
}

// run finds the operation and runs it. The value of one that panicked is nil.
func (p *passage) run(ctx context.Context) (value any, err error) {
	defer p.recovered(ctx, &err)
	if p.moment, err = p.b.p.Fence.Arrive(ctx); err != nil {
		return nil, fmt.Errorf("asking the store what has changed: %w", err)
	}
	req := p.req
	p.call = op.Call{ID: req.ID, Time: req.Time, Remote: req.Remote, Token: req.Token, WrapTTL: req.WrapTTL}
	if err := p.route(ctx); err != nil {
		if fault.Is(err, fault.NoRoute) || fault.Is(err, fault.Unsupported) {
			if who := p.authenticate(ctx); who != nil {
				return nil, who
			}
			verb := req.Verb
			if verb.IsWrite() {
				verb = op.Upsert
			}
			p.call.Asked = op.Ask{Verb: verb, Resource: string(req.Path)}
			if !p.acl.May(verb, string(req.Path)) { // what is not there looks like what is denied
				return nil, fault.New(fault.Denied, "permission denied")
			}
		}
		return nil, err
	}
	if p.op.Auth == op.Token {
		if err := p.authenticate(ctx); err != nil {
			return nil, err
		}
	} else if p.op.Auth == op.Open && !req.Token.Empty() {
		if err := p.identify(ctx); err != nil && !fault.Is(err, fault.Unauthenticated) && !fault.Is(err, fault.Denied) {
			return nil, err
		}
	}
	if req.WrapTTL > 0 && p.op.Auth == op.Open && p.entry == nil {
		// What anybody may ask for is not kept for anybody: it would fill the store.
		return nil, fault.New(fault.Unauthenticated, "permission denied")
	}
	if req.Help {
		return nil, nil //nolint:nilnil // help has no value but the operation itself
	}
	if p.op.Effects == op.Outside {
		if err := p.b.p.Journal.Append(context.WithoutCancel(ctx), p.begun()); err != nil {
			return nil, err
		}
		p.intent = true
		return p.op.Run(ctx, &p.call, req.Source, p.allow)
	}
	return p.op.Run(storage.WithRiderFrom(ctx, p.rider), &p.call, req.Source, p.allow)
}

// rider brings the record of the request along with its transaction.
func (p *passage) rider() *storage.Rider {
	r := p.b.p.Journal.Rider(p.record)
	done := r.Done
	r.Done = func() {
		p.kept, p.intent = p.ends(), !p.ends()
		if done != nil {
			done()
		}
	}
	return r
}

// route finds the mount and the operation.
func (p *passage) route(ctx context.Context) error {
	m, rest, err := p.b.p.Mounts.Find(ctx, p.moment, p.req.Path)
	if err != nil {
		return err
	}
	p.mounted, p.call.Mount = m, m.Call
	p.op, p.call.Args, err = m.Routes.Match(p.req.Verb, rest)
	return err
}

// authenticate demands a valid token and counts its use.
func (p *passage) authenticate(ctx context.Context) error {
	if p.req.Token.Empty() {
		return fault.New(fault.Unauthenticated, "permission denied")
	}
	if err := p.identify(ctx); err != nil {
		return err
	}
	if p.entry.NumUses > 0 {
		if err := p.b.p.Tokens.Use(ctx, p.entry); err != nil {
			return err
		}
		p.used = true
	}
	return nil
}

// identify finds the token and makes its policies ready.
func (p *passage) identify(ctx context.Context) error {
	entry, err := p.b.p.Tokens.Find(ctx, p.moment, p.req.Time, p.req.Token)
	if err != nil {
		return err
	}
	if !entry.AllowsFrom(p.req.Remote.Addr()) {
		return fault.New(fault.Unauthenticated, "permission denied")
	}
	acl, err := p.b.p.Policies.ACL(ctx, p.moment, entry.Policies)
	if err != nil {
		return fmt.Errorf("reading the caller's policies: %w", err)
	}
	p.entry, p.acl = entry, acl
	p.call.Caller = entry.Caller()
	acl.Advise(&p.call)
	return nil
}

func (p *passage) allow(ask op.Ask) error {
	p.verdict = p.acl.Allow(ask)
	p.allowed = p.verdict.Allowed
	return p.verdict.Err()
}

// wrap puts the answer into a wrapping token's keeping and the token in its place.
func (p *passage) wrap(ctx context.Context, response *Response) (err error) {
	defer p.recovered(ctx, &err)
	inner, err := p.req.Encode(response)
	if err != nil {
		return fmt.Errorf("encoding an answer to wrap: %w", err)
	}
	creationPath := string(p.req.Path)
	accessor := ""
	if response.Reply.Auth != nil {
		accessor = response.Reply.Auth.Accessor
	}
	w, err := p.b.p.Tokens.Wrap(ctx, p.req.Time, inner, p.req.WrapTTL, creationPath, accessor)
	if err != nil {
		return err
	}
	p.wrapped = &w
	response.Value, response.Reply = nil, op.Reply{Wrap: &w}
	return nil
}

func (p *passage) observe(err error) {
	if p.b.p.Observe == nil {
		return
	}
	outcome := "ok"
	if err != nil {
		outcome = fault.KindOf(err).String()
	}
	opName := p.op.Name
	if opName == "" {
		opName = "none"
	}
	p.b.p.Observe(opName, outcome, p.b.p.Clock.Now().Sub(p.req.Time))
}

// Route returns the operation that verb at path means, for its bounds and for
// who may call it, and the mount's path. It asks no policy.
func (b *Broker) Route(ctx context.Context, verb op.Verb, path name.Path) (op.Op, name.Path, error) {
	moment, err := b.p.Fence.Arrive(ctx)
	if err != nil {
		return op.Op{}, "", fmt.Errorf("asking the store what has changed: %w", err)
	}
	m, rest, err := b.p.Mounts.Find(ctx, moment, path)
	if err != nil {
		return op.Op{}, "", err
	}
	o, _, err := m.Routes.Match(verb, rest)
	return o, m.Entry.Path, err
}

// Refused records a request that a door refused before it came here.
func (b *Broker) Refused(ctx context.Context, req *Request, cause error) error {
	p := &passage{b: b, req: req, call: op.Call{ID: req.ID, Time: req.Time, Remote: req.Remote, Token: req.Token}}
	return b.p.Journal.Append(context.WithoutCancel(ctx), p.outcome(cause))
}

// IssueRoot makes the root token of a server's initialization. It does not expire.
func (b *Broker) IssueRoot(ctx context.Context, now time.Time) (secret.Text, error) {
	grant, err := b.p.Tokens.Issue(ctx, now, token.Spec{
		DisplayName: "root", Path: "auth/token/root", Policies: []name.Name{name.Root}, Forever: true,
	})
	return grant.ClientToken, err
}
