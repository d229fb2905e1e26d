package token

import (
	"context"
	"slices"
	"time"

	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/token"
	"rotunda.dev/rotunda/internal/wire"
)

type tokenIn struct {
	Token secret.Text `json:"token" doc:"The token."`
}

type accessorIn struct {
	Accessor string `json:"accessor" doc:"Accessor of the token."`
}

// Info is what is known of a token, as clients are told.
type Info struct {
	Accessor        string        `json:"accessor"`
	BoundCIDRs      []string      `json:"bound_cidrs,omitempty" audit:"clear"`
	CreationTime    int64         `json:"creation_time"`
	CreationTTL     wire.Duration `json:"creation_ttl"`
	DisplayName     string        `json:"display_name" audit:"clear"`
	EntityID        string        `json:"entity_id"`
	ExpireTime      *wire.Time    `json:"expire_time"` // null for never
	ExplicitMaxTTL  wire.Duration `json:"explicit_max_ttl"`
	ID              secret.Text   `json:"id"`
	IssueTime       wire.Time     `json:"issue_time"`
	LastRenewal     *wire.Time    `json:"last_renewal,omitzero"`
	LastRenewalTime int64         `json:"last_renewal_time,omitzero"`
	Meta            wire.Map      `json:"meta"` // null for none
	NamespacePath   string        `json:"namespace_path" audit:"clear"`
	NumUses         int           `json:"num_uses"`
	Orphan          bool          `json:"orphan"`
	Path            string        `json:"path" audit:"clear"`
	Period          wire.Duration `json:"period,omitzero"`
	Policies        []name.Name   `json:"policies"`
	Renewable       bool          `json:"renewable"`
	Role            name.Name     `json:"role,omitempty"`
	TTL             wire.Duration `json:"ttl"`
	Type            string        `json:"type" audit:"clear"`
}

func info(e *token.Entry, text secret.Text, now time.Time) Info {
	i := Info{
		Accessor: e.Accessor, CreationTime: e.Created.Unix(), CreationTTL: wire.Duration(e.TTL), DisplayName: e.DisplayName,
		EntityID: e.EntityID, ExplicitMaxTTL: wire.Duration(e.ExplicitMax), ID: text, IssueTime: wire.Time(e.Created), Meta: e.Meta,
		NumUses: e.UsesLeft(), Orphan: e.Parent == "", Path: e.Path, Period: wire.Duration(e.Period), Policies: e.Policies,
		Renewable: e.Renewable, Role: e.Role, TTL: wire.Duration(e.Left(now)), Type: string(e.Kind),
	}
	if !e.Expires.IsZero() {
		i.ExpireTime = new(wire.Time(e.Expires))
	}
	if !e.Renewed.IsZero() {
		i.LastRenewal, i.LastRenewalTime = new(wire.Time(e.Renewed)), e.Renewed.Unix()
	}
	for _, p := range e.BoundCIDRs {
		i.BoundCIDRs = append(i.BoundCIDRs, p.String())
	}
	return i
}

// ReadSelf tells what is known of the caller's token.
var ReadSelf = op.Def[op.Nothing, Info]{
	Name: "token.read-self", Verb: op.Read, Path: "lookup-self", Does: "Tell what is known of the token that is used.",
}

// LookupSelf is [ReadSelf] for clients that send it as a write.
var LookupSelf = op.Def[tokenIn, Info]{
	Name: "token.lookup-self", Verb: op.Update, Path: "lookup-self", Does: "Tell what is known of the token that is used.", Hidden: true,
}

// Read tells what is known of a token that is named in the query, and of the
// caller's where none is.
var Read = op.Def[tokenIn, Info]{
	Name: "token.read", Verb: op.Read, Path: "lookup", Does: "Tell what is known of a token.", Hidden: true,
}

// Lookup tells what is known of a token.
var Lookup = op.Def[tokenIn, Info]{
	Name: "token.lookup", Verb: op.Update, Path: "lookup", Does: "Tell what is known of a token.",
}

