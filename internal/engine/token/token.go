// Package token is the engine at auth/token/: tokens are created, looked up,
// renewed and revoked, and roles say which ones may be created. It is part of
// every server and cannot be mounted elsewhere.
package token

import (
	"context"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/fence"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/policy"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/token"
	"rotunda.dev/rotunda/internal/wire"
)

// Rules are the policies of the server, as package policy keeps them.
type Rules interface {
	// ACL returns what the policies of the given names allow together.
	ACL(ctx context.Context, m fence.Moment, held []name.Name) (*policy.ACL, error)
}

// Kind returns the engine over the tokens of store.
func Kind(store *token.Store, rules Rules) engine.Kind {
	return engine.Kind{
		Name: "token", Does: "Creates, looks up, renews and revokes tokens.", Fixed: true,
		Open: func(_ context.Context, env engine.Env) (engine.Instance, error) {
			return engine.Instance{Ops: Ops(store, rules, env.Limits, token.Bounds{Default: env.DefaultTTL, Max: env.MaxTTL})}, nil
		},
	}
}

// tokens is the engine.
type tokens struct {
	store  *token.Store
	rules  Rules
	limits engine.Limits
	bounds token.Bounds
}

// Ops returns every operation under auth/token/, where tokens live within bounds.
func Ops(store *token.Store, rules Rules, limits engine.Limits, bounds token.Bounds) []op.Op {
	t := &tokens{store, rules, limits.WithDefaults(), bounds}
	return slices.Concat(t.createOps(), t.lookupOps(), t.renewOps(), t.revokeOps(), t.roleOps())
}

// patience bounds what is asked before a transaction.
const patience = 2 * time.Second

// prepare asks the policies what a transaction that creates a token must know
// and cannot ask: whether the caller has sudo, which it notes in c.Asked, and
// which of the policies do not exist, of which it warns.
func (t *tokens) prepare(c *op.Call, asked Policies, role bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := t.store.Arrive(ctx)
	if err != nil {
		return // the transaction finds out what is wrong
	}
	if acl, err := t.rules.ACL(ctx, m, c.Caller.Policies); err == nil {
		c.Asked.Sudo = acl.Root() || slices.Contains(acl.Capabilities(c.Asked.Resource), "sudo")
	}
	names := []name.Name(asked)
	if len(names) == 0 && !role {
		names = c.Caller.Policies
	}
	if acl, err := t.rules.ACL(ctx, m, names); err == nil {
		there := acl.Policies()
		for _, n := range names {
			if !slices.Contains(there, n) {
				c.Warn("Policy %q does not exist", n)
			}
		}
	}
}

// Policies is a list of names of policies. It is read as [wire.Strings], but
// nothing about a name is repaired except the case of its letters; and root is
// root only where it is spelled so.
type Policies []name.Name

// UnmarshalJSON implements json.Unmarshaler.
func (p *Policies) UnmarshalJSON(b []byte) error {
	v := jsontext.Value(b)
	var list []string
	if v.Kind() == '[' {
		if err := json.Unmarshal(b, &list); err != nil {
			return fault.New(fault.Invalid, "a list of policies is an array of names or one string with commas")
		}
	} else {
		var items wire.Strings
		if err := items.UnmarshalJSON(b); err != nil {
			return fault.Wrap(fault.Invalid, err, "a list of policies is an array of names or one string with commas")
		}
		list = items
	}
	out := Policies{}
	for _, s := range list {
		n, err := name.Parse(s)
		if err != nil {
			return err
		}
		if n == name.Root && s != string(name.Root) {
			return fault.New(fault.Invalid, "the root policy is spelled %q", name.Root)
		}
		out = append(out, n)
	}
	*p = out
	return nil
}

type createIn struct {
	ID              secret.Text   `json:"id" doc:"Text that the token is to have; for root only."`
	Policies        Policies      `json:"policies" doc:"Policies of the token; the caller's if none are given."`
	Meta            wire.Map      `json:"meta" doc:"Metadata, shown in the audit log."`
	NoParent        bool          `json:"no_parent" doc:"The token has no parent; needs sudo."`
	NoDefaultPolicy bool          `json:"no_default_policy" doc:"The policy default is left out."`
	Renewable       *bool         `json:"renewable" doc:"Whether the token can be renewed; true if not given."`
	Lease           wire.Duration `json:"lease" doc:"Older spelling of ttl."`
	TTL             wire.Duration `json:"ttl" doc:"How long the token lives until it is renewed; 0 is the system's default."`
	Type            string        `json:"type" audit:"clear" doc:"service or batch."`
	ExplicitMaxTTL  wire.Duration `json:"explicit_max_ttl" doc:"How long the token lives at most, however often it is renewed."`
	DisplayName     string        `json:"display_name" audit:"clear" doc:"Name of the token for people."`
	NumUses         int           `json:"num_uses" doc:"How often the token can be used; 0 for no limit."`
	Period          wire.Duration `json:"period" doc:"Each renewal gives this much; needs sudo."`
	EntityAlias     string        `json:"entity_alias" doc:"Alias of the entity that the token is for; with a role only."`
}

