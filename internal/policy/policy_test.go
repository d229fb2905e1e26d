package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/policy"
)

func mustParse(t testing.TB, n name.Name, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse(text)
	if err != nil {
		t.Fatalf("Parse(%s) = %v", text, err)
	}
	p.Name = n
	return p
}

func TestParseForms(t *testing.T) {
	t.Parallel()
	const want = "path \"secret/*\" {\n  capabilities = [\"list\", \"read\"]\n}\n"
	for form, text := range map[string]string{
		"plain":             `path "secret/*" { capabilities = ["read", "list"] }`,
		"leading slash":     `path "/secret/*" { capabilities = ["read", "list"] }`,
		"two on a line":     `path "secret/*" { capabilities = ["read", "list"] comment = "x" }`,
		"quoted keys":       `"path" "secret/*" { "capabilities" = ["read", "list"] }`,
		"with a name":       "name = \"dev\"\npath \"secret/*\" { capabilities = [\"read\", \"list\"] }",
		"shorthand":         `path "secret/*" { policy = "read" }`,
		"JSON":              `{"path": {"secret/*": {"capabilities": ["read", "list"]}}}`,
		"JSON list":         `{"name": "x", "path": [{"secret/*": {"capabilities": ["read", "list"]}}]}`,
		"windows line ends": "path \"secret/*\" {\r\n capabilities = [\"read\", \"list\"]\r\n}\r\n",
	} {
		p, err := policy.Parse(text)
		if err != nil || p.String() != want {
			t.Errorf("%s: Parse = %v, %v; want %s", form, p, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct{ text, want string }{
		"unknown key":            {"path \"a\" {\n  capabilitys = []\n}", "line 2, column 3"},
		"unknown top key":        {"paths \"a\" {}", "line 1, column 1"},
		"unknown capability":     {"path \"a\" {\n  capabilities = [\"read\", \"wirte\"]\n}", `line 2, column 27: "wirte"`},
		"attribute twice":        {"path \"a\" {\n capabilities = [\"read\"]\n capabilities = []\n}", "line 3, column 2"},
		"JSON key twice":         {`{"path": {"a": {}, "a": {}}}`, "given twice"},
		"dots":                   {`path "a/../b" {}`, "line 1, column 6"},
		"empty segment":          {`path "a//b" {}`, "line 1, column 6"},
		"control character":      {`path "a/\u0007" {}`, "line 1, column 6"},
		"empty path":             {`path "" {}`, "empty path"},
		"two labels":             {`path "a" "b" {}`, "line 1, column 10"},
		"no label":               {`path { capabilities = ["read"] }`, "label"},
		"not a block":            {`path = 1`, "block"},
		"plus star":              {`path "a/+*" {}`, "'+'"},
		"open template":          {`path "a/{{identity.entity.id" {}`, "{{ without }}"},
		"other template":         {`path "a/{{now}}" {}`, "template"},
		"bounds crossed":         {`path "a" { min_wrapping_ttl = "2h" max_wrapping_ttl = "1h" }`, "shorter"},
		"negative TTL":           {`path "a" { min_wrapping_ttl = "-1s" }`, "duration"},
		"parameters as list":     {`path "a" { allowed_parameters = ["x"] }`, "braces"},
		"values not a list":      {`path "a" { allowed_parameters = { "x" = "y" } }`, "brackets"},
		"parameter twice":        {`path "a" { denied_parameters = { "x" = [] "X" = [] } }`, "twice"},
		"null":                   {`{"path": {"a": {"denied_parameters": {"x": [null]}}}}`, "null"},
		"capability not text":    {`path "a" { capabilities = [1] }`, "no capability"},
		"capabilities as text":   {`path "a" { capabilities = "read" }`, "list"},
		"control groups":         {`path "a" { control_group = {} }`, "not offered"},
		"syntax":                 {"path \"a\" {\n", "line 2"},
		"text after JSON":        {`{} x`, "after the end"},
		"unknown shorthand":      {`path "a" { policy = "all" }`, "policy is"},
		"percent-encoded twice":  {`path "a/%2e%2e" {}`, "encoded"},
		"not normalized Unicode": {"path \"a/e\u0301\" {}", "normal form"},
	} {
		_, err := policy.Parse(c.text)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Public(err), c.want) || !strings.Contains(fault.Public(err), "line ") {
			t.Errorf("%s: Parse(%s) = %v; want Invalid with a line and %q", what, c.text, err, c.want)
		}
	}
	if _, err := policy.Parse(strings.Repeat("#", policy.MaxText+1)); !fault.Is(err, fault.Invalid) {
		t.Errorf("Parse of a text that is too long = %v; want Invalid", err)
	}
}

func TestParseWarns(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`path "a" { capabilities = ["read", "scan"] }`:                  `"scan"`,
		`path "a/*/b" { capabilities = ["read"] }`:                      "stands for itself",
		`path "a+b" { capabilities = ["read"] }`:                        "whole segment",
		`path "a" {}`:                                                   "no capability",
		`path "a/{{identity.entity.id}}" { capabilities = ["read"] }`:   "identity",
		`path "a/{{ identity.entity.id }}" { capabilities = ["read"] }`: "identity",
	} {
		p, err := policy.Parse(text)
		if err != nil || len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], want) {
			t.Errorf("Parse(%s) = %+v, %v; want one warning with %q", text, p, err, want)
		}
	}
	p := mustParse(t, "p", `path "*" { capabilities = ["list", "read"] }`)
	if len(p.Warnings) != 0 {
		t.Errorf("warnings of a plain policy: %q", p.Warnings)
	}
}

