// Package policy decides who may do what.
//
// A [Policy] is a text in Vault's policy language, HCL 1 or JSON, parsed into
// rules. [Compile] makes an [ACL] of the policies that someone holds, which
// answers three questions: may this be done ([ACL.Allow]), what could be done
// ([ACL.May], [ACL.Capabilities]), and why ([ACL.Explain]). All three are
// answered by one evaluator; an explanation is its own trace.
//
// # The language
//
//	path "secret/data/team/*" {
//	  capabilities       = ["create", "update"]
//	  required_parameters = ["data"]
//	  allowed_parameters = { "options" = [], "data" = [] }
//	}
//
// A path is a pattern. A '*' as its last character stands for any text, and a
// segment that is '+' stands for any one segment; elsewhere the two stand for
// themselves. Of the rules that a request meets, only the best pattern counts:
//
//  1. the exact path; for a list also the exact path without its last slash
//  2. else the pattern whose first '+' or final '*' comes later
//  3. else one without a final '*'
//  4. else the one with fewer '+'
//  5. else the longer, else the lexically greater
//
// All rules for that one pattern, also those that stand in one policy twice,
// are united: capabilities add up and deny beats them all, required parameters
// add up, the values of allowed and of denied parameters add up, and of two
// bounds on a wrapping TTL the shorter counts. A rule without allowed
// parameters does not lift those of another.
//
// For reads, creates, updates and patches the parameters of the request are
// then looked at: what is required must be there, nothing that is denied may,
// and where anything is allowed nothing else may be there. An empty list
// stands for every value, "*" for every parameter.
//
// A path that holds {{identity…}} is kept and matches nothing where there is
// no identity to fill it in from.
package policy

import (
	"errors"
	"fmt"
	"math/bits"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"rotunda.dev/rotunda/internal/conf/tree"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/wire"
)

// The bounds of a policy.
const (
	MaxText  = 512 << 10 // bytes of what can be parsed; see [Config] for what can be kept
	MaxRules = 2000
)

// Capabilities is a set of capabilities.
type Capabilities uint16

// The capabilities. Scan, Subscribe and Recover are words of other servers
// that are read and have no effect here.
const (
	Create Capabilities = 1 << iota
	Read
	Update
	Patch
	Delete
	List
	Sudo
	Deny
	Scan
	Subscribe
	Recover

	inert = Scan | Subscribe | Recover
)

var words = [...]string{"create", "read", "update", "patch", "delete", "list", "sudo", "deny", "scan", "subscribe", "recover"}

// Has reports whether c holds all of x.
func (c Capabilities) Has(x Capabilities) bool { return c&x == x }

// Words returns the capabilities' names in the order of the alphabet.
func (c Capabilities) Words() []string {
	out := make([]string, 0, bits.OnesCount16(uint16(c)))
	for i, w := range words {
		if c&(1<<i) != 0 {
			out = append(out, w)
		}
	}
	slices.Sort(out)
	return out
}

func capability(word string) (Capabilities, bool) {
	i := slices.Index(words[:], word)
	return 1 << max(i, 0), i >= 0
}

// capabilityOf is what a verb needs. NoVerb needs what nothing gives.
func capabilityOf(v op.Verb) Capabilities {
	switch v {
	case op.Read:
		return Read
	case op.List:
		return List
	case op.Create:
		return Create
	case op.Update:
		return Update
	case op.Patch:
		return Patch
	case op.Delete:
		return Delete
	case op.Upsert:
		return Create | Update
	case op.NoVerb:
	}
	return 0
}

// Policy is a parsed policy.
type Policy struct {
	Name     name.Name // set by who keeps it; empty where it came from Parse
	Text     string
	Rules    []Rule
	Warnings []string // what was read and has no effect
}

// Rule is one path of a policy.
type Rule struct {
	Path         string // the pattern, without a leading slash
	Line         int    // where it stands in the text
	Capabilities Capabilities
	Allowed      Parameters
	Denied       Parameters
	Required     []string // in lower case
	MinWrap      time.Duration
	MaxWrap      time.Duration
	Templated    bool // Path holds {{…}}, to be filled in from an identity

	line string // the rule on one line
}

// Parse reads a policy. Its error is [fault.Invalid] and says line and column.
func Parse(text string) (*Policy, error) {
	if len(text) > MaxText {
		return nil, fault.New(fault.Invalid, "a policy has at most %d KiB", MaxText>>10)
	}
	p, err := parse(text)
	if err != nil {
		return nil, fault.New(fault.Invalid, "parsing policy: %v", err)
	}
	return p, nil
}

