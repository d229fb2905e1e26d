package policy

import (
	"slices"
	"strings"
	"time"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
)

// ACL is what a set of policies allows. It does not change and is safe for
// concurrent use. Make it with [Compile].
type ACL struct {
	root     bool
	policies []name.Name
	exact    map[string]*grant
	prefixes prefixes
	segments *segment // patterns with a '+'

	may  func(verb op.Verb, resource string) bool
	sees func(prefix string) bool
	sudo func(verb op.Verb, resource string) bool
}

// grant is one pattern with all that the policies say about it, united.
type grant struct {
	pattern string // as the rules write it
	literal string // of a pattern that ends in '*': what stands before it
	first   int    // where the first '+' segment or the final '*' is
	plus    int    // how many '+' segments
	glob    bool   // ends in '*'

	caps     Capabilities
	by       [len(words)]*source // who gives each capability
	sources  []*source
	params   bool // any of the next three is set
	required []string
	allowed  Parameters
	denied   Parameters
	minWrap  time.Duration
	maxWrap  time.Duration
}

// source is one rule of one policy.
type source struct {
	policy name.Name
	rule   *Rule
}

// rootRule is the text of the rule by which root allows everything.
const rootRule = `policy "root"`

// Compile returns the ACL of someone who holds policies. One whose name is
// root allows everything.
func Compile(policies ...*Policy) *ACL {
	a := &ACL{exact: map[string]*grant{}, segments: &segment{}}
	a.may, a.sees = a.May, a.AnyUnder
	a.sudo = func(verb op.Verb, resource string) bool {
		return a.Allow(op.Ask{Verb: verb, Resource: resource, Sudo: true}).Allowed
	}
	grants := map[string]*grant{}
	for _, p := range policies {
		a.policies = append(a.policies, p.Name)
		if p.Name == name.Root {
			a.root = true
			continue
		}
		for i := range p.Rules {
			r := &p.Rules[i]
			if r.Templated {
				continue
			}
			g := grants[r.Path]
			if g == nil {
				g = newGrant(r.Path)
				grants[r.Path] = g
				a.put(g)
			}
			g.add(&source{p.Name, r})
		}
	}
	a.prefixes.build()
	a.segments.build()
	return a
}

func newGrant(pattern string) *grant {
	g := &grant{pattern: pattern, literal: strings.TrimSuffix(pattern, "*"), first: len(pattern)}
	if g.glob = strings.HasSuffix(pattern, "*"); g.glob {
		g.first = len(pattern) - 1
	}
	at := 0
	for seg := range strings.SplitSeq(g.literal, "/") {
		if seg == "+" {
			g.first = min(g.first, at)
			g.plus++
		}
		at += len(seg) + 1
	}
	return g
}

// add unites what s says with what g holds.
func (g *grant) add(s *source) {
	r := s.rule
	g.sources = append(g.sources, s)
	for i := range words {
		if r.Capabilities&(1<<i) != 0 && g.by[i] == nil {
			g.by[i] = s
		}
	}
	g.caps |= r.Capabilities
	for _, n := range r.Required {
		if !slices.Contains(g.required, n) {
			g.required = append(g.required, n)
		}
	}
	g.allowed = g.allowed.unite(r.Allowed)
	g.denied = g.denied.unite(r.Denied)
	g.params = len(g.required) > 0 || len(g.allowed) > 0 || len(g.denied) > 0
	g.minWrap = shorter(g.minWrap, r.MinWrap)
	g.maxWrap = shorter(g.maxWrap, r.MaxWrap)
}

func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// summary is the rule on one line, as the audit log shows it.
func (r *Rule) summary() string {
	var b strings.Builder
	b.WriteString("path " + quote(r.Path) + " { capabilities = [")
	for i, w := range r.Capabilities.Words() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quote(w))
	}
	b.WriteString("] }")
	return b.String()
}

// beats reports whether g is the better of two patterns that match the same path.
func (g *grant) beats(other *grant) bool {
	switch {
	case other == nil:
		return true
	case g.first != other.first:
		return g.first > other.first
	case g.glob != other.glob:
		return !g.glob
	case g.plus != other.plus:
		return g.plus < other.plus
	case len(g.literal) != len(other.literal):
		return len(g.literal) > len(other.literal)
	}
	return g.literal > other.literal
}