// A listing is denied by the narrower pattern, with and without the slash that
// a listing ends in (CVE-2026-12624).
func TestListMeetsNarrowerDeny(t *testing.T) {
	t.Parallel()
	acl := policy.Compile(mustParse(t, "p", `
		path "kv/metadata/*" { capabilities = ["list", "read"] }
		path "kv/metadata/private/*" { capabilities = ["deny"] }`))
	for path, want := range map[string]bool{"kv/metadata/": true, "kv/metadata/open/": true, "kv/metadata/private/": false, "kv/metadata/private/x/": false} {
		if got := acl.Allow(op.Ask{Verb: op.List, Resource: path}).Allowed; got != want {
			t.Errorf("Allow(list %s) = %t; want %t", path, got, want)
		}
		if got := acl.May(op.List, strings.TrimSuffix(path, "/")); got != want {
			t.Errorf("May(list, %s) = %t; want %t", path, got, want)
		}
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	dev := mustParse(t, "dev", `
		path "secret/data/*" { capabilities = ["create", "read", "update"] }
		path "sys/audit" { capabilities = ["read"] }
		path "wrap/me" { capabilities = ["read"] min_wrapping_ttl = "1m" max_wrapping_ttl = "1h" }
		path "par/am" { capabilities = ["update"] required_parameters = ["ttl"] denied_parameters = { "policies" = ["root"] } allowed_parameters = { "ttl" = ["1h", 60] "policies" = [] } }`)
	ops := mustParse(t, "ops", `path "sys/*" { capabilities = ["read", "sudo"] } path "secret/data/prod/*" { capabilities = ["deny"] }`)
	acl := policy.Compile(dev, ops)
	params := func(pairs ...string) func() ([]op.Param, error) {
		return func() ([]op.Param, error) {
			var out []op.Param
			for i := 0; i < len(pairs); i += 2 {
				out = append(out, op.Param{Name: pairs[i], Value: jsontext.Value(pairs[i+1])})
			}
			return out, nil
		}
	}
	for what, c := range map[string]struct {
		ask     op.Ask
		allowed bool
		policy  name.Name
		missing string
	}{
		"plain":              {op.Ask{Verb: op.Read, Resource: "secret/data/a"}, true, "dev", ""},
		"no rule":            {op.Ask{Verb: op.Read, Resource: "other"}, false, "", "read"},
		"no capability":      {op.Ask{Verb: op.Delete, Resource: "secret/data/a"}, false, "dev", "delete"},
		"denied":             {op.Ask{Verb: op.Read, Resource: "secret/data/prod/a"}, false, "ops", "read"},
		"exact without sudo": {op.Ask{Verb: op.Read, Resource: "sys/audit", Sudo: true}, false, "dev", "sudo"},
		"sudo":               {op.Ask{Verb: op.Read, Resource: "sys/audit/x", Sudo: true}, true, "ops", ""},
		"no verb":            {op.Ask{Resource: "secret/data/a"}, false, "dev", ""},
		"not wrapped":        {op.Ask{Verb: op.Read, Resource: "wrap/me"}, false, "dev", "wrapped for at most 1h"},
		"wrapped too short":  {op.Ask{Verb: op.Read, Resource: "wrap/me", WrapTTL: time.Second}, false, "dev", "at least 1m"},
		"wrapped":            {op.Ask{Verb: op.Read, Resource: "wrap/me", WrapTTL: time.Hour}, true, "dev", ""},
		"nothing required":   {op.Ask{Verb: op.Update, Resource: "par/am"}, false, "dev", `"ttl"`},
		"number as text":     {op.Ask{Verb: op.Update, Resource: "par/am", Params: params("ttl", `"60"`)}, true, "dev", ""},
		"upper case":         {op.Ask{Verb: op.Update, Resource: "par/am", Params: params("TTL", `60.0`)}, true, "dev", ""},
		"other value":        {op.Ask{Verb: op.Update, Resource: "par/am", Params: params("ttl", `61`)}, false, "dev", "allowed value"},
		"denied value":       {op.Ask{Verb: op.Update, Resource: "par/am", Params: params("ttl", `60`, "policies", `"root"`)}, false, "dev", "denied"},
		"other parameter":    {op.Ask{Verb: op.Update, Resource: "par/am", Params: params("ttl", `60`, "x", `1`)}, false, "dev", "not an allowed"},
		"unreadable":         {op.Ask{Verb: op.Update, Resource: "par/am", Params: func() ([]op.Param, error) { return nil, fmt.Errorf("no") }}, false, "dev", "can be read"},
	} {
		v := acl.Allow(c.ask)
		if v.Allowed != c.allowed || v.Policy != c.policy || !strings.Contains(strings.Join(v.Missing, ";"), c.missing) || (v.Rule == "") != (c.policy == "") {
			t.Errorf("%s: Allow = %+v; want %t by %q, missing %q", what, v, c.allowed, c.policy, c.missing)
		}
		if err := v.Err(); (err == nil) != c.allowed || err != nil && (!fault.Is(err, fault.Denied) || fault.Public(err) != "permission denied") {
			t.Errorf("%s: Err() = %v", what, err)
		}
		if trace := acl.Explain(c.ask); trace.Reason == "" || (trace.Needed == "") != (c.allowed || c.missing == "") {
			t.Errorf("%s: Explain = %+v; want a reason, and what is needed where it is denied", what, trace)
		}
	}
}

func TestRoot(t *testing.T) {
	t.Parallel()
	acl := policy.Compile(&policy.Policy{Name: name.Root}, mustParse(t, "p", `path "*" { capabilities = ["deny"] }`))
	v := acl.Allow(op.Ask{Verb: op.Delete, Resource: "sys/audit/x", Sudo: true})
	if !v.Allowed || v.Policy != name.Root || v.Rule == "" {
		t.Errorf("Allow for root = %+v", v)
	}
	if got := acl.Capabilities("x"); !slices.Equal(got, []string{"root"}) {
		t.Errorf("Capabilities for root = %v", got)
	}
	if !acl.AnyUnder("x/") || !acl.May(op.Upsert, "x") || !acl.Explain(op.Ask{Verb: op.Read, Resource: "x"}).Allowed {
		t.Error("root may not do everything")
	}
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	acl := policy.Compile(
		mustParse(t, "a", `path "secret/*" { capabilities = ["update", "create"] } path "d/*" { capabilities = ["read"] } path "l" { capabilities = ["list"] } path "n" { capabilities = ["scan"] }`),
		mustParse(t, "b", `path "secret/*" { capabilities = ["read", "sudo"] } path "d/*" { capabilities = ["deny"] }`),
		&policy.Policy{Name: "nothing"})
	for path, want := range map[string][]string{
		"secret/a": {"create", "read", "sudo", "update"}, "d/x": {"deny"}, "other": {"deny"}, "l/": {"list"}, "l": {"list"}, "n": {"deny"},
	} {
		if got := acl.Capabilities(path); !slices.Equal(got, want) {
			t.Errorf("Capabilities(%q) = %v; want %v", path, got, want)
		}
	}
	if got := policy.Compile().Capabilities("x"); !slices.Equal(got, []string{"deny"}) {
		t.Errorf("Capabilities of nobody = %v; want deny", got)
	}
}

func TestAnyUnder(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]map[string]bool{
		`path "secret/data/app" { capabilities = ["read"] }`:                                        {"secret/": true, "secret/data/": true, "kv/": false, "": true, "secret/data/app/": true},
		`path "*" { capabilities = ["read"] } path "secret/*" { capabilities = ["deny"] }`:          {"secret/": false, "kv/": true},
		`path "sec*" { capabilities = ["read"] }`:                                                   {"secret/": true, "kv/": false},
		`path "+/data/x" { capabilities = ["read"] }`:                                               {"secret/": true, "a/data/": true, "a/metadata/": false},
		`path "+/data/x*" { capabilities = ["deny"] } path "a/+/b/*" { capabilities = ["update"] }`: {"a/": true, "b/": false, "a/x/": true, "a/x/c/": false},
		`path "secret" { capabilities = ["list"] }`:                                                 {"secret/": true},
		`path "secret/x" { capabilities = [] }`:                                                     {"secret/": false},
	} {
		acl := policy.Compile(mustParse(t, "p", text))
		for prefix, want := range want {
			if got := acl.AnyUnder(prefix); got != want {
				t.Errorf("%s: AnyUnder(%q) = %t; want %t", text, prefix, got, want)
			}
		}
	}
}