// maxSaid bounds what an error says, in bytes: it may hold a word of the policy.
const maxSaid = 400

func bad(pos tree.Pos, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if len(text) > maxSaid {
		text = strings.ToValidUTF8(text[:maxSaid], "") + "…"
	}
	return &tree.Error{Pos: pos, Text: text}
}

// quoted is a word of a text that could not be parsed, in an error about it.
var quoted = regexp.MustCompile(`(?s) ?'.*'`)

// unquoted returns the error of a text that is no policy at all, and so may
// hold anything, without any word of it.
func unquoted(err error) error {
	e, ok := errors.AsType[*tree.Error](err)
	if !ok {
		return err
	}
	return bad(e.Pos, "%s", quoted.ReplaceAllString(e.Text, ""))
}

func parse(text string) (*Policy, error) {
	root, err := tree.Parse("", text)
	if err != nil {
		return nil, unquoted(err)
	}
	p := &Policy{Text: text}
	named := false
	for _, item := range root.Items {
		switch item.Key() {
		case "name":
			if named || len(item.Keys) > 1 || item.Value.Kind != tree.String {
				return nil, bad(item.Pos(), "name is one text")
			}
			named = true
		case "path":
			rules, err := item.Expand(1)
			if err != nil {
				return nil, err
			}
			for _, r := range rules {
				if err := p.add(r); err != nil {
					return nil, err
				}
			}
		default:
			return nil, bad(item.Pos(), "a policy has no %q; it has blocks path \"…\" { … }", item.Key())
		}
	}
	return p, nil
}

func (p *Policy) warn(pos tree.Pos, format string, args ...any) {
	p.Warnings = append(p.Warnings, pos.String()+": "+fmt.Sprintf(format, args...))
}

func (p *Policy) add(item tree.Item) error {
	if len(p.Rules) == MaxRules {
		return bad(item.Pos(), "a policy has at most %d paths", MaxRules)
	}
	r := Rule{Line: item.Pos().Line}
	if err := r.setPath(p, item.Keys[1]); err != nil {
		return err
	}
	var written bool
	err := item.Value.Object.Attributes(func(a tree.Item) error {
		var err error
		switch a.Key() {
		case "capabilities":
			written = true
			return r.addCapabilities(p, a.Value)
		case "policy":
			written = true
			return r.addShorthand(a.Value)
		case "allowed_parameters":
			r.Allowed, err = parseParameters(a)
		case "denied_parameters":
			r.Denied, err = parseParameters(a)
		case "required_parameters":
			r.Required, err = parseRequired(a)
		case "min_wrapping_ttl":
			r.MinWrap, err = parseTTL(a)
		case "max_wrapping_ttl":
			r.MaxWrap, err = parseTTL(a)
		case "comment":
			if a.Value.Kind != tree.String {
				return bad(a.Value.Pos, "comment is a text, not %s", a.Value.Kind)
			}
		case "mfa_methods", "control_group":
			return bad(a.Pos(), "%s is not offered by this server, and a rule that leaves it out would allow more than is meant", a.Key())
		default:
			return bad(a.Pos(), "a path has no %q; it has capabilities, allowed_parameters, denied_parameters, required_parameters, min_wrapping_ttl and max_wrapping_ttl", a.Key())
		}
		return err
	})
	if err != nil {
		return err
	}
	if r.MinWrap > 0 && r.MaxWrap > 0 && r.MaxWrap < r.MinWrap {
		return bad(item.Pos(), "max_wrapping_ttl is shorter than min_wrapping_ttl")
	}
	if !written || r.Capabilities&^inert == 0 {
		p.warn(item.Pos(), "path %q gives no capability", r.Path)
	}
	r.line = r.summary()
	p.Rules = append(p.Rules, r)
	return nil
}

