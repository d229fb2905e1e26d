package system

import (
	"context"
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/policy"
	"rotunda.dev/rotunda/internal/storage"
)

// PolicyIn names a policy.
type PolicyIn struct {
	Name name.Name `path:"name" doc:"Name of the policy; upper case is folded."`
}

// PolicyOut is a policy and nothing else: there are clients that compare it whole.
type PolicyOut struct {
	Name   name.Name `json:"name" doc:"Name of the policy."`
	Policy string    `json:"policy" doc:"Its text; that of root is empty."`
}

// PolicyRules is a [PolicyOut] in the older spelling.
type PolicyRules struct {
	Name  name.Name `json:"name" doc:"Name of the policy."`
	Rules string    `json:"rules" doc:"Its text; that of root is empty."`
}

// PutPolicyIn is a policy to be kept.
type PutPolicyIn struct {
	Name   name.Name `path:"name" doc:"Name of the policy; upper case is folded."`
	Policy string    `json:"policy" doc:"The policy in HCL or JSON, as it is or in base64."`
	Rules  string    `json:"rules" doc:"The older spelling of policy."`
}

// PolicyListIn asks for a page of names.
type PolicyListIn struct {
	After string `query:"after" audit:"clear" doc:"Names beyond this one."`
	Limit int    `query:"limit" doc:"How many names; 0 is all."`
}

// Validate refuses a limit below zero.
func (in PolicyListIn) Validate() error {
	if in.Limit < 0 {
		return fault.New(fault.Invalid, "limit must not be negative")
	}
	return nil
}

// PolicyListOut is the names of policies.
type PolicyListOut struct {
	Keys []name.Name `json:"keys" doc:"The names, in order."`
}

// PolicyNamesOut is a [PolicyListOut] as older clients expect it.
type PolicyNamesOut struct {
	Keys     []name.Name `json:"keys" doc:"The names, in order."`
	Policies []name.Name `json:"policies" doc:"The same."`
}

// The operations on policies. Those on policy/ are the older spelling.
var (
	ListPolicies = op.Def[PolicyListIn, PolicyListOut]{
		Name: "system.policy.list", Verb: op.List, Path: "policies/acl", Does: "List the names of the policies.",
	}
	ReadPolicies = op.Def[PolicyListIn, PolicyListOut]{
		Name: "system.policy.names", Verb: op.Read, Path: "policies/acl", Does: "List the names of the policies.", Hidden: true,
	}
	ReadPolicy = op.Def[PolicyIn, PolicyOut]{
		Name: "system.policy.read", Verb: op.Read, Path: "policies/acl/{name}", Does: "Read a policy.",
	}
	PutPolicy = op.Def[PutPolicyIn, op.Empty]{
		Name: "system.policy.write", Verb: op.Update, Path: "policies/acl/{name}", Does: "Keep a policy; it counts for the next request.",
	}
	DeletePolicy = op.Def[PolicyIn, op.Empty]{
		Name: "system.policy.delete", Verb: op.Delete, Path: "policies/acl/{name}", Does: "Delete a policy; default and root cannot be.",
	}
	listRules = op.Def[PolicyListIn, PolicyNamesOut]{
		Name: "system.policy.rules.list", Verb: op.List, Path: "policy", Shape: op.Injected, Does: "List the names of the policies.", Hidden: true,
	}
	readRulesNames = op.Def[PolicyListIn, PolicyNamesOut]{
		Name: "system.policy.rules.names", Verb: op.Read, Path: "policy", Shape: op.Injected, Does: "List the names of the policies.", Hidden: true,
	}
	readRules = op.Def[PolicyIn, PolicyRules]{
		Name: "system.policy.rules.read", Verb: op.Read, Path: "policy/{name}", Shape: op.Injected, Does: "Read a policy.", Hidden: true,
	}
	putRules = op.Def[PutPolicyIn, op.Empty]{
		Name: "system.policy.rules.write", Verb: op.Update, Path: "policy/{name}", Does: "Keep a policy; it counts for the next request.", Hidden: true,
	}
	deleteRules = op.Def[PolicyIn, op.Empty]{
		Name: "system.policy.rules.delete", Verb: op.Delete, Path: "policy/{name}", Does: "Delete a policy; default and root cannot be.", Hidden: true,
	}
)

