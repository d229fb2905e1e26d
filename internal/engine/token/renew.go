package token

import (
	"time"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/token"
	"rotunda.dev/rotunda/internal/wire"
)

type renewIn struct {
	Token     secret.Text   `json:"token" doc:"The token; the caller's if none is given."`
	Increment wire.Duration `json:"increment" doc:"How long it is to live from now; 0 as long as it was given last."`
}

type renewSelfIn struct {
	Token     secret.Text   `json:"token" doc:"Kept for clients; the caller's token is renewed."`
	Increment wire.Duration `json:"increment" doc:"How long it is to live from now; 0 as long as it was given last."`
}

type renewAccessorIn struct {
	Accessor  string        `json:"accessor" doc:"Accessor of the token."`
	Increment wire.Duration `json:"increment" doc:"How long it is to live from now; 0 as long as it was given last."`
}

// Renew prolongs the life of a token.
var Renew = op.Def[renewIn, op.Empty]{
	Name: "token.renew", Verb: op.Update, Path: "renew", Does: "Prolong the life of a token.",
}

// RenewSelf prolongs the life of the caller's token.
var RenewSelf = op.Def[renewSelfIn, op.Empty]{
	Name: "token.renew-self", Verb: op.Update, Path: "renew-self", Does: "Prolong the life of the token that is used.",
}

// RenewAccessor prolongs the life of the token that has an accessor.
var RenewAccessor = op.Def[renewAccessorIn, op.Empty]{
	Name: "token.renew-accessor", Verb: op.Update, Path: "renew-accessor", Does: "Prolong the life of the token that has an accessor.",
}

func (t *tokens) renewOps() []op.Op {
	store := t.store.Space()
	renew := func(tx storage.Tx, c *op.Call, target token.Target, text secret.Text, increment wire.Duration, none error) error {
		id, found, err := t.store.Resolve(tx, target)
		if err != nil {
			return err
		}
		if !found {
			return none
		}
		err = t.store.Renew(tx, c, id, text, time.Duration(increment), t.bounds)
		if fault.Is(err, fault.Unauthenticated) {
			err = none
		}
		return err
	}
	self := func(tx storage.Tx, c *op.Call, increment wire.Duration) error {
		if c.Caller.Kind == string(token.Batch) {
			return errBatchRenew()
		}
		return renew(tx, c, token.ByID(c.Caller.TokenID), c.Token, increment, fault.New(fault.Denied, "permission denied"))
	}
	return []op.Op{
		Renew.InTx(store, op.Work[renewIn, op.Empty]{
			Locks: func(c *op.Call, in renewIn) storage.Locks {
				if in.Token.Empty() {
					return t.store.Locks(token.ByID(c.Caller.TokenID))
				}
				return t.store.Locks(token.ByText(in.Token))
			},
			Do: func(tx storage.Tx, c *op.Call, in renewIn) (op.Empty, error) {
				if in.Token.Empty() {
					return op.Empty{}, self(tx, c, in.Increment)
				}
				if t.store.IsBatch(in.Token) {
					return op.Empty{}, errBatchRenew()
				}
				return op.Empty{}, renew(tx, c, token.ByText(in.Token), in.Token, in.Increment, fault.New(fault.Denied, "bad token"))
			},
		}),
		RenewSelf.InTx(store, op.Work[renewSelfIn, op.Empty]{
			Locks: func(c *op.Call, _ renewSelfIn) storage.Locks { return t.store.Locks(token.ByID(c.Caller.TokenID)) },
			Do: func(tx storage.Tx, c *op.Call, in renewSelfIn) (op.Empty, error) {
				return op.Empty{}, self(tx, c, in.Increment)
			},
		}),
		RenewAccessor.InTx(store, op.Work[renewAccessorIn, op.Empty]{
			Do: func(tx storage.Tx, c *op.Call, in renewAccessorIn) (op.Empty, error) {
				if in.Accessor == "" {
					return op.Empty{}, errNoAccessor()
				}
				return op.Empty{}, renew(tx, c, token.ByAccessor(in.Accessor), secret.New(""), in.Increment, errAccessor())
			},
		}),
	}
}

func errBatchRenew() error { return fault.New(fault.Invalid, "batch tokens cannot be renewed") }
