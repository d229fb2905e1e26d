package token

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/policy"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/token"
	"rotunda.dev/rotunda/internal/token/tokentest"
	"rotunda.dev/rotunda/internal/wire"
)

// server runs the engine's operations as a broker does: the caller's token is
// found and its policies are asked.
type server struct {
	*tokentest.Rig
	t        testing.TB
	ops      []op.Op
	policies *policy.Store
}

func newServer(t testing.TB) *server {
	t.Helper()
	r := tokentest.New(t, token.Config{})
	core, err := r.Barrier.Space(t.Context(), barrier.Core)
	ok(t, err)
	policies := policy.NewStore(core, r.Fence, policy.Config{})
	for n, text := range map[name.Name]string{
		"a":    `path "auth/token/*" { capabilities = ["create", "read", "update", "list", "delete"] }`,
		"sudo": `path "auth/token/*" { capabilities = ["create", "read", "update", "list", "delete", "sudo"] }`,
	} {
		ok(t, core.Update(t.Context(), policies.Locks(n), func(tx storage.Tx) error {
			_, err := policies.Put(tx, n, text)
			return err
		}))
	}
	ok(t, policies.EnsureDefaults(t.Context()))
	return &server{r, t, Ops(r.Store, policies, engine.Limits{}, token.Bounds{}), policies}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Run implements [op.Runner].
func (s *server) Run(ctx context.Context, c *op.Call, opName string, src op.Source) (any, error) {
	i := slices.IndexFunc(s.ops, func(o op.Op) bool { return o.Name == opName })
	m, err := s.Arrive(ctx)
	if err != nil {
		return nil, err
	}
	acl, err := s.policies.ACL(ctx, m, c.Caller.Policies)
	if err != nil {
		return nil, err
	}
	return s.ops[i].Run(ctx, c, src, func(a op.Ask) error { return acl.Allow(a).Err() })
}

// as runs an operation with a token.
func as[In, Out any](s *server, text secret.Text, d op.Def[In, Out], in In) (Out, op.Reply, error) {
	s.t.Helper()
	c := s.Call(s.t, text)
	out, err := d.Do(s.t.Context(), s, c, in)
	return out, c.Reply, err
}

// made creates a token, which must succeed.
func (s *server) made(text secret.Text, in createIn) secret.Text {
	s.t.Helper()
	_, reply, err := as(s, text, Create, in)
	ok(s.t, err)
	return reply.Auth.ClientToken
}

func (s *server) wantFault(what string, err error, kind fault.Kind, public string) {
	s.t.Helper()
	if !fault.Is(err, kind) || fault.Public(err) != public {
		s.t.Errorf("%s: error is %v (%v); want %v %q", what, err, fault.KindOf(err), kind, public)
	}
}

func TestPolicyNames(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]name.Name{
		`null`: {}, `""`: {}, `"a,b"`: {"a", "b"}, `"a, B ,"`: {"a", "b"}, `["A","root"]`: {"a", "root"}, `[]`: {},
	} {
		var got Policies
		if err := json.Unmarshal([]byte(text), &got); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		`["ROOT"]`, `["Root"]`, `[" root"]`, `["root "]`, `["root\t"]`, `["ｒｏｏｔ"]`, `["root\u0000"]`, `"rooT,default"`, `["../admin"]`, `["..%2fadmin"]`,
		`["ns2/../admin"]`, `["/admin"]`, `["a//b"]`, `[""]`, `[1]`, `{}`, `true`, `["a","b","c d"]`,
	} {
		var got Policies
		if err := json.Unmarshal([]byte(text), &got); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s = %v, %v; want invalid", text, got, err)
		}
	}
}