func TestExplainTellsWhy(t *testing.T) {
	t.Parallel()
	acl := policy.Compile(
		mustParse(t, "wide", "path \"*\" { capabilities = [\"read\"] }\npath \"kv/+/b\" { capabilities = [\"list\"] }"),
		mustParse(t, "narrow", `path "kv/a/*" { capabilities = ["update"] }`))
	trace := acl.Explain(op.Ask{Verb: op.Read, Resource: "kv/a/b"})
	if trace.Allowed || len(trace.Candidates) != 3 || !trace.Candidates[0].Decided || trace.Candidates[0].Policy != "narrow" {
		t.Fatalf("Explain = %+v; want three rules, narrow's first", trace)
	}
	if c := trace.Candidates[1]; c.Decided || c.Path != "kv/+/b" || c.Line != 2 || !strings.Contains(c.Why, "comes later") {
		t.Errorf("second candidate = %+v; want kv/+/b in line 2, which loses by its first '+'", c)
	}
	if !strings.Contains(trace.Needed, `read on "kv/a/*"`) || !strings.Contains(trace.Stanza, `["read", "update"]`) {
		t.Errorf("Explain = %+v; want read on kv/a/* and the rule that gives it", trace)
	}
}

// What parses has one form, which parses to the same.
func FuzzParsePolicy(f *testing.F) {
	for _, s := range []string{
		`path "secret/*" { capabilities = ["read"] }`, `{"path": {"a": {"policy": "write"}}}`,
		`path "a" { capabilities = ["update"] allowed_parameters = { "x" = ["a*", 1, 1.5e3, true, ["b", 2], { c = "d" }] "*" = [] } required_parameters = ["x"] min_wrapping_ttl = 10 max_wrapping_ttl = "1h" }`,
		`path "a/{{identity.entity.id}}/+" { capabilities = ["deny"] }`, "path \"a$${b}\" { capabilities = [\"list\"] }", "{\"path\":{\"${\":{}}}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := policy.Parse(s)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("Parse(%q) = %v; want Invalid", s, err)
			}
			return
		}
		form := p.String()
		again, err := policy.Parse(form)
		if err != nil || again.String() != form || len(again.Rules) != len(p.Rules) {
			t.Fatalf("Parse(%q) = %v, of %q; want the same again", form, err, s)
		}
		for _, r := range p.Rules {
			path := strings.TrimSuffix(r.Path, "*")
			a, b := policy.Compile(p), policy.Compile(again)
			for _, v := range []op.Verb{op.Read, op.List, op.Update} {
				if x, y := a.Allow(op.Ask{Verb: v, Resource: path}), b.Allow(op.Ask{Verb: v, Resource: path}); x.Allowed != y.Allowed {
					t.Fatalf("Allow(%v %q) = %t by %q and %t by %q", v, path, x.Allowed, s, y.Allowed, form)
				}
			}
		}
	})
}