type createRoleIn struct {
	Role            name.Name     `path:"role" doc:"Role that says what the token may be."`
	ID              secret.Text   `json:"id" doc:"Text that the token is to have; for root only."`
	Policies        Policies      `json:"policies" doc:"Policies of the token; the role's if none are given."`
	Meta            wire.Map      `json:"meta" doc:"Metadata, shown in the audit log."`
	NoParent        bool          `json:"no_parent" doc:"Kept for clients; the role decides."`
	NoDefaultPolicy bool          `json:"no_default_policy" doc:"The policy default is left out."`
	Renewable       *bool         `json:"renewable" doc:"Whether the token can be renewed; true if not given."`
	Lease           wire.Duration `json:"lease" doc:"Older spelling of ttl."`
	TTL             wire.Duration `json:"ttl" doc:"How long the token lives until it is renewed; 0 is the system's default."`
	Type            string        `json:"type" audit:"clear" doc:"service or batch, where the role leaves it open."`
	ExplicitMaxTTL  wire.Duration `json:"explicit_max_ttl" doc:"How long the token lives at most, however often it is renewed."`
	DisplayName     string        `json:"display_name" audit:"clear" doc:"Name of the token for people."`
	NumUses         int           `json:"num_uses" doc:"How often the token can be used; 0 for no limit."`
	Period          wire.Duration `json:"period" doc:"Each renewal gives this much; needs sudo."`
	EntityAlias     string        `json:"entity_alias" doc:"Alias of the entity that the token is for."`
}

// Create makes a child of the caller's token.
var Create = op.Def[createIn, op.Empty]{
	Name: "token.create", Verb: op.Update, Path: "create", Does: "Create a token.",
}

// CreateOrphan makes a token without a parent.
var CreateOrphan = op.Def[createIn, op.Empty]{
	Name: "token.create-orphan", Verb: op.Update, Path: "create-orphan", Does: "Create a token that has no parent.",
}

// CreateWithRole makes a token as a role says.
var CreateWithRole = op.Def[createRoleIn, op.Empty]{
	Name: "token.create-with-role", Verb: op.Update, Path: "create/{role}", Does: "Create a token under a role.",
}

func (t *tokens) createOps() []op.Op {
	issuer := t.store.Issuer()
	create := func(path string, orphan bool) op.Work[createIn, op.Empty] {
		return op.Work[createIn, op.Empty]{
			Locks: func(c *op.Call, in createIn) storage.Locks {
				t.prepare(c, in.Policies, false)
				return t.store.CreateLocks(c.Caller, "")
			},
			Do: func(tx storage.Tx, c *op.Call, in createIn) (op.Empty, error) {
				return op.Empty{}, t.store.Create(tx, c, token.Request{
					ID: in.ID, Policies: in.Policies, Meta: in.Meta, NoParent: in.NoParent, NoDefault: in.NoDefaultPolicy,
					TTL: ttl(in.TTL, in.Lease), ExplicitMax: time.Duration(in.ExplicitMaxTTL), Period: time.Duration(in.Period),
					DisplayName: in.DisplayName, NumUses: in.NumUses, Renewable: in.Renewable, Kind: in.Type, EntityAlias: in.EntityAlias,
					Orphan: orphan, Path: path, Sudo: c.Asked.Sudo, Bounds: t.bounds,
				})
			},
		}
	}
	return []op.Op{
		Create.InTx(issuer, create("create", false)),
		CreateOrphan.InTx(issuer, create("create-orphan", true)),
		CreateWithRole.InTx(issuer, op.Work[createRoleIn, op.Empty]{
			Locks: func(c *op.Call, in createRoleIn) storage.Locks {
				t.prepare(c, in.Policies, true)
				return t.store.CreateLocks(c.Caller, in.Role)
			},
			Do: func(tx storage.Tx, c *op.Call, in createRoleIn) (op.Empty, error) {
				path := "create/" + string(in.Role)
				return op.Empty{}, t.store.Create(tx, c, token.Request{
					ID: in.ID, Policies: in.Policies, Meta: in.Meta, NoParent: in.NoParent, NoDefault: in.NoDefaultPolicy,
					TTL: ttl(in.TTL, in.Lease), ExplicitMax: time.Duration(in.ExplicitMaxTTL), Period: time.Duration(in.Period),
					DisplayName: in.DisplayName, NumUses: in.NumUses, Renewable: in.Renewable, Kind: in.Type, EntityAlias: in.EntityAlias,
					Role: in.Role, Path: path, Sudo: c.Asked.Sudo, Bounds: t.bounds,
				})
			},
		}),
	}
}

func ttl(asked, older wire.Duration) time.Duration {
	if asked == 0 {
		asked = older
	}
	return time.Duration(asked)
}