func TestCreateAndLookup(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	root := s.Root(t).ClientToken
	_, reply, err := as(s, root, Create, createIn{
		Policies: Policies{"a", "zzz"}, TTL: wire.Duration(time.Hour), Period: wire.Duration(2 * time.Hour), DisplayName: "ci", Meta: wire.Map{"k": "v"},
	})
	if ok(t, err); !slices.Equal(reply.Warnings, []string{`Policy "zzz" does not exist`}) {
		t.Errorf("warnings = %q; want one about zzz", reply.Warnings)
	}
	text := reply.Auth.ClientToken
	got, _, err := as(s, text, ReadSelf, op.Nothing{})
	ok(t, err)
	b, err := json.Marshal(got, json.WithMarshalers(json.MarshalFunc(func(secret.Text) ([]byte, error) { return []byte(`"TOKEN"`), nil })), json.Deterministic(true))
	ok(t, err)
	want := fmt.Sprintf(`{"accessor":%q,"creation_time":1795512600,"creation_ttl":7200,"display_name":"token-ci","entity_id":"","expire_time":"2026-11-24T11:30:00Z",`+
		`"explicit_max_ttl":0,"id":"TOKEN","issue_time":"2026-11-24T09:30:00Z","meta":{"k":"v"},"namespace_path":"","num_uses":0,"orphan":false,"path":"auth/token/create",`+
		`"period":7200,"policies":["a","default","zzz"],"renewable":true,"ttl":7200,"type":"service"}`, reply.Auth.Accessor)
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("lookup-self (-want +got):\n%s", diff)
	}
	if !got.ID.Equal(text) {
		t.Error("the id of lookup-self is not the token")
	}
	info, _, err := as(s, root, ReadSelf, op.Nothing{})
	if ok(t, err); info.ExpireTime != nil || info.TTL != 0 || info.Meta != nil || !info.Orphan {
		t.Errorf("lookup-self of root = %+v; want that it never expires", info)
	}
	bare := s.made(root, createIn{Policies: Policies{"a"}, NoDefaultPolicy: true})
	for what, look := range map[string]func() (Info, op.Reply, error){
		"lookup":          func() (Info, op.Reply, error) { return as(s, root, Lookup, tokenIn{Token: text}) },
		"lookup-self":     func() (Info, op.Reply, error) { return as(s, bare, LookupSelf, tokenIn{Token: root}) },
		"lookup by GET":   func() (Info, op.Reply, error) { return as(s, text, Read, tokenIn{}) },
		"lookup-accessor": func() (Info, op.Reply, error) { return as(s, root, LookupAccessor, accessorIn{got.Accessor}) },
	} {
		again, _, err := look()
		if what == "lookup-accessor" && !again.ID.Empty() {
			t.Error("lookup-accessor answers the token")
		}
		if err != nil || what != "lookup-self" && again.Accessor != got.Accessor {
			t.Errorf("%s = %+v, %v; want the same", what, again, err)
		}
	}
	_, _, err = as(s, root, Lookup, tokenIn{Token: secret.New("nothing")})
	s.wantFault("lookup", err, fault.Denied, "bad token")
	_, _, err = as(s, root, LookupAccessor, accessorIn{"nothing"})
	s.wantFault("lookup-accessor", err, fault.Denied, "invalid accessor")
	_, _, err = as(s, root, LookupAccessor, accessorIn{})
	s.wantFault("lookup-accessor", err, fault.Invalid, "missing accessor")
	keys, _, err := as(s, root, ListAccessors, ListIn{})
	if ok(t, err); len(keys.Keys) != 3 || !slices.Contains(keys.Keys, got.Accessor) {
		t.Errorf("accessors = %v; want three", keys)
	}
	_, _, err = as(s, text, ListAccessors, ListIn{})
	s.wantFault("accessors without sudo", err, fault.Denied, "permission denied")
}

func TestParts(t *testing.T) {
	t.Parallel()
	list := []name.Name{"a", "c", "e"}
	for _, c := range []struct {
		in   ListIn
		want []name.Name
	}{
		{ListIn{}, list},
		{ListIn{Limit: 2}, list[:2]},
		{ListIn{After: "a"}, list[1:]},
		{ListIn{After: "b", Limit: 1}, list[1:2]},
		{ListIn{After: "e"}, list[3:]},
		{ListIn{After: "z"}, list[3:]},
		{ListIn{Limit: 9}, list},
	} {
		if got, err := part(c.in, engine.Limits{}.WithDefaults(), list); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("part(%+v) = %v, %v; want %v", c.in, got, err, c.want)
		}
	}
}

func TestSudoDecides(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	root := s.Root(t).ClientToken
	user := s.made(root, createIn{Policies: Policies{"a"}})
	admin := s.made(root, createIn{Policies: Policies{"sudo"}})
	for what, in := range map[string]createIn{
		"other policies": {Policies: Policies{"other"}},
		"an orphan":      {NoParent: true},
		"a period":       {Period: wire.Duration(time.Hour)},
	} {
		if _, _, err := as(s, user, Create, in); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s by a user: %v; want invalid", what, err)
		}
		if _, _, err := as(s, admin, Create, in); err != nil {
			t.Errorf("%s by one with sudo: %v", what, err)
		}
	}
	_, _, err := as(s, admin, Create, createIn{Policies: Policies{"root"}})
	s.wantFault("root by sudo", err, fault.Invalid, "root tokens may not be created without parent token being root")
	_, reply, err := as(s, user, CreateOrphan, createIn{})
	if ok(t, err); !reply.Auth.Orphan {
		t.Error("create-orphan makes a child")
	}
	_, _, err = as(s, user, RevokeOrphan, revokeIn{user})
	s.wantFault("revoke-orphan without sudo", err, fault.Denied, "permission denied")
}

