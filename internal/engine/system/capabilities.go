package system

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/fence"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/policy"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/token"
	"rotunda.dev/rotunda/internal/wire"
)

// CapabilitiesIn asks what a token may do.
type CapabilitiesIn struct {
	Token secret.Text  `json:"token" doc:"The token."`
	Path  wire.Strings `json:"path" audit:"clear" doc:"The path, or several."`
	Paths wire.Strings `json:"paths" audit:"clear" doc:"The paths."`
}

// CapabilitiesSelfIn asks what the caller may do.
type CapabilitiesSelfIn struct {
	Token secret.Text  `json:"token" doc:"Passed over: the caller's own token counts."`
	Path  wire.Strings `json:"path" audit:"clear" doc:"The path, or several."`
	Paths wire.Strings `json:"paths" audit:"clear" doc:"The paths."`
}

// CapabilitiesAccessorIn asks what the token with an accessor may do.
type CapabilitiesAccessorIn struct {
	Accessor string       `json:"accessor" doc:"The token's accessor."`
	Path     wire.Strings `json:"path" audit:"clear" doc:"The path, or several."`
	Paths    wire.Strings `json:"paths" audit:"clear" doc:"The paths."`
}

// CapabilitiesOut is what may be done under each path that was asked about,
// and under "capabilities" once more where that was one.
type CapabilitiesOut map[string][]string

// ExplainIn asks why something is allowed or denied.
type ExplainIn struct {
	Path       string        `json:"path" audit:"clear" doc:"The path."`
	Verb       string        `json:"verb" audit:"clear" doc:"create, read, update, patch, delete, list or sudo; read where there is none."`
	Capability string        `json:"capability" audit:"clear" doc:"The same by another name."`
	Parameters secret.JSON   `json:"parameters" doc:"The parameters of the request, as an object, for rules that look at them."`
	WrapTTL    wire.Duration `json:"wrap_ttl" doc:"For how long the answer would be wrapped; 0 for not at all."`
	Token      secret.Text   `json:"token" doc:"The token of another; needs sudo."`
	Accessor   string        `json:"accessor" doc:"The accessor of the token of another; needs sudo."`
	Policies   wire.Strings  `json:"policies" audit:"clear" doc:"About someone who holds these policies; needs sudo."`
	Policy     string        `json:"policy" doc:"About someone who holds a policy of this text and nothing else; its rules are shown."`
	Details    bool          `json:"details" doc:"Refuse where the rules cannot be shown, which needs sudo, instead of leaving them out."`
}

// ExplainOut is an explanation.
type ExplainOut struct {
	Path     string      `json:"path" audit:"clear" doc:"The path that the policies are asked about."`
	Verb     string      `json:"verb" audit:"clear" doc:"What is asked for."`
	Sudo     bool        `json:"sudo" doc:"Whether the operation needs the sudo capability too."`
	Allowed  bool        `json:"allowed" doc:"Whether it is allowed."`
	Missing  []string    `json:"missing" audit:"clear" doc:"What was not given: capabilities, or what is wrong with a parameter or a wrapping TTL."`
	Needed   string      `json:"needed" audit:"clear" doc:"What would be needed, in words."`
	Stanza   string      `json:"stanza" audit:"clear" doc:"A rule that gives it, to be put into a policy."`
	Note     string      `json:"note,omitzero" audit:"clear" doc:"What else is to be known."`
	Policies []name.Name `json:"policies" doc:"The policies that the token holds."`

	Policy name.Name          `json:"policy,omitzero" doc:"The policy whose rule decided."`
	Rule   string             `json:"rule,omitzero" audit:"clear" doc:"The rule that decided."`
	Reason string             `json:"reason,omitzero" audit:"clear" doc:"One sentence that says why."`
	Rules  []policy.Candidate `json:"rules,omitzero" doc:"Every rule whose path matches, the deciding ones first."`
}

