package policy_test

// The oracle is a second evaluator, as naive as can be. It shares no code with
// the package: it works on rules that the generator made, never on what was
// parsed, and has a matcher of its own.

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/policy"
)

type oracleRule struct {
	path             string
	caps             []string
	required         []string
	allowed, denied  map[string][]string // values as JSON
	minWrap, maxWrap int                 // seconds
}

type oraclePolicy struct {
	name  string
	rules []oracleRule
}

type oracleAsk struct {
	verb   string
	path   string
	sudo   bool
	wrap   int
	params map[string]string
}

// hcl writes p as text. All strings of the generator are plain.
func (p oraclePolicy) hcl() string {
	var b strings.Builder
	list := func(items []string) string {
		return "[" + strings.Join(items, ", ") + "]"
	}
	quoted := func(items []string) []string {
		var out []string
		for _, i := range items {
			out = append(out, `"`+i+`"`)
		}
		return out
	}
	values := func(key string, m map[string][]string) {
		if m == nil {
			return
		}
		fmt.Fprintf(&b, "  %s = {\n", key)
		for n, v := range m {
			fmt.Fprintf(&b, "    %q = %s\n", n, list(v))
		}
		b.WriteString("  }\n")
	}
	for _, r := range p.rules {
		fmt.Fprintf(&b, "path %q {\n  capabilities = %s\n", r.path, list(quoted(r.caps)))
		if r.required != nil {
			fmt.Fprintf(&b, "  required_parameters = %s\n", list(quoted(r.required)))
		}
		values("allowed_parameters", r.allowed)
		values("denied_parameters", r.denied)
		if r.minWrap > 0 {
			fmt.Fprintf(&b, "  min_wrapping_ttl = %d\n", r.minWrap)
		}
		if r.maxWrap > 0 {
			fmt.Fprintf(&b, "  max_wrapping_ttl = \"%ds\"\n", r.maxWrap)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

func oracleMatches(pattern, path string) bool {
	glob := false
	if n := len(pattern); n > 0 && pattern[n-1] == '*' {
		glob, pattern = true, pattern[:n-1]
	}
	want, have := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(have) < len(want) || !glob && len(have) != len(want) {
		return false
	}
	for i, w := range want {
		if w == "+" || w == have[i] {
			continue
		}
		if glob && i == len(want)-1 && strings.HasPrefix(have[i], w) {
			continue
		}
		return false
	}
	return true
}

// oracleRank makes a list of numbers and a text that compare as priorities do.
func oracleRank(pattern string) ([4]int, string) {
	glob := 0
	body := pattern
	if strings.HasSuffix(pattern, "*") {
		glob, body = 1, pattern[:len(pattern)-1]
	}
	first, plus := len(body), 0
	offset := 0
	for s := range strings.SplitSeq(body, "/") {
		if s == "+" {
			if plus == 0 && offset < first {
				first = offset
			}
			plus++
		}
		offset += len(s) + 1
	}
	return [4]int{first, -glob, -plus, len(body)}, body
}

func oracleBetter(a, b string) bool {
	ra, ta := oracleRank(a)
	rb, tb := oracleRank(b)
	for i := range ra {
		if ra[i] != rb[i] {
			return ra[i] > rb[i]
		}
	}
	return ta > tb
}

func oracleDecides(ps []oraclePolicy, ask oracleAsk) (pattern string, ok bool) {
	paths := []string{ask.path}
	if ask.verb == "list" && strings.HasSuffix(ask.path, "/") {
		paths = append(paths, ask.path[:len(ask.path)-1])
	}
	isExact := func(p string) bool {
		return !strings.HasSuffix(p, "*") && !slices.Contains(strings.Split(p, "/"), "+")
	}
	for _, path := range paths {
		for _, p := range ps {
			for _, r := range p.rules {
				if isExact(r.path) && r.path == path {
					return r.path, true
				}
			}
		}
	}
	var all []string
	for _, path := range paths {
		for _, p := range ps {
			for _, r := range p.rules {
				if !isExact(r.path) && oracleMatches(r.path, path) {
					all = append(all, r.path)
				}
			}
		}
	}
	if len(all) == 0 {
		return "", false
	}
	sort.Slice(all, func(i, j int) bool { return oracleBetter(all[i], all[j]) })
	return all[0], true
}

func oracleValue(want, got string) bool {
	unq := func(s string) (string, bool) {
		if strings.HasPrefix(s, `"`) {
			return s[1 : len(s)-1], true
		}
		return s, false
	}
	w, wText := unq(want)
	g, gText := unq(got)
	if strings.HasPrefix(g, "[") || strings.HasPrefix(w, "[") {
		return w == g && wText == gText
	}
	if wText {
		if len(w) > 1 && strings.HasPrefix(w, "*") && strings.HasSuffix(w, "*") {
			return strings.Contains(g, w[1:len(w)-1])
		}
		if len(w) > 1 && strings.HasPrefix(w, "*") {
			return strings.HasSuffix(g, w[1:])
		}
		if len(w) > 1 && strings.HasSuffix(w, "*") {
			return strings.HasPrefix(g, w[:len(w)-1])
		}
		return w == g
	}
	if w == "true" || w == "false" {
		switch g {
		case "true", "1":
			return w == "true"
		case "false", "0":
			return w == "false"
		}
		return false
	}
	a, err1 := strconv.ParseFloat(w, 64)
	b, err2 := strconv.ParseFloat(g, 64)
	return err1 == nil && err2 == nil && a == b
}

func oracleAllows(ps []oraclePolicy, ask oracleAsk) bool {
	if slices.ContainsFunc(ps, func(p oraclePolicy) bool { return p.name == "root" }) {
		return true
	}
	pattern, ok := oracleDecides(ps, ask)
	if !ok {
		return false
	}
	caps := map[string]bool{}
	var required []string
	var denied, allowed []map[string][]string
	minWrap, maxWrap := 0, 0
	for _, p := range ps {
		for _, r := range p.rules {
			if r.path != pattern {
				continue
			}
			for _, c := range r.caps {
				caps[c] = true
			}
			required = append(required, r.required...)
			if len(r.denied) > 0 {
				denied = append(denied, r.denied)
			}
			if len(r.allowed) > 0 {
				allowed = append(allowed, r.allowed)
			}
			if r.minWrap > 0 && (minWrap == 0 || r.minWrap < minWrap) {
				minWrap = r.minWrap
			}
			if r.maxWrap > 0 && (maxWrap == 0 || r.maxWrap < maxWrap) {
				maxWrap = r.maxWrap
			}
		}
	}
	if caps["deny"] || !caps[ask.verb] || ask.sudo && !caps["sudo"] {
		return false
	}
	if maxWrap > 0 && (ask.wrap == 0 || ask.wrap > maxWrap || minWrap > maxWrap) {
		return false
	}
	if minWrap > 0 && ask.wrap < minWrap {
		return false
	}
	if ask.verb == "list" || ask.verb == "delete" {
		return true
	}
	for _, r := range required {
		if _, there := ask.params[strings.ToLower(r)]; !there {
			return false
		}
	}
	in := func(maps []map[string][]string, n, v string) (named, held bool) {
		for _, m := range maps {
			values, has := m[n]
			if !has {
				continue
			}
			named = true
			if len(values) == 0 {
				held = true
			}
			for _, w := range values {
				held = held || oracleValue(w, v)
			}
		}
		return named, held
	}
	for n, v := range ask.params {
		if named, _ := in(denied, "*", ""); named {
			return false
		}
		if _, held := in(denied, n, v); held {
			return false
		}
	}
	if len(allowed) == 0 {
		return true
	}
	star, _ := in(allowed, "*", "")
	for n, v := range ask.params {
		named, held := in(allowed, n, v)
		if named && !held || !named && !star {
			return false
		}
	}
	return true
}

// maker makes policies and questions that have a good chance to meet.
type maker struct{ *rand.Rand }

func newMaker(seed uint64) maker { return maker{rand.New(rand.NewPCG(seed, 7))} }

func pick[T any](m maker, from ...T) T { return from[m.IntN(len(from))] }

func (m maker) chance(percent int) bool { return m.IntN(100) < percent }

func (m maker) path() string {
	var segs []string
	for range 1 + m.IntN(4) {
		segs = append(segs, pick(m, "a", "b", "ab", "abc", "kv", "data", "x"))
	}
	return strings.Join(segs, "/")
}

func (m maker) pattern() string {
	segs := strings.Split(m.path(), "/")
	for i := range segs {
		if m.chance(25) {
			segs[i] = "+"
		}
	}
	p := strings.Join(segs, "/")
	switch {
	case m.chance(5):
		return "*"
	case m.chance(15):
		return p + "/"
	case m.chance(30):
		return p + "/*"
	case m.chance(20) && segs[len(segs)-1] != "+":
		return p + "*"
	}
	return p
}

func (m maker) value() string {
	return pick(m, `"a"`, `"ab"`, `"*b"`, `"a*"`, `"*a*"`, `"*"`, "1", "10", "1.5", "true", "false", `"true"`, `"1"`, `"0"`, `["a"]`)
}

func (m maker) parameters() map[string][]string {
	out := map[string][]string{}
	for range m.IntN(3) {
		var values []string
		for range m.IntN(3) {
			values = append(values, m.value())
		}
		out[pick(m, "p", "q", "r", "*")] = values
	}
	return out
}

func (m maker) policies() []oraclePolicy {
	var out []oraclePolicy
	for i := range 1 + m.IntN(4) {
		p := oraclePolicy{name: "p" + strconv.Itoa(i)}
		for range m.IntN(6) {
			r := oracleRule{path: m.pattern()}
			if m.chance(12) {
				r.caps = append(r.caps, "deny")
			}
			for _, c := range []string{"create", "read", "update", "patch", "delete", "list", "sudo"} {
				if m.chance(55) {
					r.caps = append(r.caps, c)
				}
			}
			m.Shuffle(len(r.caps), func(i, j int) { r.caps[i], r.caps[j] = r.caps[j], r.caps[i] })
			if m.chance(10) {
				r.required = []string{pick(m, "p", "Q", "r")}
			}
			if m.chance(15) {
				r.allowed = m.parameters()
			}
			if m.chance(15) {
				r.denied = m.parameters()
			}
			if m.chance(8) {
				r.minWrap = 1 + m.IntN(50)
			}
			if m.chance(8) {
				r.maxWrap = max(r.minWrap, 1+m.IntN(50))
			}
			p.rules = append(p.rules, r)
		}
		out = append(out, p)
	}
	return out
}

func (m maker) ask() oracleAsk {
	a := oracleAsk{verb: pick(m, "create", "read", "update", "patch", "delete", "list"), path: m.path(), sudo: m.chance(15)}
	if a.verb == "list" || m.chance(5) {
		a.path += "/"
	}
	if m.chance(20) {
		a.wrap = 1 + m.IntN(60)
	}
	for range m.IntN(3) {
		if a.params == nil {
			a.params = map[string]string{}
		}
		a.params[pick(m, "p", "q", "r", "s")] = strings.Trim(m.value(), "*")
	}
	for n, v := range a.params {
		a.params[n] = strings.ReplaceAll(v, "*", "a")
	}
	return a
}

var verbsByName = map[string]op.Verb{"create": op.Create, "read": op.Read, "update": op.Update, "patch": op.Patch, "delete": op.Delete, "list": op.List}

func (a oracleAsk) ask() op.Ask {
	return op.Ask{Verb: verbsByName[a.verb], Resource: a.path, Sudo: a.sudo, WrapTTL: time.Duration(a.wrap) * time.Second, Params: func() ([]op.Param, error) {
		var out []op.Param
		for n, v := range a.params {
			out = append(out, op.Param{Name: n, Value: jsontext.Value(v)})
		}
		return out, nil
	}}
}

func compile(t testing.TB, ps []oraclePolicy) *policy.ACL {
	t.Helper()
	var parsed []*policy.Policy
	for _, p := range ps {
		got, err := policy.Parse(p.hcl())
		if err != nil {
			t.Fatalf("Parse(%s) = %v", p.hcl(), err)
		}
		got.Name = name.Name(p.name)
		parsed = append(parsed, got)
	}
	return policy.Compile(parsed...)
}

func describe(ps []oraclePolicy) string {
	var b strings.Builder
	for _, p := range ps {
		b.WriteString("# " + p.name + "\n" + p.hcl())
	}
	return b.String()
}

// The evaluator decides as the oracle does. ROTUNDA_ORACLE_PAIRS sets how many
// pairs of a set of policies and a question are tried.
func TestP2Oracle(t *testing.T) {
	t.Parallel()
	pairs := 1_000_000
	if s := os.Getenv("ROTUNDA_ORACLE_PAIRS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("ROTUNDA_ORACLE_PAIRS = %q; want a number", s)
		}
		pairs = n
	}
	const each = 40
	allowed := 0
	for seed := range uint64(pairs / each) {
		m := newMaker(seed)
		ps := m.policies()
		acl := compile(t, ps)
		for range each {
			a := m.ask()
			want := oracleAllows(ps, a)
			got := acl.Allow(a.ask())
			if got.Allowed != want {
				t.Fatalf("seed %d: Allow(%+v) = %+v; want %t by\n%s", seed, a, got, want, describe(ps))
			}
			trace := acl.Explain(a.ask())
			if trace.Allowed != got.Allowed || trace.Policy != got.Policy || trace.Rule != got.Rule {
				t.Fatalf("seed %d: Explain(%+v) = %+v; want what Allow says: %+v", seed, a, trace, got)
			}
			if pattern, ok := oracleDecides(ps, a); ok != (len(trace.Candidates) > 0) || ok && trace.Candidates[0].Path != pattern {
				t.Fatalf("seed %d: Explain(%+v).Candidates = %+v; want %q first, by\n%s", seed, a, trace.Candidates, pattern, describe(ps))
			}
			if want {
				allowed++
			}
			if want && !acl.May(verbsByName[a.verb], a.path) {
				t.Fatalf("seed %d: May(%s, %s) = false where Allow says yes", seed, a.verb, a.path)
			}
			if top, _, _ := strings.Cut(a.path, "/"); want && !acl.AnyUnder(top+"/") && strings.Contains(a.path, "/") {
				t.Fatalf("seed %d: AnyUnder(%q) = false where %s %s is allowed by\n%s", seed, top+"/", a.verb, a.path, describe(ps))
			}
		}
	}
	if low := pairs / 20; allowed < low {
		t.Errorf("%d of %d pairs are allowed; want %d at least, or the generator shows little", allowed, pairs, low)
	}
}

// Adding a deny never allows more.
func TestDenyNeverAllowsMore(t *testing.T) {
	t.Parallel()
	for seed := range uint64(1500) {
		m := newMaker(1<<32 + seed)
		ps := m.policies()
		before := compile(t, ps)
		after := compile(t, append(slices.Clone(ps), oraclePolicy{"zz", []oracleRule{{path: m.pattern(), caps: []string{"deny", "read"}}}}))
		for range 40 {
			a := m.ask()
			if after.Allow(a.ask()).Allowed && !before.Allow(a.ask()).Allowed {
				t.Fatalf("seed %d: a deny allows %+v", seed, a)
			}
		}
	}
}

// The order of policies does not matter, and the form that String returns
// decides as the text does.
func TestOrderAndFormDoNotMatter(t *testing.T) {
	t.Parallel()
	for seed := range uint64(1500) {
		m := newMaker(1<<33 + seed)
		ps := m.policies()
		before := compile(t, ps)
		var again []*policy.Policy
		for _, p := range slices.Backward(ps) {
			first, err := policy.Parse(p.hcl())
			if err != nil {
				t.Fatal(err)
			}
			second, err := policy.Parse(first.String())
			if err != nil || second.String() != first.String() {
				t.Fatalf("Parse(%s) = %v; want the same policy again", first, err)
			}
			again = append(again, second)
		}
		after := policy.Compile(again...)
		for range 20 {
			a := m.ask()
			if x, y := before.Allow(a.ask()).Allowed, after.Allow(a.ask()).Allowed; x != y {
				t.Fatalf("seed %d: Allow(%+v) = %t, and %t of the same policies backwards", seed, a, x, y)
			}
		}
	}
}

// What Explain offers as a stanza allows what was asked, where capabilities
// were all that was missing.
func TestStanzaAllows(t *testing.T) {
	t.Parallel()
	for seed := range uint64(1500) {
		m := newMaker(1<<34 + seed)
		ps := m.policies()
		acl := compile(t, ps)
		for range 20 {
			a := m.ask()
			a.wrap, a.params = 0, nil
			trace := acl.Explain(a.ask())
			if trace.Allowed || trace.Stanza == "" {
				continue
			}
			var parsed []*policy.Policy
			for _, p := range ps {
				got, err := policy.Parse(p.hcl())
				if err != nil {
					t.Fatal(err)
				}
				parsed = append(parsed, got)
			}
			added, err := policy.Parse(trace.Stanza)
			if err != nil {
				t.Fatalf("Parse(%s) = %v", trace.Stanza, err)
			}
			after := policy.Compile(append(parsed, added)...).Explain(a.ask())
			if lacks := slices.DeleteFunc(after.Missing, func(s string) bool { return strings.Contains(s, " ") }); len(lacks) > 0 {
				t.Fatalf("seed %d: with\n%sExplain(%+v) = %+v; want no capability missing", seed, trace.Stanza, a, after)
			}
		}
	}
}

// FuzzMatch compares patterns of any text with the oracle's matcher.
func FuzzMatch(f *testing.F) {
	f.Add("a/+/c*", "a/b/cd", false)
	f.Add("+", "a/", true)
	f.Add("a/+/", "a//", true)
	f.Fuzz(func(t *testing.T, pattern, path string, list bool) {
		p, err := policy.Parse(`path "` + strings.NewReplacer(`"`, "", `\`, "", "\n", "", "$", "", "{", "").Replace(pattern) + `" { capabilities = ["read", "list"] }`)
		if err != nil || p.Rules[0].Templated {
			return
		}
		a := oracleAsk{verb: "read", path: path}
		if list {
			a.verb, a.path = "list", strings.TrimSuffix(path, "/")+"/"
		}
		want := oracleAllows([]oraclePolicy{{"p", []oracleRule{{path: p.Rules[0].Path, caps: []string{"read", "list"}}}}}, a)
		if got := policy.Compile(p).Allow(a.ask()).Allowed; got != want {
			t.Fatalf("%q matches %q: %t; want %t (%s)", p.Rules[0].Path, a.path, got, want, hex.EncodeToString([]byte(a.path)))
		}
	})
}