func TestRenewOps(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	root := s.Root(t).ClientToken
	no := false
	text := s.made(root, createIn{Policies: Policies{"a"}, TTL: wire.Duration(time.Hour), ExplicitMaxTTL: wire.Duration(3 * time.Hour)})
	fixed := s.made(root, createIn{Policies: Policies{"a"}, Renewable: &no})
	batch := s.made(root, createIn{Policies: Policies{"a"}, Type: "batch"})
	info, _, err := as(s, text, ReadSelf, op.Nothing{})
	ok(t, err)
	s.Clock.Advance(30 * time.Minute)
	hour := wire.Duration(time.Hour)
	for what, renew := range map[string]func() (op.Empty, op.Reply, error){
		"renew":      func() (op.Empty, op.Reply, error) { return as(s, root, Renew, renewIn{text, hour}) },
		"renew, own": func() (op.Empty, op.Reply, error) { return as(s, text, Renew, renewIn{Increment: hour}) },
		"renew-self": func() (op.Empty, op.Reply, error) { return as(s, text, RenewSelf, renewSelfIn{Increment: hour}) },
		"renew-accessor": func() (op.Empty, op.Reply, error) {
			return as(s, root, RenewAccessor, renewAccessorIn{info.Accessor, hour})
		},
	} {
		_, reply, err := renew()
		if err != nil || reply.Auth.TTL != time.Hour || reply.Auth.Accessor != info.Accessor {
			t.Errorf("%s = %+v, %v; want an hour", what, reply.Auth, err)
		} else if own := reply.Auth.ClientToken; what == "renew-accessor" && !own.Empty() || what != "renew-accessor" && !own.Equal(text) {
			t.Errorf("%s answers another token", what)
		}
	}
	_, reply, err := as(s, text, RenewSelf, renewSelfIn{Increment: wire.Duration(100 * time.Hour)})
	if ok(t, err); reply.Auth.TTL != 150*time.Minute || !strings.HasPrefix(reply.Warnings[0], `TTL of "100h0m0s" exceeded`) {
		t.Errorf("renew-self = %v, %q; want what is left of three hours and a warning", reply.Auth.TTL, reply.Warnings)
	}
	if info, _, err := as(s, text, ReadSelf, op.Nothing{}); err != nil || info.LastRenewal == nil || info.LastRenewalTime == 0 {
		t.Errorf("lookup-self = %+v, %v; want the last renewal", info, err)
	}
	_, _, err = as(s, fixed, RenewSelf, renewSelfIn{})
	s.wantFault("not renewable", err, fault.Invalid, "lease is not renewable")
	_, _, err = as(s, root, RenewSelf, renewSelfIn{})
	s.wantFault("root", err, fault.Invalid, "lease is not renewable")
	_, _, err = as(s, batch, RenewSelf, renewSelfIn{})
	s.wantFault("batch", err, fault.Invalid, "batch tokens cannot be renewed")
	_, _, err = as(s, root, Renew, renewIn{Token: batch})
	s.wantFault("batch", err, fault.Invalid, "batch tokens cannot be renewed")
	_, _, err = as(s, root, Renew, renewIn{Token: secret.New("x")})
	s.wantFault("unknown", err, fault.Denied, "bad token")
	_, _, err = as(s, root, RenewAccessor, renewAccessorIn{Accessor: "x"})
	s.wantFault("unknown", err, fault.Denied, "invalid accessor")
}