// ResultantOut is what the caller may do, pattern by pattern.
type ResultantOut struct {
	Root       bool                    `json:"root" doc:"Whether the caller may do everything."`
	ExactPaths map[string]pathCapacity `json:"exact_paths" doc:"What may be done at exact paths."`
	GlobPaths  map[string]pathCapacity `json:"glob_paths" doc:"What may be done at paths that begin so."`
}

type pathCapacity struct {
	Capabilities []string `json:"capabilities" audit:"clear"`
}

// The operations that tell what may be done.
var (
	Capabilities = op.Def[CapabilitiesIn, CapabilitiesOut]{
		Name: "system.capabilities", Verb: op.Update, Path: "capabilities", Shape: op.Injected, Does: "Say what a token may do at paths.",
	}
	CapabilitiesSelf = op.Def[CapabilitiesSelfIn, CapabilitiesOut]{
		Name: "system.capabilities-self", Verb: op.Update, Path: "capabilities-self", Shape: op.Injected, Does: "Say what the caller may do at paths.",
	}
	CapabilitiesAccessor = op.Def[CapabilitiesAccessorIn, CapabilitiesOut]{
		Name: "system.capabilities-accessor", Verb: op.Update, Path: "capabilities-accessor", Shape: op.Injected, Does: "Say what the token with an accessor may do at paths.",
	}
	Explain = op.Def[ExplainIn, ExplainOut]{
		Name: "system.policy-explain", Verb: op.Update, Path: "policy-explain", Does: "Say why something is allowed or denied, and what would be needed.",
	}
	ResultantACL = op.Def[op.Nothing, ResultantOut]{
		Name: "system.resultant-acl", Verb: op.Read, Path: "internal/ui/resultant-acl", Does: "Say what the caller may do, pattern by pattern.",
	}
)

func capabilityOps(p Parts) []op.Op {
	a := asker{p}
	most := p.Limits.WithDefaults().BatchItems
	return []op.Op{
		Capabilities.With(func(ctx context.Context, c *op.Call, in CapabilitiesIn) (CapabilitiesOut, error) {
			if in.Token.Empty() {
				return nil, fault.New(fault.Invalid, "missing token")
			}
			acl, _, err := a.of(ctx, c.Time, token.ByText(in.Token), "invalid token")
			if err != nil {
				return nil, err
			}
			return capabilities(acl, most, in.Path, in.Paths)
		}),
		CapabilitiesAccessor.With(func(ctx context.Context, c *op.Call, in CapabilitiesAccessorIn) (CapabilitiesOut, error) {
			if in.Accessor == "" {
				return nil, fault.New(fault.Invalid, "missing accessor")
			}
			acl, _, err := a.of(ctx, c.Time, token.ByAccessor(in.Accessor), "invalid accessor")
			if err != nil {
				return nil, err
			}
			return capabilities(acl, most, in.Path, in.Paths)
		}),
		CapabilitiesSelf.With(func(ctx context.Context, c *op.Call, in CapabilitiesSelfIn) (CapabilitiesOut, error) {
			acl, _, err := a.caller(ctx, c)
			if err != nil {
				return nil, err
			}
			return capabilities(acl, most, in.Path, in.Paths)
		}),
		Explain.With(a.explain),
		ResultantACL.With(func(ctx context.Context, c *op.Call, _ op.Nothing) (ResultantOut, error) {
			acl, _, err := a.caller(ctx, c)
			if err != nil {
				return ResultantOut{}, err
			}
			exact, glob := acl.Resultant()
			out := ResultantOut{Root: acl.Root(), ExactPaths: make(map[string]pathCapacity, len(exact)), GlobPaths: make(map[string]pathCapacity, len(glob))}
			for path, words := range exact {
				out.ExactPaths[path] = pathCapacity{words}
			}
			for path, words := range glob {
				out.GlobPaths[path] = pathCapacity{words}
			}
			return out, nil
		}),
	}
}

