package system

import (
	"context"
	"encoding/base64"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/mount"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/policy"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/token"
	"rotunda.dev/rotunda/internal/token/tokentest"
	"rotunda.dev/rotunda/internal/wire"
)

// policyRig runs the operations on policies as a broker does.
type policyRig struct {
	*tokentest.Rig
	t     testing.TB
	parts Parts
}

type protectedIn struct {
	Name name.Name `path:"name"`
}

func newPolicyRig(t testing.TB) *policyRig {
	t.Helper()
	r := &policyRig{Rig: tokentest.New(t, token.Config{}), t: t}
	core, err := r.Barrier.Space(t.Context(), barrier.Core)
	if err != nil {
		t.Fatal(err)
	}
	r.parts = Parts{Barrier: r.Barrier, Core: core, Fence: r.Fence, Policies: policy.NewStore(core, r.Fence, policy.Config{}), Tokens: r.Store, Clock: r.Clock}
	if err := r.parts.Policies.EnsureDefaults(t.Context()); err != nil {
		t.Fatal(err)
	}
	protected := op.Def[protectedIn, op.Empty]{Name: "test.protected", Verb: op.Update, Path: "protected/{name}", Does: "Need sudo.", Sudo: true}.With(
		func(context.Context, *op.Call, protectedIn) (op.Empty, error) {
			t.Error("an explanation ran the operation")
			return op.Empty{}, nil
		})
	r.parts.Mounts = mount.NewTable(mount.Parts{
		Barrier: r.Barrier, Core: core, Fence: r.Fence, Clock: r.Clock, Log: slog.New(slog.DiscardHandler),
		Kinds: []engine.Kind{{Name: "system", Does: "Test.", Fixed: true, Open: func(context.Context, engine.Env) (engine.Instance, error) {
			return engine.Instance{Ops: append(r.ops(), protected)}, nil
		}}},
	})
	err = core.Update(t.Context(), storage.Locks{Own: []string{mount.Scope}}, func(tx storage.Tx) error {
		e := mount.NewEntry("sys/", "system")
		e.Fixed = true
		return mount.Add(tx, e)
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *policyRig) ops() []op.Op { return append(policyOps(r.parts), capabilityOps(r.parts)...) }

// Run implements [op.Runner].
func (r *policyRig) Run(ctx context.Context, c *op.Call, opName string, src op.Source) (any, error) {
	ops := r.ops()
	i := slices.IndexFunc(ops, func(o op.Op) bool { return o.Name == opName })
	m, err := r.Arrive(ctx)
	if err != nil {
		return nil, err
	}
	acl, err := r.parts.Policies.ACL(ctx, m, c.Caller.Policies)
	if err != nil {
		return nil, err
	}
	c.May = acl.May
	c.Sudo = func(v op.Verb, resource string) bool {
		return acl.Allow(op.Ask{Verb: v, Resource: resource, Sudo: true}).Allowed
	}
	return ops[i].Run(ctx, c, src, func(a op.Ask) error { return acl.Allow(a).Err() })
}

func policyDo[In, Out any](r *policyRig, text secret.Text, d op.Def[In, Out], in In) (Out, op.Reply, error) {
	r.t.Helper()
	c := r.Call(r.t, text)
	c.Mount = op.Mount{Path: "sys/", Kind: "system"}
	out, err := d.Do(r.t.Context(), r, c, in)
	return out, c.Reply, err
}

func (r *policyRig) put(text secret.Text, n name.Name, rules string) {
	r.t.Helper()
	if _, _, err := policyDo(r, text, PutPolicy, PutPolicyIn{Name: n, Policy: rules}); err != nil {
		r.t.Fatalf("PutPolicy(%s) = %v", n, err)
	}
}

func (r *policyRig) holder(policies ...name.Name) op.Grant {
	r.t.Helper()
	g, err := r.Issue(r.t.Context(), r.Clock.Now(), token.Spec{DisplayName: "test", Path: "auth/test/login", Policies: policies})
	if err != nil {
		r.t.Fatal(err)
	}
	return g
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	r := newPolicyRig(t)
	root := r.Root(t).ClientToken
	const text = `path "secret/*" { capabilities = ["read"] }`
	r.put(root, "dev", text)
	r.put(root, "b64", base64.StdEncoding.EncodeToString([]byte(text)))
	if _, _, err := policyDo(r, root, putRules, PutPolicyIn{Name: "old", Rules: text}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []name.Name{"dev", "b64", "old"} {
		got, _, err := policyDo(r, root, ReadPolicy, PolicyIn{Name: n})
		if err != nil || got != (PolicyOut{n, text}) {
			t.Errorf("ReadPolicy(%s) = %+v, %v; want its text", n, got, err)
		}
		older, _, err := policyDo(r, root, readRules, PolicyIn{Name: n})
		if err != nil || older != (PolicyRules{n, text}) {
			t.Errorf("readRules(%s) = %+v, %v; want its text", n, older, err)
		}
	}
	all := []name.Name{"b64", "default", "dev", "old", "root"}
	if got, _, err := policyDo(r, root, ListPolicies, PolicyListIn{}); err != nil || !slices.Equal(got.Keys, all) {
		t.Errorf("ListPolicies = %v, %v; want %v", got, err, all)
	}
	if got, _, err := policyDo(r, root, listRules, PolicyListIn{}); err != nil || !slices.Equal(got.Keys, all) || !slices.Equal(got.Policies, all) {
		t.Errorf("listRules = %v, %v; want %v", got, err, all)
	}
	if got, _, err := policyDo(r, root, ListPolicies, PolicyListIn{After: "default", Limit: 2}); err != nil || !slices.Equal(got.Keys, all[2:4]) {
		t.Errorf("ListPolicies(after default, 2) = %v, %v; want %v", got, err, all[2:4])
	}
	if _, _, err := policyDo(r, root, DeletePolicy, PolicyIn{Name: "old"}); err != nil {
		t.Errorf("DeletePolicy = %v", err)
	}
	if _, _, err := policyDo(r, root, ReadPolicy, PolicyIn{Name: "old"}); !fault.Is(err, fault.NotFound) || fault.Public(err) != "" {
		t.Errorf("ReadPolicy of what was deleted = %v; want NotFound that says nothing", err)
	}
	if got, _, err := policyDo(r, root, ReadPolicy, PolicyIn{Name: name.Root}); err != nil || got.Policy != "" {
		t.Errorf("ReadPolicy(root) = %+v, %v; want no text", got, err)
	}
	for _, n := range []name.Name{name.Root, "default"} {
		if _, _, err := policyDo(r, root, DeletePolicy, PolicyIn{Name: n}); !fault.Is(err, fault.Invalid) {
			t.Errorf("DeletePolicy(%s) = %v; want Invalid", n, err)
		}
	}
	for what, in := range map[string]PutPolicyIn{"empty": {Name: "x"}, "malformed": {Name: "x", Policy: "path {"}, "root": {Name: name.Root, Policy: text}} {
		if _, _, err := policyDo(r, root, PutPolicy, in); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: PutPolicy = %v; want Invalid", what, err)
		}
	}
	if _, reply, err := policyDo(r, root, PutPolicy, PutPolicyIn{Name: "x", Policy: `path "a" {}`}); err != nil || len(reply.Warnings) != 1 {
		t.Errorf("PutPolicy = %v, warnings %q; want one warning", err, reply.Warnings)
	}
	dev := r.holder("dev", "default").ClientToken
	if _, _, err := policyDo(r, dev, ReadPolicy, PolicyIn{Name: "dev"}); !fault.Is(err, fault.Denied) {
		t.Errorf("ReadPolicy by who may not = %v; want Denied", err)
	}
}

func TestCapabilityOps(t *testing.T) {
	t.Parallel()
	r := newPolicyRig(t)
	root := r.Root(t).ClientToken
	r.put(root, "dev", `path "secret/*" { capabilities = ["update", "read"] } path "secret/+/x" { capabilities = ["deny"] } path "exact" { capabilities = ["list"] }`)
	dev := r.holder("dev", "default")
	want := CapabilitiesOut{"secret/a": {"read", "update"}, "nothing": {"deny"}}
	ask := wire.Strings{"secret/a", "nothing"}
	for what, got := range map[string]func() (CapabilitiesOut, op.Reply, error){
		"token": func() (CapabilitiesOut, op.Reply, error) {
			return policyDo(r, root, Capabilities, CapabilitiesIn{Token: dev.ClientToken, Paths: ask})
		},
		"accessor": func() (CapabilitiesOut, op.Reply, error) {
			return policyDo(r, root, CapabilitiesAccessor, CapabilitiesAccessorIn{Accessor: dev.Accessor, Path: ask})
		},
		"self": func() (CapabilitiesOut, op.Reply, error) {
			return policyDo(r, dev.ClientToken, CapabilitiesSelf, CapabilitiesSelfIn{Token: root, Path: ask})
		},
	} {
		out, _, err := got()
		if err != nil || !reflect.DeepEqual(out, want) {
			t.Errorf("%s: %v, %v; want %v", what, out, err, want)
		}
	}
	one, _, err := policyDo(r, root, CapabilitiesSelf, CapabilitiesSelfIn{Path: wire.Strings{"/secret/a"}})
	if err != nil || !reflect.DeepEqual(one, CapabilitiesOut{"/secret/a": {"root"}, "capabilities": {"root"}}) {
		t.Errorf("CapabilitiesSelf of root = %v, %v; want root, also as capabilities", one, err)
	}
	for what, in := range map[string]CapabilitiesSelfIn{"none": {}, "dots": {Path: wire.Strings{"a/../b"}}, "many": {Paths: make(wire.Strings, 129)}} {
		if _, _, err := policyDo(r, dev.ClientToken, CapabilitiesSelf, in); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: CapabilitiesSelf = %v; want Invalid", what, err)
		}
	}
	if _, _, err := policyDo(r, root, Capabilities, CapabilitiesIn{Token: secret.New("hvs.nothing"), Paths: ask}); !fault.Is(err, fault.Invalid) {
		t.Errorf("Capabilities of an unknown token = %v; want Invalid", err)
	}
	if _, _, err := policyDo(r, dev.ClientToken, Capabilities, CapabilitiesIn{Token: root, Paths: ask}); !fault.Is(err, fault.Denied) {
		t.Errorf("Capabilities by who may not = %v; want Denied", err)
	}
	out, _, err := policyDo(r, dev.ClientToken, ResultantACL, op.Nothing{})
	if err != nil || out.Root || !slices.Equal(out.GlobPaths["secret/"].Capabilities, []string{"read", "update"}) ||
		!slices.Equal(out.ExactPaths["exact"].Capabilities, []string{"list"}) || !slices.Equal(out.ExactPaths["secret/+/x"].Capabilities, []string{"deny"}) {
		t.Errorf("ResultantACL = %+v, %v", out, err)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	r := newPolicyRig(t)
	root := r.Root(t).ClientToken
	r.put(root, "dev", `path "sys/protected/*" { capabilities = ["update"] } path "kv/*" { capabilities = ["update"] allowed_parameters = { "a" = [1] } } path "kv/secret" { capabilities = ["deny"] }`)
	dev := r.holder("dev", "default")
	got, _, err := policyDo(r, dev.ClientToken, Explain, ExplainIn{Path: "sys/protected/UPPER", Verb: "update"})
	if err != nil || got.Allowed || !got.Sudo || got.Path != "sys/protected/upper" || !slices.Equal(got.Missing, []string{"sudo"}) || got.Rule != "" || got.Rules != nil {
		t.Errorf("Explain = %+v, %v; want sudo missing at the path that is asked about, and no rule", got, err)
	}
	added, err := policy.Parse(got.Stanza)
	if err != nil || !policy.Compile(added).Allow(op.Ask{Verb: op.Update, Resource: "sys/protected/upper", Sudo: true}).Allowed {
		t.Errorf("Explain.Stanza = %s, %v; want a rule that gives it", got.Stanza, err)
	}
	got, _, err = policyDo(r, dev.ClientToken, Explain, ExplainIn{Path: "kv/x", Verb: "update", Parameters: secret.NewJSON([]byte(`{"a": 2}`))})
	if err != nil || got.Allowed || !strings.Contains(got.Needed, `"a"`) || got.Note != "" {
		t.Errorf("Explain with a parameter = %+v, %v; want what is wrong with it, and no word of what is mounted", got, err)
	}
	if got, _, err = policyDo(r, dev.ClientToken, Explain, ExplainIn{Path: "kv/x", Verb: "update", Parameters: secret.NewJSON([]byte(`{"a": "1"}`))}); err != nil || !got.Allowed || got.Needed != "" || got.Note == "" {
		t.Errorf("Explain with a parameter = %+v, %v; want it allowed, and that nothing is mounted", got, err)
	}
	if got, _, err = policyDo(r, dev.ClientToken, Explain, ExplainIn{Path: "kv/x", Verb: "read"}); err != nil || !strings.Contains(got.Stanza, `["read", "update"]`) {
		t.Errorf("Explain = %+v, %v; want a rule that keeps what is given already", got, err)
	}
	for what, in := range map[string]ExplainIn{"details": {Path: "kv/x", Details: true}, "token": {Path: "kv/x", Token: root}, "accessor": {Path: "kv/x", Accessor: dev.Accessor}} {
		if _, _, err := policyDo(r, dev.ClientToken, Explain, in); !fault.Is(err, fault.Denied) {
			t.Errorf("%s: Explain = %v; want Denied", what, err)
		}
	}
	for what, in := range map[string]ExplainIn{"verb": {Path: "a", Verb: "eat"}, "path": {Path: ""}, "parameters": {Path: "a", Parameters: secret.NewJSON([]byte(`[]`))}} {
		if _, _, err := policyDo(r, dev.ClientToken, Explain, in); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: Explain = %v; want Invalid", what, err)
		}
	}
	got, _, err = policyDo(r, root, Explain, ExplainIn{Path: "kv/secret", Verb: "read", Accessor: dev.Accessor})
	if err != nil || got.Allowed || got.Policy != "dev" || len(got.Rules) != 2 || !got.Rules[0].Decided || !strings.Contains(got.Reason, "denies") {
		t.Errorf("Explain of another's = %+v, %v; want the rules of dev", got, err)
	}
	if d := cmp.Diff([]name.Name{"default", "dev"}, got.Policies); d != "" {
		t.Errorf("Explain of another's: policies %s", d)
	}
	got, _, err = policyDo(r, root, Explain, ExplainIn{Path: "kv/x", Capability: "sudo", Policies: wire.Strings{"Dev", "none"}})
	if err != nil || got.Allowed || !slices.Equal(got.Missing, []string{"sudo"}) || len(got.Rules) != 1 {
		t.Errorf("Explain of policies = %+v, %v; want sudo missing", got, err)
	}
	if _, _, err = policyDo(r, dev.ClientToken, Explain, ExplainIn{Path: "kv/x", Policies: wire.Strings{"dev"}}); !fault.Is(err, fault.Denied) {
		t.Errorf("Explain of policies by who may not = %v; want Denied", err)
	}
	got, _, err = policyDo(r, dev.ClientToken, Explain, ExplainIn{Path: "a/b", Policy: `path "a/*" { capabilities = ["read"] }`})
	if err != nil || !got.Allowed || len(got.Rules) != 1 || got.Rules[0].Path != "a/*" {
		t.Errorf("Explain of a text = %+v, %v; want it allowed by its rule", got, err)
	}
	got, _, err = policyDo(r, root, Explain, ExplainIn{Path: "sys/nothing", Details: true})
	if err != nil || !got.Allowed || got.Policy != name.Root || got.Note == "" {
		t.Errorf("Explain of root = %+v, %v; want it allowed by root, and that there is no such path", got, err)
	}
}
