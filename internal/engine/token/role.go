package token

import (
	"context"
	"strings"

	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/token"
	"rotunda.dev/rotunda/internal/wire"
)

type roleIn struct {
	Role name.Name `path:"role" doc:"Name of the role."`
}

type putRoleIn struct {
	Role                 name.Name      `path:"role" doc:"Name of the role."`
	AllowedPolicies      *Policies      `json:"allowed_policies" doc:"Policies that tokens may have; the creator's if none are given."`
	DisallowedPolicies   *Policies      `json:"disallowed_policies" doc:"Policies that tokens may not have."`
	AllowedGlob          *wire.Strings  `json:"allowed_policies_glob" doc:"Patterns of policies that tokens may have."`
	DisallowedGlob       *wire.Strings  `json:"disallowed_policies_glob" doc:"Patterns of policies that tokens may not have."`
	Orphan               *bool          `json:"orphan" doc:"Tokens have no parent."`
	Renewable            *bool          `json:"renewable" doc:"Tokens can be renewed; true if never given."`
	PathSuffix           *string        `json:"path_suffix" audit:"clear" doc:"Appended to the creation path of tokens."`
	AllowedEntityAliases *wire.Strings  `json:"allowed_entity_aliases" doc:"Aliases for which tokens may be created."`
	Period               *wire.Duration `json:"period" doc:"Older spelling of token_period."`
	ExplicitMaxTTL       *wire.Duration `json:"explicit_max_ttl" doc:"Older spelling of token_explicit_max_ttl."`
	BoundCIDRs           *wire.Strings  `json:"bound_cidrs" audit:"clear" doc:"Older spelling of token_bound_cidrs."`
	TokenPeriod          *wire.Duration `json:"token_period" doc:"Each renewal of a token gives this much."`
	TokenExplicitMaxTTL  *wire.Duration `json:"token_explicit_max_ttl" doc:"How long tokens live at most."`
	TokenBoundCIDRs      *wire.Strings  `json:"token_bound_cidrs" audit:"clear" doc:"Networks from which tokens can be used."`
	TokenType            *string        `json:"token_type" audit:"clear" doc:"service, batch, default-service or default-batch."`
	TokenNumUses         *int           `json:"token_num_uses" doc:"How often tokens can be used; 0 for no limit."`
	TokenNoDefaultPolicy *bool          `json:"token_no_default_policy" doc:"Tokens do not get the policy default."`
}

// RoleInfo is a role as clients see it.
type RoleInfo struct {
	AllowedEntityAliases []string      `json:"allowed_entity_aliases"`
	AllowedPolicies      []name.Name   `json:"allowed_policies"`
	AllowedGlob          []string      `json:"allowed_policies_glob"`
	BoundCIDRs           []string      `json:"bound_cidrs,omitempty" audit:"clear"`
	DisallowedPolicies   []name.Name   `json:"disallowed_policies"`
	DisallowedGlob       []string      `json:"disallowed_policies_glob"`
	ExplicitMaxTTL       wire.Duration `json:"explicit_max_ttl"`
	Name                 name.Name     `json:"name"`
	Orphan               bool          `json:"orphan"`
	PathSuffix           string        `json:"path_suffix" audit:"clear"`
	Period               wire.Duration `json:"period"`
	Renewable            bool          `json:"renewable"`
	TokenBoundCIDRs      []string      `json:"token_bound_cidrs" audit:"clear"`
	TokenExplicitMaxTTL  wire.Duration `json:"token_explicit_max_ttl"`
	TokenNoDefaultPolicy bool          `json:"token_no_default_policy"`
	TokenNumUses         int           `json:"token_num_uses"`
	TokenPeriod          wire.Duration `json:"token_period"`
	TokenType            string        `json:"token_type" audit:"clear"`
}

// Roles is a list of the names of roles.
type Roles struct {
	Keys []name.Name `json:"keys"`
}

// ReadRole tells what a role says.
var ReadRole = op.Def[roleIn, RoleInfo]{
	Name: "token.read-role", Verb: op.Read, Path: "roles/{role}", Does: "Tell what a role says of tokens.",
}

// PutRole makes a role or changes what is given of it.
var PutRole = op.Def[putRoleIn, op.Empty]{
	Name: "token.put-role", Verb: op.Upsert, Path: "roles/{role}", Does: "Make a role or change it.",
}