// capabilities answers for each path under the text that it was asked by.
func capabilities(acl *policy.ACL, most int, lists ...wire.Strings) (CapabilitiesOut, error) {
	asked := slices.Concat(lists...)
	switch {
	case len(asked) == 0:
		return nil, fault.New(fault.Invalid, "paths must be supplied")
	case len(asked) > most:
		return nil, fault.New(fault.Invalid, "at most %d paths can be asked about", most)
	}
	out := CapabilitiesOut{}
	for _, path := range asked {
		at, err := name.ParsePath(path)
		if err != nil {
			return nil, err
		}
		out[path] = acl.Capabilities(string(at))
		if len(asked) == 1 {
			out["capabilities"] = out[path]
		}
	}
	return out, nil
}

// asker finds what tokens may do.
type asker struct{ p Parts }

// caller returns what the caller of c may do.
func (a asker) caller(ctx context.Context, c *op.Call) (*policy.ACL, fence.Moment, error) {
	return a.holding(ctx, c.Caller.Policies)
}

// of returns what the token t may do; unknown is said where there is none.
func (a asker) of(ctx context.Context, now time.Time, t token.Target, unknown string) (*policy.ACL, fence.Moment, error) {
	e, err := a.p.Tokens.Lookup(ctx, now, t)
	if fault.Is(err, fault.Unauthenticated) {
		return nil, fence.Moment{}, fault.New(fault.Invalid, "%s", unknown)
	}
	if err != nil {
		return nil, fence.Moment{}, err
	}
	return a.holding(ctx, e.Policies)
}

func (a asker) holding(ctx context.Context, held []name.Name) (*policy.ACL, fence.Moment, error) {
	m, err := a.p.Fence.Arrive(ctx)
	if err != nil {
		return nil, m, fmt.Errorf("asking the store what has changed: %w", err)
	}
	acl, err := a.p.Policies.ACL(ctx, m, held)
	if err != nil {
		return nil, m, fmt.Errorf("reading a token's policies: %w", err)
	}
	return acl, m, nil
}

var verbsByWord = map[string]op.Verb{
	"": op.Read, "sudo": op.Update, "read": op.Read, "list": op.List, "create": op.Create, "update": op.Update, "write": op.Update, "patch": op.Patch, "delete": op.Delete,
}

// given is the name under which the rules of a text are shown that is not kept.
const given name.Name = "given"