func (a *ACL) put(g *grant) {
	switch {
	case g.plus > 0:
		a.segments.put(g.literal, g)
	case g.glob:
		a.prefixes.add(g.literal, g)
	default:
		a.exact[g.pattern] = g
	}
}

// find returns the grant that decides about path: nil where none matches.
// seen, if it is not nil, hears of every grant that matches.
func (a *ACL) find(path string, list bool, seen func(*grant)) *grant {
	bare := path
	if list {
		bare = strings.TrimSuffix(path, "/")
	}
	won := a.exact[path]
	if seen != nil && won != nil {
		seen(won)
	}
	if bare != path {
		g := a.exact[bare]
		if seen != nil && g != nil {
			seen(g)
		}
		if won == nil {
			won = g
		}
	}
	if won != nil && seen == nil {
		return won
	}
	best := a.pattern(path, nil, seen)
	if bare != path {
		best = a.pattern(bare, best, seen)
	}
	if won != nil {
		return won
	}
	return best
}

// pattern returns the best of best and the patterns that match path.
func (a *ACL) pattern(path string, best *grant, seen func(*grant)) *grant {
	if g := a.prefixes.longest(path, seen); g != nil && g.beats(best) {
		best = g
	}
	return a.segments.best(path, best, seen)
}

// Verdict is an answer to an [op.Ask].
type Verdict struct {
	Allowed bool
	Policy  name.Name // that decided; empty where no rule matches
	Rule    string    // that decided, on one line; empty where no rule matches
	Missing []string  // what was not given: capabilities, or what is wrong with a parameter or a wrapping TTL
}

var errDenied = fault.New(fault.Denied, "permission denied")

// Err returns nil where v allows, and a fault of kind Denied that tells
// nothing where it does not.
func (v Verdict) Err() error {
	if v.Allowed {
		return nil
	}
	return errDenied
}

// missing holds the words of every set of capabilities that a request can
// lack, so that a denial allocates nothing.
var missing = func() (all [Deny][]string) {
	for c := range all {
		all[c] = Capabilities(c).Words()
	}
	return all
}()

// Allow decides about ask. An Upsert needs create and update both.
func (a *ACL) Allow(ask op.Ask) Verdict {
	if a.root {
		return Verdict{Allowed: true, Policy: name.Root, Rule: rootRule}
	}
	return a.find(ask.Resource, ask.Verb == op.List, nil).decide(ask)
}

// decide says what g, which has won, means for ask.
func (g *grant) decide(ask op.Ask) Verdict {
	needs := capabilityOf(ask.Verb)
	if ask.Sudo {
		needs |= Sudo
	}
	if g == nil {
		return Verdict{Missing: missing[needs]}
	}
	if g.caps&Deny != 0 {
		s := g.giver(Deny)
		return Verdict{Policy: s.policy, Rule: s.rule.line, Missing: missing[needs]}
	}
	if lacks := needs &^ g.caps; lacks != 0 || needs&^Sudo == 0 {
		s := g.sources[0]
		return Verdict{Policy: s.policy, Rule: s.rule.line, Missing: missing[lacks]}
	}
	s := g.giver(needs &^ Sudo)
	v := Verdict{Allowed: true, Policy: s.policy, Rule: s.rule.line}
	if why := g.wrapping(ask.WrapTTL); why != "" {
		v.Allowed, v.Missing = false, []string{why}
		return v
	}
	if g.params && (ask.Verb == op.Read || ask.Verb == op.Create || ask.Verb == op.Update || ask.Verb == op.Patch) {
		if why := g.parameters(ask.Params); why != "" {
			v.Allowed, v.Missing = false, []string{why}
		}
	}
	return v
}

// giver returns the first rule that gives one of c.
func (g *grant) giver(c Capabilities) *source {
	for i, s := range g.by {
		if c&(1<<i) != 0 && s != nil {
			return s
		}
	}
	return g.sources[0]
}

// wrapping says what is wrong with a wrapping TTL; "" for nothing.
func (g *grant) wrapping(ttl time.Duration) string {
	switch {
	case g.maxWrap > 0 && g.minWrap > g.maxWrap:
		return "no wrapping TTL satisfies both min_wrapping_ttl " + g.minWrap.String() + " and max_wrapping_ttl " + g.maxWrap.String()
	case g.maxWrap > 0 && (ttl <= 0 || ttl > g.maxWrap):
		return "an answer wrapped for at most " + g.maxWrap.String()
	case g.minWrap > 0 && ttl < g.minWrap:
		return "an answer wrapped for at least " + g.minWrap.String()
	}
	return ""
}