// DeleteRole removes a role. Tokens that were created under it live on, and
// cannot be renewed.
var DeleteRole = op.Def[roleIn, op.Empty]{
	Name: "token.delete-role", Verb: op.Delete, Path: "roles/{role}", Does: "Remove a role.",
}

// ListRoles lists the names of roles.
var ListRoles = op.Def[ListIn, Roles]{
	Name: "token.list-roles", Verb: op.List, Path: "roles/", Does: "List the names of roles.",
}

func (t *tokens) roleOps() []op.Op {
	locks := token.RoleLocks()
	return []op.Op{
		ReadRole.With(func(ctx context.Context, _ *op.Call, in roleIn) (RoleInfo, error) {
			r, err := t.store.Role(ctx, in.Role)
			if err != nil {
				return RoleInfo{}, err
			}
			return roleInfo(r), nil
		}),
		PutRole.InTx(t.store.Space(), op.Work[putRoleIn, op.Empty]{
			Locks: func(*op.Call, putRoleIn) storage.Locks { return locks },
			Exists: func(r storage.Reader, _ *op.Call, in putRoleIn) (bool, error) {
				role, err := t.store.RoleTx(r, in.Role)
				return role != nil, err
			},
			Do: func(tx storage.Tx, _ *op.Call, in putRoleIn) (op.Empty, error) {
				role, err := t.store.RoleTx(tx, in.Role)
				if err != nil {
					return op.Empty{}, err
				}
				if role == nil {
					role = &token.Role{Name: in.Role, Renewable: true}
				}
				in.apply(role)
				return op.Empty{}, t.store.PutRole(tx, role)
			},
		}),
		DeleteRole.InTx(t.store.Space(), op.Work[roleIn, op.Empty]{
			Locks: func(*op.Call, roleIn) storage.Locks { return locks },
			Do: func(tx storage.Tx, _ *op.Call, in roleIn) (op.Empty, error) {
				t.store.DeleteRole(tx, in.Role)
				return op.Empty{}, nil
			},
		}),
		ListRoles.With(func(ctx context.Context, _ *op.Call, in ListIn) (Roles, error) {
			names, err := t.store.Roles(ctx)
			if err == nil {
				names, err = part(in, t.limits, names)
			}
			return Roles{names}, err
		}),
	}
}

// set replaces what was given.
func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (in *putRoleIn) apply(r *token.Role) {
	set(&r.Allowed, (*[]name.Name)(in.AllowedPolicies))
	set(&r.Disallowed, (*[]name.Name)(in.DisallowedPolicies))
	set(&r.AllowedGlob, (*[]string)(in.AllowedGlob))
	set(&r.DisallowedGlob, (*[]string)(in.DisallowedGlob))
	set(&r.Orphan, in.Orphan)
	set(&r.Renewable, in.Renewable)
	set(&r.PathSuffix, in.PathSuffix)
	set(&r.EntityAliases, (*[]string)(in.AllowedEntityAliases))
	set(&r.Period, in.Period)
	set(&r.Period, in.TokenPeriod)
	set(&r.ExplicitMax, in.ExplicitMaxTTL)
	set(&r.ExplicitMax, in.TokenExplicitMaxTTL)
	set(&r.BoundCIDRs, (*[]string)(in.BoundCIDRs))
	set(&r.BoundCIDRs, (*[]string)(in.TokenBoundCIDRs))
	set(&r.NumUses, in.TokenNumUses)
	set(&r.NoDefaultPolicy, in.TokenNoDefaultPolicy)
	if in.TokenType != nil {
		// "default" is how some clients say that they do not mind.
		if r.Kind = strings.ToLower(*in.TokenType); r.Kind == "default" {
			r.Kind = token.DefaultService
		}
	}
}

func roleInfo(r *token.Role) RoleInfo {
	return RoleInfo{
		AllowedEntityAliases: r.EntityAliases, AllowedPolicies: r.Allowed, AllowedGlob: r.AllowedGlob, BoundCIDRs: r.BoundCIDRs,
		DisallowedPolicies: r.Disallowed, DisallowedGlob: r.DisallowedGlob, ExplicitMaxTTL: r.ExplicitMax, Name: r.Name,
		Orphan: r.Orphan, PathSuffix: r.PathSuffix, Period: r.Period, Renewable: r.Renewable, TokenBoundCIDRs: r.BoundCIDRs,
		TokenExplicitMaxTTL: r.ExplicitMax, TokenNoDefaultPolicy: r.NoDefaultPolicy, TokenNumUses: r.NumUses,
		TokenPeriod: r.Period, TokenType: r.Kind,
	}
}