// LookupAccessor tells what is known of the token that has an accessor.
var LookupAccessor = op.Def[accessorIn, Info]{
	Name: "token.lookup-accessor", Verb: op.Update, Path: "lookup-accessor", Does: "Tell what is known of the token that has an accessor.",
}

// ListIn asks for a part of a list.
type ListIn struct {
	After string `query:"after" audit:"clear" doc:"List what follows this name, which need not exist."`
	Limit int    `query:"limit" doc:"How many names to list; 0 is all."`
}

// Validate reports a request that can never be right.
func (in ListIn) Validate() error {
	if in.Limit < 0 {
		return fault.New(fault.Invalid, "limit must not be negative")
	}
	return nil
}

// part returns what in asks for of a list in order; a fault of kind NotFound
// where the whole list is empty.
func part[S ~string](in ListIn, limits engine.Limits, list []S) ([]S, error) {
	if err := limits.Page(in.Limit); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fault.New(fault.NotFound, "")
	}
	if in.After != "" {
		i, found := slices.BinarySearch(list, S(in.After))
		if found {
			i++
		}
		list = list[i:]
	}
	if in.Limit > 0 && in.Limit < len(list) {
		list = list[:in.Limit]
	}
	return list, nil
}

// Accessors is a list of the accessors of all tokens.
type Accessors struct {
	Keys []string `json:"keys"`
}

// ListAccessors lists the accessors of all tokens.
var ListAccessors = op.Def[ListIn, Accessors]{
	Name: "token.list-accessors", Verb: op.List, Path: "accessors/", Sudo: true, Does: "List the accessors of all tokens.",
}

func (t *tokens) lookupOps() []op.Op {
	self := func(ctx context.Context, c *op.Call) (Info, error) {
		target := token.ByID(c.Caller.TokenID)
		if c.Caller.Kind == string(token.Batch) {
			target = token.ByText(c.Token)
		}
		e, err := t.store.Lookup(ctx, c.Time, target)
		if err != nil {
			return Info{}, err
		}
		return info(e, c.Token, c.Time), nil
	}
	lookup := func(ctx context.Context, c *op.Call, in tokenIn) (Info, error) {
		if in.Token.Empty() || in.Token.Equal(c.Token) {
			return self(ctx, c)
		}
		e, err := t.store.Lookup(ctx, c.Time, token.ByText(in.Token))
		if fault.Is(err, fault.Unauthenticated) {
			return Info{}, fault.New(fault.Denied, "bad token")
		}
		if err != nil {
			return Info{}, err
		}
		return info(e, in.Token, c.Time), nil
	}
	return []op.Op{
		ReadSelf.With(func(ctx context.Context, c *op.Call, _ op.Nothing) (Info, error) { return self(ctx, c) }),
		LookupSelf.With(func(ctx context.Context, c *op.Call, _ tokenIn) (Info, error) { return self(ctx, c) }),
		Read.With(lookup),
		Lookup.With(lookup),
		LookupAccessor.With(func(ctx context.Context, c *op.Call, in accessorIn) (Info, error) {
			if in.Accessor == "" {
				return Info{}, errNoAccessor()
			}
			e, err := t.store.Lookup(ctx, c.Time, token.ByAccessor(in.Accessor))
			if fault.Is(err, fault.Unauthenticated) {
				return Info{}, errAccessor()
			}
			if err != nil {
				return Info{}, err
			}
			return info(e, secret.New(""), c.Time), nil
		}),
		ListAccessors.With(func(ctx context.Context, _ *op.Call, in ListIn) (Accessors, error) {
			keys, err := t.store.Accessors(ctx)
			if err == nil {
				keys, err = part(in, t.limits, keys)
			}
			return Accessors{keys}, err
		}),
	}
}

func errNoAccessor() error { return fault.New(fault.Invalid, "missing accessor") }
func errAccessor() error   { return fault.New(fault.Denied, "invalid accessor") }
