package system

import (
	"context"
	"time"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/wire"
)

// WrapIn is anything that is to be wrapped.
type WrapIn struct {
	Data secret.JSON `body:"whole" doc:"What is to be wrapped: any JSON object."`
}

// WrappingIn names a wrapping token.
type WrappingIn struct {
	Token secret.Text `json:"token" doc:"The wrapping token; the caller's own if none is given."`
}

// WrappingOut is what is told of a wrapping token.
type WrappingOut struct {
	CreationPath string        `json:"creation_path" audit:"clear"`
	CreationTime wire.Time     `json:"creation_time"`
	CreationTTL  wire.Duration `json:"creation_ttl"`
}

// Wrap answers what it was sent, which is then wrapped as any answer.
var Wrap = op.Def[WrapIn, secret.JSON]{
	Name: "system.wrap", Verb: op.Update, Path: "wrapping/wrap", Does: "Wrap what is sent.",
}

// LookupWrapping tells what is known of a wrapping token, which stays as it is.
var LookupWrapping = op.Def[WrappingIn, WrappingOut]{
	Name: "system.lookup-wrapping", Verb: op.Update, Path: "wrapping/lookup", Auth: op.Open, Does: "Tell what is known of a wrapping token.",
}

// ReadWrapping is [LookupWrapping] for clients that send it as a read.
var ReadWrapping = op.Def[WrappingIn, WrappingOut]{
	Name: "system.read-wrapping", Verb: op.Read, Path: "wrapping/lookup", Auth: op.Open, Does: "Tell what is known of a wrapping token.", Hidden: true,
}

// Unwrap answers what a wrapping token holds, once.
var Unwrap = op.Def[WrappingIn, secret.JSON]{
	Name: "system.unwrap", Verb: op.Update, Path: "wrapping/unwrap", Auth: op.Open, Shape: op.Bare, Does: "Answer what a wrapping token holds, once.",
}

// Rewrap moves what a wrapping token holds to a new one.
var Rewrap = op.Def[WrappingIn, op.Empty]{
	Name: "system.rewrap", Verb: op.Update, Path: "wrapping/rewrap", Does: "Move what a wrapping token holds to a new wrapping token.",
}

func wrappingOps(p Parts) []op.Op {
	// named returns the wrapping token that a request is about.
	named := func(c *op.Call, in WrappingIn) secret.Text {
		if in.Token.Empty() {
			return c.Token
		}
		return in.Token
	}
	lookup := func(ctx context.Context, c *op.Call, in WrappingIn) (WrappingOut, error) {
		if named(c, in).Empty() {
			return WrappingOut{}, fault.New(fault.Invalid, `missing "token" value in input`)
		}
		w, err := p.Tokens.LookupWrapped(ctx, c.Time, named(c, in))
		if err != nil {
			return WrappingOut{}, err
		}
		return WrappingOut{w.CreationPath, wire.Time(w.CreationTime), wire.Duration(w.TTL)}, nil
	}
	locks := func(c *op.Call, in WrappingIn) storage.Locks { return p.Tokens.WrappingLocks(named(c, in)) }
	return []op.Op{
		Wrap.With(func(_ context.Context, c *op.Call, in WrapIn) (secret.JSON, error) {
			if c.WrapTTL < time.Second {
				return secret.JSON{}, fault.New(fault.Invalid, "endpoint requires response wrapping to be used")
			}
			if in.Data.Empty() {
				return secret.NewJSON([]byte("{}")), nil
			}
			return in.Data, nil
		}),
		LookupWrapping.With(lookup),
		ReadWrapping.With(lookup),
		Unwrap.InTx(p.Tokens.Space(), op.Work[WrappingIn, secret.JSON]{
			Locks: locks,
			Do: func(tx storage.Tx, c *op.Call, in WrappingIn) (secret.JSON, error) {
				if named(c, in).Empty() {
					return secret.JSON{}, fault.New(fault.Invalid, `missing "token" value in input`)
				}
				return p.Tokens.Unwrap(tx, c.Time, named(c, in))
			},
		}),
		Rewrap.InTx(p.Tokens.Issuer(), op.Work[WrappingIn, op.Empty]{
			Locks: locks,
			Do: func(tx storage.Tx, c *op.Call, in WrappingIn) (op.Empty, error) {
				w, err := p.Tokens.Rewrap(tx, c.Time, named(c, in))
				if err != nil {
					return op.Empty{}, err
				}
				c.Reply.Wrap = &w
				return op.Empty{}, nil
			},
		}),
	}
}
