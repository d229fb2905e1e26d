package broker

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/secret"
)

// record is what the journal keeps with the operation's own transaction: of an
// operation that is one transaction the outcome, of another that it began.
func (p *passage) record() (*audit.Record, error) {
	if !p.ends() {
		return p.begun(), nil
	}
	return p.outcome(nil), nil
}

// ends reports whether the operation's own transaction is all that is done: an
// answer that is wrapped is kept in another.
func (p *passage) ends() bool { return p.op.InTransaction && p.req.WrapTTL <= 0 }

// begun is the record of an operation that is about to have effects.
func (p *passage) begun() *audit.Record {
	r := p.base()
	r.Kind = audit.Intent
	r.Outcome = ""
	return r
}

// outcome is the record of an operation that has ended.
func (p *passage) outcome(err error) *audit.Record {
	r := p.base()
	r.Kind = audit.Request
	if p.intent {
		r.Kind = audit.Outcome
	}
	r.Outcome = "ok"
	if err != nil {
		r.Outcome = fault.KindOf(err).String()
		r.Error = fault.Public(err)
	}
	if p.call.Out != nil && (err == nil || fault.Is(err, fault.Deleted)) {
		r.Out = p.redact(p.call.Out)
	}
	if g := p.call.Reply.Auth; g != nil && err == nil {
		r.Out = p.b.p.Hasher.Redact(granted{grant{
			g.ClientToken, g.Accessor, g.Policies, g.EntityID, g.Kind, g.Orphan, g.Renewable, int64(g.TTL / time.Second), g.NumUses,
		}})
	}
	if p.wrapped != nil {
		r.Wrapped = true
		r.Out = p.redact(*p.wrapped)
	}
	return r
}

// redact returns what the journal may show of v, in p's shown, where it stays
// for as long as the request.
func (p *passage) redact(v any) jsontext.Value {
	from := len(p.shown)
	p.shown = p.b.p.Hasher.AppendRedacted(p.shown, v)
	return jsontext.Value(p.shown[from:len(p.shown):len(p.shown)])
}

// granted is what the journal keeps of an answer that is a token: its accessor,
// and the hash under which its uses are found.
type granted struct {
	Auth grant `json:"auth"`
}

type grant struct {
	ClientToken   secret.Text `json:"client_token"`
	Accessor      string      `json:"accessor" audit:"clear"`
	Policies      []name.Name `json:"policies"`
	EntityID      string      `json:"entity_id" audit:"clear"`
	TokenType     string      `json:"token_type" audit:"clear"`
	Orphan        bool        `json:"orphan"`
	Renewable     bool        `json:"renewable"`
	LeaseDuration int64       `json:"lease_duration"`
	NumUses       int         `json:"num_uses"`
}

func (p *passage) base() *audit.Record {
	req := p.req
	r := &audit.Record{
		Time: req.Time, Node: p.b.p.Node, RequestID: req.ID, Op: p.op.Name, Path: string(req.Path),
		Remote: req.Remote.String(), Allowed: p.allowed, WrapTTL: req.WrapTTL, Warnings: len(p.call.Reply.Warnings),
		MountPath: string(p.call.Mount.Path), MountKind: p.call.Mount.Kind, MountAccessor: p.call.Mount.Accessor, MountID: p.call.Mount.ID,
	}
	for _, h := range req.Headers {
		r.Headers = append(r.Headers, audit.Header{Name: h.Name, Value: h.Value})
	}
	r.Verb = req.Verb.String()
	if p.call.Asked.Verb != 0 {
		r.Verb = p.call.Asked.Verb.String()
	}
	if p.call.Asked.Resource != "" {
		r.Path = p.call.Asked.Resource
	}
	r.Critical = p.allowed && p.op.Repairs // of nobody else: the space held back must not be filled by who is refused
	if p.allowed || p.verdict.Policy != "" {
		r.Rule = p.verdict.Rule
	}
	if p.call.In != nil {
		r.In = p.redact(p.call.In)
	}
	if e := p.entry; e != nil {
		r.Actor = audit.Actor{Accessor: e.Accessor, DisplayName: e.DisplayName, EntityID: e.EntityID, TokenKind: string(e.Kind)}
		r.Actor.Policies = make([]string, 0, len(e.Policies))
		for _, n := range e.Policies {
			r.Actor.Policies = append(r.Actor.Policies, string(n))
		}
	}
	if !req.Token.Empty() {
		r.Actor.TokenHash = p.b.p.Hasher.Hash(req.Token.Reveal()) //nolint:forbidigo // it is hashed here
	}
	return r
}
