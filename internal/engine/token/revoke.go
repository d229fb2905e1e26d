package token

import (
	"context"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/token"
)

type revokeIn struct {
	Token secret.Text `json:"token" doc:"The token."`
}

// Revoke ends a token and all of its descendants.
var Revoke = op.Def[revokeIn, op.Empty]{
	Name: "token.revoke", Verb: op.Update, Path: "revoke", Repairs: true, Does: "End a token and all of its descendants.",
}

// RevokeSelf ends the caller's token and all of its descendants.
var RevokeSelf = op.Def[op.Nothing, op.Empty]{
	Name: "token.revoke-self", Verb: op.Update, Path: "revoke-self", Repairs: true, Does: "End the token that is used and all of its descendants.",
}

// RevokeAccessor ends the token that has an accessor, and all of its descendants.
var RevokeAccessor = op.Def[accessorIn, op.Empty]{
	Name: "token.revoke-accessor", Verb: op.Update, Path: "revoke-accessor", Repairs: true, Does: "End the token that has an accessor, and all of its descendants.",
}

// RevokeOrphan ends a token and makes its children orphans.
var RevokeOrphan = op.Def[revokeIn, op.Empty]{
	Name: "token.revoke-orphan", Verb: op.Update, Path: "revoke-orphan", Sudo: true, Repairs: true, Does: "End a token; its children live on as orphans.",
}

// Tidy looks for remains of tokens that have ended.
var Tidy = op.Def[op.Nothing, op.Empty]{
	Name: "token.tidy", Verb: op.Update, Path: "tidy", Does: "Remove what is left of tokens that have ended.",
}

func (t *tokens) revokeOps() []op.Op {
	store := t.store.Space()
	revoke := func(tx storage.Tx, target token.Target) (bool, error) {
		id, found, err := t.store.Resolve(tx, target)
		if err != nil || !found {
			return false, err
		}
		return t.store.RevokeTx(tx, id)
	}
	return []op.Op{
		Revoke.InTx(store, op.Work[revokeIn, op.Empty]{
			Locks: func(_ *op.Call, in revokeIn) storage.Locks { return t.store.Locks(token.ByText(in.Token)) },
			Do: func(tx storage.Tx, _ *op.Call, in revokeIn) (op.Empty, error) {
				if in.Token.Empty() {
					return op.Empty{}, fault.New(fault.Invalid, "missing token ID")
				}
				if t.store.IsBatch(in.Token) {
					return op.Empty{}, errBatchRevoke()
				}
				_, err := revoke(tx, token.ByText(in.Token))
				return op.Empty{}, err
			},
		}),
		RevokeSelf.InTx(store, op.Work[op.Nothing, op.Empty]{
			Locks: func(c *op.Call, _ op.Nothing) storage.Locks { return t.store.Locks(token.ByID(c.Caller.TokenID)) },
			Do: func(tx storage.Tx, c *op.Call, _ op.Nothing) (op.Empty, error) {
				if c.Caller.Kind == string(token.Batch) {
					return op.Empty{}, errBatchRevoke()
				}
				_, err := revoke(tx, token.ByID(c.Caller.TokenID))
				return op.Empty{}, err
			},
		}),
		RevokeAccessor.InTx(store, op.Work[accessorIn, op.Empty]{
			Do: func(tx storage.Tx, c *op.Call, in accessorIn) (op.Empty, error) {
				if in.Accessor == "" {
					return op.Empty{}, errNoAccessor()
				}
				found, err := revoke(tx, token.ByAccessor(in.Accessor))
				if err == nil && !found {
					c.Warn("No token found with this accessor")
				}
				return op.Empty{}, err
			},
		}),
		RevokeOrphan.InTx(store, op.Work[revokeIn, op.Empty]{
			Locks: func(_ *op.Call, in revokeIn) storage.Locks { return t.store.Locks(token.ByText(in.Token)) },
			Do: func(tx storage.Tx, _ *op.Call, in revokeIn) (op.Empty, error) {
				if in.Token.Empty() {
					return op.Empty{}, fault.New(fault.Invalid, "missing token ID")
				}
				if t.store.IsBatch(in.Token) {
					return op.Empty{}, errBatchRevoke()
				}
				id, found, err := t.store.Resolve(tx, token.ByText(in.Token))
				if err == nil && found {
					found, err = t.store.ReleaseTx(tx, id)
				}
				if err == nil && !found {
					err = fault.New(fault.Invalid, "token to revoke not found")
				}
				return op.Empty{}, err
			},
		}),
		Tidy.With(func(_ context.Context, c *op.Call, _ op.Nothing) (op.Empty, error) {
			t.store.Wake()
			c.Reply.Status = 202
			c.Warn("Tidy operation successfully started. Any information from the operation will be printed to the server logs.")
			return op.Empty{}, nil
		}),
	}
}

func errBatchRevoke() error { return fault.New(fault.Invalid, "batch tokens cannot be revoked") }