// parameters says what is wrong with the request's parameters; "" for nothing.
// It names parameters and never values.
func (g *grant) parameters(read func() ([]op.Param, error)) string {
	var params []op.Param
	if read != nil {
		var err error
		if params, err = read(); err != nil {
			return "parameters that can be read"
		}
	}
	for _, n := range g.required {
		if !slices.ContainsFunc(params, func(p op.Param) bool { return strings.ToLower(p.Name) == n }) {
			return "the required parameter " + quote(n)
		}
	}
	if _, all := g.denied["*"]; all && len(params) > 0 {
		return "a request without parameters: every parameter is denied"
	}
	for _, p := range params {
		values, named := g.denied[strings.ToLower(p.Name)]
		if named && hold(values, p.Value) {
			return "another value of the parameter " + quote(strings.ToLower(p.Name)) + ", or none: it is denied"
		}
	}
	if len(g.allowed) == 0 {
		return ""
	}
	_, others := g.allowed["*"]
	for _, p := range params {
		values, named := g.allowed[strings.ToLower(p.Name)]
		switch {
		case named && !hold(values, p.Value):
			return "an allowed value of the parameter " + quote(strings.ToLower(p.Name))
		case !named && !others:
			return "a request without the parameter " + quote(strings.ToLower(p.Name)) + ": it is not an allowed one"
		}
	}
	return ""
}

// May reports whether verb is allowed on resource, parameters, wrapping and
// sudo left aside. For an Upsert, create or update is enough.
func (a *ACL) May(verb op.Verb, resource string) bool {
	if a.root {
		return verb != op.NoVerb
	}
	if verb == op.List && !strings.HasSuffix(resource, "/") {
		resource += "/"
	}
	g := a.find(resource, verb == op.List, nil)
	return g != nil && g.caps&Deny == 0 && g.caps&capabilityOf(verb) != 0
}

// Root reports whether a allows everything.
func (a *ACL) Root() bool { return a.root }

// Policies returns the names of the policies that a is made of.
func (a *ACL) Policies() []name.Name { return slices.Clone(a.policies) }

// Capabilities returns what is allowed on path, in the order of the alphabet:
// ["root"] for a holder of root, ["deny"] for nothing.
func (a *ACL) Capabilities(path string) []string {
	if a.root {
		return []string{"root"}
	}
	g := a.find(path, true, nil)
	if g == nil || g.caps&Deny != 0 || g.caps&^inert == 0 {
		return []string{"deny"}
	}
	return (g.caps &^ inert).Words()
}

// AnyUnder reports whether a gives any capability somewhere at or below
// prefix, which ends in a slash or is empty. It may say yes where a better
// pattern with a '+' takes back all that the pattern it found gives.
func (a *ACL) AnyUnder(prefix string) bool {
	if a.root {
		return true
	}
	for path, g := range a.exact {
		if g.gives() && (strings.HasPrefix(path, prefix) || path == strings.TrimSuffix(prefix, "/")) {
			return true
		}
	}
	if g := a.prefixes.longest(prefix, nil); g != nil && g.gives() {
		return true
	}
	return a.prefixes.anyUnder(prefix) || a.segments.anyUnder(prefix)
}

func (g *grant) gives() bool { return g.caps&Deny == 0 && g.caps&^inert != 0 }

// Resultant returns what each pattern comes to, as clients that draw menus by
// it expect: under the paths that are exact or end in a segment, and under
// those that any text may follow, without their '*'.
func (a *ACL) Resultant() (exact, glob map[string][]string) {
	exact, glob = map[string][]string{}, map[string][]string{}
	put := func(g *grant) {
		words := []string{"deny"}
		if g.gives() {
			words = (g.caps &^ inert).Words()
		}
		if g.glob {
			glob[g.literal] = words
			return
		}
		exact[g.pattern] = words
	}
	for _, g := range a.exact {
		put(g)
	}
	for _, g := range a.prefixes.grants {
		put(g)
	}
	a.segments.each(put)
	return exact, glob
}

// Advise tells a call what else its caller may do: its May, Sees and Sudo.
func (a *ACL) Advise(c *op.Call) { c.May, c.Sees, c.Sudo = a.may, a.sees, a.sudo }