func (r *Rule) setPath(p *Policy, key tree.Key) error {
	path := strings.TrimPrefix(key.Text, "/")
	if path == "" {
		return bad(key.Pos, "an empty path matches nothing; \"*\" is every path")
	}
	checked := path
	if path == "*" {
		checked = "x"
	}
	if _, err := name.ParsePath(checked); err != nil {
		return bad(key.Pos, "path %q: %s", key.Text, fault.Public(err))
	}
	if strings.Contains(path, "+*") {
		return bad(key.Pos, "path %q: '+' is a whole segment and cannot be followed by '*'", key.Text)
	}
	if open := strings.Index(path, "{{"); open >= 0 {
		inner, _, closed := strings.Cut(path[open:], "}}")
		if !closed {
			return bad(key.Pos, "path %q: {{ without }}", key.Text)
		}
		if !strings.HasPrefix(strings.TrimSpace(inner[2:]), "identity.") {
			return bad(key.Pos, "path %q: a template names something of the identity: {{identity.entity.name}}", key.Text)
		}
		r.Templated = true
		p.warn(key.Pos, "path %q matches nothing for a token without an identity", key.Text)
	}
	if star := strings.IndexByte(path, '*'); star >= 0 && star < len(path)-1 {
		p.warn(key.Pos, "path %q: a '*' that is not the last character stands for itself; '+' is any one segment", key.Text)
	}
	for seg := range strings.SplitSeq(path, "/") {
		if seg != "+" && strings.Contains(seg, "+") {
			p.warn(key.Pos, "path %q: a '+' that is not a whole segment stands for itself", key.Text)
			break
		}
	}
	r.Path = path
	return nil
}

func (r *Rule) addCapabilities(p *Policy, v tree.Value) error {
	if v.Kind != tree.List {
		return bad(v.Pos, "capabilities is a list of words in brackets, not %s", v.Kind)
	}
	for _, w := range v.List {
		c, ok := capability(w.Text)
		if w.Kind != tree.String || !ok {
			return bad(w.Pos, "%q is no capability; they are create, read, update, patch, delete, list, sudo and deny", w.Text)
		}
		if c&inert != 0 {
			p.warn(w.Pos, "the capability %q has no meaning here", w.Text)
		}
		r.Capabilities |= c
	}
	return nil
}

// addShorthand reads the older form policy = "read".
func (r *Rule) addShorthand(v tree.Value) error {
	if v.Kind != tree.String {
		return bad(v.Pos, "policy is a text, not %s", v.Kind)
	}
	switch v.Text {
	case "deny":
		r.Capabilities |= Deny
	case "read":
		r.Capabilities |= Read | List
	case "write":
		r.Capabilities |= Create | Read | Update | Delete | List
	case "sudo":
		r.Capabilities |= Create | Read | Update | Delete | List | Sudo
	default:
		return bad(v.Pos, "policy is \"read\", \"write\", \"sudo\" or \"deny\", not %q", v.Text)
	}
	return nil
}

func parseRequired(a tree.Item) ([]string, error) {
	if a.Value.Kind != tree.List {
		return nil, bad(a.Value.Pos, "%s is a list of names in brackets, not %s", a.Key(), a.Value.Kind)
	}
	var out []string
	for _, v := range a.Value.List {
		if v.Kind != tree.String || v.Text == "" {
			return nil, bad(v.Pos, "the name of a parameter is a text that is not empty")
		}
		if n := strings.ToLower(v.Text); !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out, nil
}

func parseTTL(a tree.Item) (time.Duration, error) {
	if a.Value.Kind != tree.String && a.Value.Kind != tree.Number {
		return 0, bad(a.Value.Pos, "%s is a duration such as \"90s\", not %s", a.Key(), a.Value.Kind)
	}
	d, err := wire.ParseDuration(a.Value.Text)
	if err != nil {
		return 0, bad(a.Value.Pos, "%s: %v", a.Key(), err)
	}
	return time.Duration(d), nil
}

// String returns the policy in one form: in HCL, a rule a block, its keys in a
// fixed order. It decides as the policy does.
func (p *Policy) String() string {
	var b strings.Builder
	for i, r := range p.Rules {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(r.String())
	}
	return b.String()
}

// String returns the rule as a block of a policy.
func (r Rule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "path %s {\n  capabilities = [", quote(r.Path))
	for i, w := range r.Capabilities.Words() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quote(w))
	}
	b.WriteString("]\n")
	r.Allowed.write(&b, "allowed_parameters")
	r.Denied.write(&b, "denied_parameters")
	if len(r.Required) > 0 {
		b.WriteString("  required_parameters = [")
		for i, n := range r.Required {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(quote(n))
		}
		b.WriteString("]\n")
	}
	if r.MinWrap > 0 {
		fmt.Fprintf(&b, "  min_wrapping_ttl = %q\n", r.MinWrap)
	}
	if r.MaxWrap > 0 {
		fmt.Fprintf(&b, "  max_wrapping_ttl = %q\n", r.MaxWrap)
	}
	b.WriteString("}\n")
	return b.String()
}

// quote returns s as a text of HCL 1. A '$' is escaped so that no "${" begins
// in which the syntax reads no escapes.
func quote(s string) string {
	return strings.ReplaceAll(strconv.Quote(s), "$", `\u0024`)
}