func policyOps(p Parts) []op.Op {
	list := func(ctx context.Context, in PolicyListIn) (keys []name.Name, err error) {
		if err := p.Limits.WithDefaults().Page(in.Limit); err != nil {
			return nil, err
		}
		err = p.Core.View(ctx, func(r storage.Reader) error {
			keys, _, err = p.Policies.List(r, name.Name(strings.ToLower(in.After)), in.Limit)
			return err
		})
		if err == nil && len(keys) == 0 {
			return nil, fault.New(fault.NotFound, "")
		}
		return keys, err
	}
	read := func(ctx context.Context, in PolicyIn) (got *policy.Policy, err error) {
		err = p.Core.View(ctx, func(r storage.Reader) error {
			got, err = p.Policies.Get(r, in.Name)
			return err
		})
		return got, err
	}
	keys := func(ctx context.Context, _ *op.Call, in PolicyListIn) (PolicyListOut, error) {
		names, err := list(ctx, in)
		return PolicyListOut{names}, err
	}
	both := func(ctx context.Context, _ *op.Call, in PolicyListIn) (PolicyNamesOut, error) {
		names, err := list(ctx, in)
		return PolicyNamesOut{names, names}, err
	}
	put := op.Work[PutPolicyIn, op.Empty]{
		Locks: func(_ *op.Call, in PutPolicyIn) storage.Locks { return p.Policies.Locks(in.Name) },
		Do: func(tx storage.Tx, c *op.Call, in PutPolicyIn) (op.Empty, error) {
			text, err := textOf(in)
			if err != nil {
				return op.Empty{}, err
			}
			kept, err := p.Policies.Put(tx, in.Name, text)
			if err != nil {
				return op.Empty{}, err
			}
			for _, w := range kept.Warnings {
				c.Warn("%s", w)
			}
			return op.Empty{}, nil
		},
	}
	drop := op.Work[PolicyIn, op.Empty]{
		Locks: func(_ *op.Call, in PolicyIn) storage.Locks { return p.Policies.Locks(in.Name) },
		Do: func(tx storage.Tx, _ *op.Call, in PolicyIn) (op.Empty, error) {
			return op.Empty{}, p.Policies.Delete(tx, in.Name)
		},
	}
	return []op.Op{
		ListPolicies.With(keys), ReadPolicies.With(keys),
		ReadPolicy.With(func(ctx context.Context, _ *op.Call, in PolicyIn) (PolicyOut, error) {
			got, err := read(ctx, in)
			if err != nil {
				return PolicyOut{}, err
			}
			return PolicyOut{in.Name, got.Text}, nil
		}),
		PutPolicy.InTx(p.Core, put), DeletePolicy.InTx(p.Core, drop),
		listRules.With(both), readRulesNames.With(both),
		readRules.With(func(ctx context.Context, _ *op.Call, in PolicyIn) (PolicyRules, error) {
			got, err := read(ctx, in)
			if err != nil {
				return PolicyRules{}, err
			}
			return PolicyRules{in.Name, got.Text}, nil
		}),
		putRules.InTx(p.Core, put), deleteRules.InTx(p.Core, drop),
	}
}

// textOf returns the policy that in holds, under either name, as it is or in
// base64. What is base64 is never a policy, which has a brace or a quote.
func textOf(in PutPolicyIn) (string, error) {
	text := in.Policy
	if text == "" {
		text = in.Rules
	}
	if strings.TrimSpace(text) == "" {
		return "", fault.New(fault.Invalid, "'policy' parameter not supplied or empty")
	}
	if plain, err := base64.StdEncoding.DecodeString(text); err == nil && utf8.Valid(plain) {
		return string(plain), nil
	}
	return text, nil
}