func manyPolicies(t testing.TB, n, rules int) *policy.ACL {
	var ps []*policy.Policy
	for i := range n {
		var b strings.Builder
		for j := range rules {
			switch j % 4 {
			case 0:
				fmt.Fprintf(&b, "path \"secret/data/team%d/app%d/*\" { capabilities = [\"read\", \"update\"] }\n", i, j)
			case 1:
				fmt.Fprintf(&b, "path \"secret/data/team%d/app%d\" { capabilities = [\"read\"] }\n", i, j)
			case 2:
				fmt.Fprintf(&b, "path \"secret/metadata/+/team%d/app%d/*\" { capabilities = [\"list\"] }\n", i, j)
			case 3:
				fmt.Fprintf(&b, "path \"kv%d/*\" { capabilities = [\"deny\"] }\n", i*rules+j)
			}
		}
		ps = append(ps, mustParse(t, name.Name(fmt.Sprintf("p%d", i)), b.String()))
	}
	return policy.Compile(ps...)
}

func TestAllowAllocatesNothing(t *testing.T) {
	acl := manyPolicies(t, 50, 20)
	for _, ask := range []op.Ask{
		{Verb: op.Read, Resource: "secret/data/team7/app4/db/password"},
		{Verb: op.Read, Resource: "secret/data/team7/app1"},
		{Verb: op.List, Resource: "secret/metadata/x/team9/app2/y/"},
		{Verb: op.Read, Resource: "nothing/here"},
		{Verb: op.Delete, Resource: "kv3/x"},
	} {
		if got := testing.AllocsPerRun(100, func() { acl.Allow(ask) }); got != 0 {
			t.Errorf("Allow(%v %s) allocates %v times; want none", ask.Verb, ask.Resource, got)
		}
	}
}

func BenchmarkAllow(b *testing.B) {
	for _, n := range []int{1, 50} {
		acl := manyPolicies(b, n, 20)
		for what, path := range map[string]string{"exact": "secret/data/team0/app1", "prefix": "secret/data/team0/app4/db/password", "segment": "secret/metadata/x/team0/app2/y", "none": "other/data/app"} {
			b.Run(fmt.Sprintf("%s/%d-policies", what, n), func(b *testing.B) {
				b.ReportAllocs()
				ask := op.Ask{Verb: op.Read, Resource: path}
				for b.Loop() {
					acl.Allow(ask)
				}
			})
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	var ps []*policy.Policy
	for i := range 50 {
		ps = append(ps, mustParse(b, name.Name(fmt.Sprintf("p%d", i)), strings.Repeat(fmt.Sprintf("path \"secret/%d/*\" { capabilities = [\"read\"] }\n", i), 20)))
	}
	b.ReportAllocs()
	for b.Loop() {
		policy.Compile(ps...)
	}
}
