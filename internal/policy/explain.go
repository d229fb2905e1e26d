package policy

import (
	"slices"
	"strings"

	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
)

// Trace is how an answer to an [op.Ask] came about.
type Trace struct {
	Verb       string      `json:"verb" audit:"clear" doc:"What was asked for."`
	Path       string      `json:"path" audit:"clear" doc:"The path that was asked about."`
	Allowed    bool        `json:"allowed" doc:"Whether it is allowed."`
	Policy     name.Name   `json:"policy" doc:"The policy whose rule decided; empty where no rule matches."`
	Rule       string      `json:"rule" audit:"clear" doc:"The rule that decided."`
	Reason     string      `json:"reason" audit:"clear" doc:"One sentence that says why."`
	Missing    []string    `json:"missing" audit:"clear" doc:"What was not given: capabilities, or what is wrong with a parameter or a wrapping TTL."`
	Needed     string      `json:"needed" audit:"clear" doc:"What would be needed, in words; empty where it is allowed."`
	Stanza     string      `json:"stanza" audit:"clear" doc:"A rule that would allow it, to be put into a policy; empty where no added rule can."`
	Candidates []Candidate `json:"candidates" doc:"Every rule whose path matches, the deciding ones first."`
}

// Candidate is a rule whose path matches what was asked about.
type Candidate struct {
	Policy       name.Name `json:"policy" doc:"The policy that the rule stands in."`
	Path         string    `json:"path" audit:"clear" doc:"The rule's path."`
	Line         int       `json:"line" doc:"Where the rule stands in the policy's text."`
	Capabilities []string  `json:"capabilities" audit:"clear" doc:"What the rule gives."`
	Decided      bool      `json:"decided" doc:"Whether its pattern is the best one."`
	Why          string    `json:"why" audit:"clear" doc:"Why the rule counts or does not."`
}

// Explain answers ask as [ACL.Allow] does, by the same code, and says how.
func (a *ACL) Explain(ask op.Ask) Trace {
	t := Trace{Verb: ask.Verb.String(), Path: ask.Resource, Missing: []string{}, Candidates: []Candidate{}}
	if a.root {
		t.Allowed, t.Policy, t.Rule, t.Reason = true, name.Root, rootRule, "The policy root allows everything."
		return t
	}
	var met []*grant
	won := a.find(ask.Resource, ask.Verb == op.List, func(g *grant) {
		if !slices.Contains(met, g) {
			met = append(met, g)
		}
	})
	v := won.decide(ask)
	t.Allowed, t.Policy, t.Rule, t.Missing = v.Allowed, v.Policy, v.Rule, append(t.Missing, v.Missing...)
	slices.SortStableFunc(met, func(x, y *grant) int {
		switch {
		case x == y:
			return 0
		case x == won || y != won && x.beats(y):
			return -1
		}
		return 1
	})
	for _, g := range met {
		for _, s := range g.sources {
			t.Candidates = append(t.Candidates, Candidate{
				Policy: s.policy, Path: s.rule.Path, Line: s.rule.Line, Capabilities: s.rule.Capabilities.Words(),
				Decided: g == won, Why: g.why(won, s),
			})
		}
	}
	t.reason(won, ask)
	return t
}

// why says what became of s, a rule of g.
func (g *grant) why(won *grant, s *source) string {
	if g == won {
		switch {
		case s.rule.Capabilities&Deny != 0:
			return "best pattern; its deny beats every capability that other rules give for the same pattern"
		case g.caps&Deny != 0:
			return "best pattern, but another rule for the same pattern denies"
		case len(g.sources) > 1:
			return "best pattern; united with the other rules for the same pattern"
		}
		return "best pattern"
	}
	switch {
	case !won.glob && won.plus == 0 && !g.glob && g.plus == 0:
		return "the path with its last slash is more exact"
	case !won.glob && won.plus == 0:
		return quote(won.pattern) + " is the exact path"
	case g.first != won.first:
		return "the first '+' or '*' of " + quote(won.pattern) + " comes later"
	case g.glob != won.glob:
		return quote(won.pattern) + " does not end in '*'"
	case g.plus != won.plus:
		return quote(won.pattern) + " has fewer '+'"
	case len(g.literal) != len(won.literal):
		return quote(won.pattern) + " is longer"
	}
	return quote(won.pattern) + " is lexically greater"
}

// reason fills in the words of t.
func (t *Trace) reason(won *grant, ask op.Ask) {
	needs := capabilityOf(ask.Verb)
	if ask.Sudo {
		needs |= Sudo
	}
	path := ask.Resource
	stanza := func(c Capabilities) string { return Rule{Path: path, Capabilities: c}.String() }
	switch {
	case needs&^Sudo == 0:
		t.Reason = "Nothing was asked for."
	case won == nil:
		t.Reason = "No policy has a rule for this path."
		t.Needed = list(needs.Words()) + " on " + quote(path)
		t.Stanza = stanza(needs)
	case won.caps&Deny != 0:
		t.Reason = "The policy " + string(t.Policy) + " denies " + quote(won.pattern) + "."
		if won.glob || won.plus > 0 {
			t.Needed = "a rule with a better pattern than " + quote(won.pattern) + " that gives " + list(needs.Words()) + ", or the deny taken out of the policy " + string(t.Policy)
			t.Stanza = stanza(needs)
		} else {
			t.Needed = "the deny taken out of the policy " + string(t.Policy)
		}
	case needs&^won.caps != 0:
		lacks := needs &^ won.caps
		t.Reason = "The best pattern, " + quote(won.pattern) + ", does not give " + list(lacks.Words()) + "."
		t.Needed = list(lacks.Words()) + " on " + quote(won.pattern) + " (other patterns do not add to it)"
		t.Stanza = Rule{Path: won.pattern, Capabilities: won.caps&^inert | needs}.String()
	case !t.Allowed:
		t.Reason = "The rule for " + quote(won.pattern) + " gives the capability and asks for more: " + strings.Join(t.Missing, "; ") + "."
		t.Needed = strings.Join(t.Missing, "; ")
	default:
		t.Reason = "The policy " + string(t.Policy) + " gives " + list(needs.Words()) + " on " + quote(won.pattern) + "."
	}
}

// list returns words as a sentence lists them.
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// Wanted says in words, and as a rule, what would be needed for ask, of which
// missing is missing. It tells nothing of the rules that there are, besides
// what [ACL.Capabilities] tells, so it is for who may not see them. The rule
// names the exact path, and so gives what is given there already as well.
func (a *ACL) Wanted(ask op.Ask, missing []string) (needed, stanza string) {
	var lacks Capabilities
	for _, w := range missing {
		c, ok := capability(w)
		if !ok {
			return strings.Join(missing, "; "), ""
		}
		lacks |= c
	}
	gives := capabilityOf(ask.Verb)
	if ask.Sudo {
		gives |= Sudo
	}
	if g := a.find(ask.Resource, ask.Verb == op.List, nil); g != nil && g.gives() {
		gives |= g.caps &^ inert
	}
	return list(lacks.Words()) + " on " + quote(ask.Resource), Rule{Path: ask.Resource, Capabilities: gives}.String()
}