// explain answers an [ExplainIn]. Of rules that are kept it tells only who has sudo.
func (a asker) explain(ctx context.Context, c *op.Call, in ExplainIn) (ExplainOut, error) {
	if in.Verb == "" {
		in.Verb = in.Capability
	}
	word := strings.ToLower(in.Verb)
	verb, ok := verbsByWord[word]
	if !ok {
		return ExplainOut{}, fault.New(fault.Invalid, "verb is create, read, update, patch, delete, list or sudo")
	}
	path, err := name.ParsePath(in.Path)
	if err != nil {
		return ExplainOut{}, err
	}
	params, err := paramsOf(in.Parameters)
	if err != nil {
		return ExplainOut{}, err
	}
	another := !in.Token.Empty() && !in.Token.Equal(c.Token)
	sudo := c.Sudo != nil && c.Sudo(op.Update, c.Asked.Resource)
	deep := sudo
	if !deep && (in.Details || in.Accessor != "" || len(in.Policies) > 0 || another) {
		return ExplainOut{}, fault.New(fault.Denied, "permission denied")
	}
	var acl *policy.ACL
	var m fence.Moment
	switch {
	case in.Policy != "":
		deep = true
		p, err := a.p.Policies.Parse(in.Policy)
		if err != nil {
			return ExplainOut{}, err
		}
		p.Name, acl = given, policy.Compile(p)
		if m, err = a.p.Fence.Arrive(ctx); err != nil {
			return ExplainOut{}, fmt.Errorf("asking the store what has changed: %w", err)
		}
	case len(in.Policies) > 0:
		var held []name.Name
		for _, text := range in.Policies {
			n, err := name.Parse(text)
			if err != nil {
				return ExplainOut{}, err
			}
			held = append(held, n)
		}
		acl, m, err = a.holding(ctx, held)
	case in.Accessor != "":
		acl, m, err = a.of(ctx, c.Time, token.ByAccessor(in.Accessor), "invalid accessor")
	case another:
		acl, m, err = a.of(ctx, c.Time, token.ByText(in.Token), "invalid token")
	default:
		acl, m, err = a.caller(ctx, c)
	}
	if err != nil {
		return ExplainOut{}, err
	}
	ask, note := a.question(ctx, m, verb, path)
	ask.Sudo = ask.Sudo || word == "sudo"
	ask.WrapTTL, ask.Params = time.Duration(in.WrapTTL), func() ([]op.Param, error) { return params, nil }
	t := acl.Explain(ask)
	out := ExplainOut{
		Path: t.Path, Verb: t.Verb, Sudo: ask.Sudo, Allowed: t.Allowed, Missing: t.Missing, Policies: acl.Policies(),
	}
	if sudo || t.Allowed && in.Policy == "" {
		out.Note = note // what is mounted is told to none who may not ask
	}
	if deep {
		out.Needed, out.Stanza = t.Needed, t.Stanza
		out.Policy, out.Rule, out.Reason, out.Rules = t.Policy, t.Rule, t.Reason, t.Candidates
		return out, nil
	}
	if !t.Allowed {
		out.Needed, out.Stanza = acl.Wanted(ask, t.Missing)
	}
	return out, nil
}

// question returns what the policies would be asked if verb at path were
// called: by having the operation itself ask, and telling it no.
func (a asker) question(ctx context.Context, m fence.Moment, verb op.Verb, path name.Path) (op.Ask, string) {
	plain := op.Ask{Verb: verb, Resource: string(path)}
	if verb == op.List {
		plain.Resource = string(path.Dir())
	}
	mounted, rest, err := a.p.Mounts.Find(ctx, m, path)
	if err != nil {
		return plain, "Nothing is mounted there."
	}
	o, args, err := mounted.Routes.Match(verb, rest)
	switch {
	case fault.Is(err, fault.Unsupported):
		return plain, "The path cannot do this, whatever the policies say."
	case err != nil:
		return plain, "The engine that is mounted there has no such path."
	case o.Auth != op.Token:
		return plain, "No token is needed for this."
	}
	var asked []op.Ask
	call := &op.Call{Mount: mounted.Call, Args: args}
	_, err = o.Run(ctx, call, nobody{}, func(ask op.Ask) error {
		asked = append(asked, ask)
		return fault.New(fault.Denied, "")
	})
	if len(asked) == 0 {
		return plain, "Such a request is refused before the policies are asked: " + fault.Public(err) + "."
	}
	for _, ask := range asked {
		if ask.Verb == verb {
			return ask, ""
		}
	}
	return asked[0], ""
}

// nobody is the source of a request that is never made.
type nobody struct{}

func (nobody) Fill(any) error              { return nil }
func (nobody) Params() ([]op.Param, error) { return nil, nil }

// paramsOf returns the members of an object; none of nothing.
func paramsOf(j secret.JSON) ([]op.Param, error) {
	if j.Empty() || jsontext.Value(j.Reveal()).Kind() == 'n' {
		return nil, nil
	}
	bad := fault.New(fault.Invalid, "parameters is an object")
	d := jsontext.NewDecoder(bytes.NewReader(j.Reveal()))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return nil, bad
	}
	var out []op.Param
	for d.PeekKind() != '}' {
		k, err := d.ReadToken()
		if err != nil {
			return nil, bad
		}
		key := k.String()
		v, err := d.ReadValue()
		if err != nil {
			return nil, bad
		}
		out = append(out, op.Param{Name: key, Value: v.Clone()})
	}
	return out, nil
}