func TestRevokeOps(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	root := s.Root(t).ClientToken
	pair := func() (parent, child secret.Text, accessor string) {
		t.Helper()
		_, reply, err := as(s, root, Create, createIn{Policies: Policies{"a"}})
		ok(t, err)
		return reply.Auth.ClientToken, s.made(reply.Auth.ClientToken, createIn{}), reply.Auth.Accessor
	}
	dead := func(what string, texts ...secret.Text) {
		t.Helper()
		for i, text := range texts {
			if _, err := s.Lookup(text); !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("%s: token %d is found: %v", what, i, err)
			}
		}
	}
	p, c, _ := pair()
	_, _, err := as(s, root, Revoke, revokeIn{p})
	ok(t, err)
	dead("revoke", p, c)
	_, _, err = as(s, root, Revoke, revokeIn{p})
	ok(t, err)
	id := secret.New("chosen")
	for range 2 {
		s.made(root, createIn{ID: id, Policies: Policies{"a"}})
		c = s.made(id, createIn{})
		_, _, err = as(s, id, Renew, renewIn{Token: id})
		ok(t, err)
		_, _, err = as(s, root, Revoke, revokeIn{id})
		ok(t, err)
		dead("revoke of a chosen id", id, c)
	}
	p, c, _ = pair()
	_, _, err = as(s, p, RevokeSelf, op.Nothing{})
	ok(t, err)
	dead("revoke-self", p, c)
	p, c, accessor := pair()
	_, reply, err := as(s, root, RevokeAccessor, accessorIn{accessor})
	if ok(t, err); len(reply.Warnings) != 0 {
		t.Errorf("revoke-accessor warns: %q", reply.Warnings)
	}
	dead("revoke-accessor", p, c)
	_, reply, err = as(s, root, RevokeAccessor, accessorIn{accessor})
	if ok(t, err); !slices.Equal(reply.Warnings, []string{"No token found with this accessor"}) {
		t.Errorf("warnings = %q", reply.Warnings)
	}
	p, c, _ = pair()
	_, _, err = as(s, root, RevokeOrphan, revokeIn{p})
	ok(t, err)
	dead("revoke-orphan", p)
	s.Settled(t)
	info, _, err := as(s, c, ReadSelf, op.Nothing{})
	if err != nil || !info.Orphan {
		t.Errorf("child after revoke-orphan: %+v, %v; want an orphan", info, err)
	}
	_, _, err = as(s, root, RevokeOrphan, revokeIn{p})
	s.wantFault("revoke-orphan again", err, fault.Invalid, "token to revoke not found")
	batch := s.made(root, createIn{Policies: Policies{"a"}, Type: "batch"})
	_, _, err = as(s, root, Revoke, revokeIn{batch})
	s.wantFault("batch", err, fault.Invalid, "batch tokens cannot be revoked")
	_, _, err = as(s, batch, RevokeSelf, op.Nothing{})
	s.wantFault("batch", err, fault.Invalid, "batch tokens cannot be revoked")
	_, _, err = as(s, batch, Create, createIn{})
	s.wantFault("batch", err, fault.Invalid, "batch tokens cannot create more tokens")
	if info, _, err := as(s, batch, ReadSelf, op.Nothing{}); err != nil || info.Type != "batch" || info.ExpireTime == nil {
		t.Errorf("lookup-self of a batch token = %+v, %v", info, err)
	}
	_, reply, err = as(s, root, Tidy, op.Nothing{})
	if ok(t, err); reply.Status != 202 || len(reply.Warnings) != 1 {
		t.Errorf("tidy = %+v; want 202 and a warning", reply)
	}
}

func TestRoleOps(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	root := s.Root(t).ClientToken
	_, _, err := as(s, root, ListRoles, ListIn{})
	s.wantFault("no roles", err, fault.NotFound, "")
	_, _, err = as(s, root, ReadRole, roleIn{"app"})
	s.wantFault("no role", err, fault.NotFound, "")
	minute, kind, yes, uses := wire.Duration(90*time.Second), "service", true, 4
	_, _, err = as(s, root, PutRole, putRoleIn{
		Role: "app", AllowedPolicies: &Policies{"b", "a"}, TokenPeriod: &minute, TokenType: &kind, Orphan: &yes, TokenNumUses: &uses,
		AllowedGlob: &wire.Strings{"x-*"}, TokenBoundCIDRs: &wire.Strings{"10.0.0.0/8"},
	})
	ok(t, err)
	suffix := "v2"
	_, _, err = as(s, root, PutRole, putRoleIn{Role: "app", PathSuffix: &suffix})
	ok(t, err)
	got, _, err := as(s, root, ReadRole, roleIn{"app"})
	ok(t, err)
	want := RoleInfo{
		AllowedPolicies: []name.Name{"b", "a"}, AllowedGlob: []string{"x-*"}, BoundCIDRs: []string{"10.0.0.0/8"}, Name: "app", Orphan: true, PathSuffix: "v2",
		Period: minute, Renewable: true, TokenBoundCIDRs: []string{"10.0.0.0/8"}, TokenNumUses: 4, TokenPeriod: minute, TokenType: "service",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("role (-want +got):\n%s", diff)
	}
	_, reply, err := as(s, root, CreateWithRole, createRoleIn{Role: "app"})
	if ok(t, err); reply.Auth.TTL != 90*time.Second || !reply.Auth.Orphan || !slices.Equal(reply.Auth.Policies, []name.Name{"a", "b", "default"}) {
		t.Errorf("create/app = %+v; want as the role says", reply.Auth)
	}
	_, _, err = as(s, root, PutRole, putRoleIn{Role: "bad", AllowedPolicies: &Policies{"root"}})
	s.wantFault("role with root", err, fault.Invalid, "the root policy cannot be assigned")
	names, _, err := as(s, root, ListRoles, ListIn{})
	if ok(t, err); !slices.Equal(names.Keys, []name.Name{"app"}) {
		t.Errorf("roles = %v", names)
	}
	_, _, err = as(s, root, DeleteRole, roleIn{"app"})
	ok(t, err)
	_, _, err = as(s, root, CreateWithRole, createRoleIn{Role: "app"})
	s.wantFault("create/app", err, fault.Invalid, "unknown role app")
}
