package policy

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/conf/tree"
)

// Parameters are values under the lower-case names of parameters. No value
// stands for every value, the name "*" for every parameter.
type Parameters map[string][]Constant

// Constant is a value that a rule names, to be compared with one that a
// request holds.
//
// A text compares with the text of the request's, and with a number's or a
// boolean's as JSON writes it, since clients send what they like; one that
// begins or ends with '*' is a pattern for it. A number compares by value,
// also with text that holds one. A boolean compares with everything that a
// field of that type reads as it. A list or an object compares whole.
type Constant struct {
	kind jsontext.Kind // 't' for both booleans
	text string        // of a text its content, of a number its canonical form, of a boolean its name
	raw  jsontext.Value
}

// constant returns v as a Constant. It refuses null, which stands for nothing
// that a request means, a number beyond a float64, and a block with a key twice.
func constant(v tree.Value) (Constant, bool) {
	if !holdable(v) {
		return Constant{}, false
	}
	return newConstant(v.JSON())
}

func holdable(v tree.Value) bool {
	switch v.Kind {
	case tree.Null:
		return false
	case tree.Number:
		_, err := strconv.ParseFloat(v.Text, 64)
		return err == nil
	case tree.List:
		return !slices.ContainsFunc(v.List, func(x tree.Value) bool { return !holdable(x) })
	case tree.Object:
		return !slices.ContainsFunc(v.Object.Items, func(x tree.Item) bool { return len(x.Keys) > 1 || !holdable(x.Value) })
	case tree.String, tree.Bool:
	}
	return true
}

func newConstant(raw jsontext.Value) (Constant, bool) {
	raw = raw.Clone()
	c := Constant{kind: raw.Kind(), raw: raw}
	switch c.kind {
	case '"':
		if err := json.Unmarshal(raw, &c.text); err != nil {
			return Constant{}, false
		}
	case '0':
		c.text = canonicalNumber(string(raw))
	case 't', 'f':
		c.kind, c.text = 't', string(raw)
	case 'n', '[', '{':
		if err := c.raw.Canonicalize(); err != nil {
			return Constant{}, false
		}
	default:
		return Constant{}, false
	}
	return c, true
}

// matches reports whether the request's value v is c.
func (c Constant) matches(v jsontext.Value) bool {
	got, ok := newConstant(v)
	if !ok {
		return false
	}
	switch c.kind {
	case '"':
		switch got.kind {
		case '0':
			return globMatches(c.text, string(got.raw)) || isNumber(c.text) && canonicalNumber(c.text) == got.text
		case '"', 't':
			return globMatches(c.text, got.text)
		}
		return false
	case '0':
		switch got.kind {
		case '0':
			return c.text == got.text
		case '"':
			s := strings.TrimSpace(got.text)
			return isNumber(s) && c.text == canonicalNumber(s)
		}
		return false
	case 't':
		switch got.kind {
		case 't':
			return c.text == got.text
		case '0':
			return got.text == "1e0" && c.text == "true" || got.text == "0" && c.text == "false"
		case '"':
			b, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(got.text)))
			return err == nil && strconv.FormatBool(b) == c.text
		}
		return false
	}
	return c.kind == got.kind && string(c.raw) == string(got.raw)
}

// globMatches reports whether s is what pattern says: a '*' at either end
// stands for any text.
func globMatches(pattern, s string) bool {
	if len(pattern) < 2 {
		return pattern == s
	}
	front, back := pattern[0] == '*', pattern[len(pattern)-1] == '*'
	switch {
	case front && back:
		return strings.Contains(s, pattern[1:len(pattern)-1])
	case front:
		return strings.HasSuffix(s, pattern[1:])
	case back:
		return strings.HasPrefix(s, pattern[:len(pattern)-1])
	}
	return pattern == s
}

func isNumber(s string) bool {
	return jsontext.Value(s).Kind() == '0' && jsontext.Value(s).IsValid()
}

// canonicalNumber returns one text for each value: the digits without zeros
// at either end, and the power of ten. s is a number as JSON writes it.
func canonicalNumber(s string) string {
	neg := strings.HasPrefix(s, "-")
	mantissa, exponent, _ := strings.Cut(strings.ToLower(strings.TrimPrefix(s, "-")), "e")
	whole, frac, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+frac, "0")
	trimmed := strings.TrimRight(digits, "0")
	if trimmed == "" {
		return "0"
	}
	power, err := strconv.ParseInt(strings.TrimPrefix(exponent, "+"), 10, 64)
	if exponent == "" {
		power, err = 0, nil
	}
	if err != nil || power > 1<<40 || power < -1<<40 {
		return s // beyond all that a field can hold; itself and nothing else
	}
	power += int64(len(digits)-len(trimmed)) - int64(len(frac))
	if neg {
		trimmed = "-" + trimmed
	}
	return trimmed + "e" + strconv.FormatInt(power, 10)
}

func parseParameters(a tree.Item) (Parameters, error) {
	if a.Value.Kind != tree.Object {
		return nil, bad(a.Value.Pos, "%s is names with lists of values in braces, not %s", a.Key(), a.Value.Kind)
	}
	out := Parameters{}
	err := a.Value.Object.Attributes(func(p tree.Item) error {
		n := strings.ToLower(p.Key())
		if _, twice := out[n]; twice || n == "" {
			return bad(p.Pos(), "the parameter %q is given twice or empty", p.Key())
		}
		if p.Value.Kind != tree.List {
			return bad(p.Value.Pos, "the values of parameter %q are a list in brackets, not %s; [] is every value", p.Key(), p.Value.Kind)
		}
		values := []Constant{}
		for _, v := range p.Value.List {
			c, ok := constant(v)
			if !ok {
				return bad(v.Pos, "a value of parameter %q is null, or holds null, a key twice or a number that cannot be held", p.Key())
			}
			values = append(values, c)
		}
		out[n] = values
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// unite adds more to p, which may be nil, and returns it. No value under a
// name in either stands for every value in both.
func (p Parameters) unite(more Parameters) Parameters {
	if len(more) == 0 {
		return p
	}
	if p == nil {
		p = make(Parameters, len(more))
	}
	for n, values := range more {
		have, both := p[n]
		switch {
		case !both:
			p[n] = slices.Clip(values)
		case len(have) == 0 || len(values) == 0:
			p[n] = nil
		default:
			p[n] = append(have, values...)
		}
	}
	return p
}

// hold reports whether values, of which none stands for all, hold v.
func hold(values []Constant, v jsontext.Value) bool {
	return len(values) == 0 || slices.ContainsFunc(values, func(c Constant) bool { return c.matches(v) })
}

// names returns the names in order.
func (p Parameters) names() []string {
	out := make([]string, 0, len(p))
	for n := range p {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func (p Parameters) write(b *strings.Builder, key string) {
	if len(p) == 0 {
		return
	}
	b.WriteString("  " + key + " = {\n")
	for _, n := range p.names() {
		b.WriteString("    " + quote(n) + " = [")
		for i, c := range p[n] {
			if i > 0 {
				b.WriteString(", ")
			}
			c.write(b)
		}
		b.WriteString("]\n")
	}
	b.WriteString("  }\n")
}

func (c Constant) write(b *strings.Builder) {
	writeConstant(b, c.raw)
}

func writeConstant(b *strings.Builder, raw jsontext.Value) {
	c, _ := newConstant(raw)
	switch c.kind {
	case '"':
		b.WriteString(quote(c.text))
	case '0':
		if _, err := strconv.ParseInt(string(raw), 10, 64); err != nil {
			raw = jsontext.Value(c.text)
		}
		b.Write(raw)
	case '[':
		var items []jsontext.Value
		_ = json.Unmarshal(raw, &items)
		b.WriteByte('[')
		for i, x := range items {
			if i > 0 {
				b.WriteString(", ")
			}
			writeConstant(b, x)
		}
		b.WriteByte(']')
	case '{':
		var items map[string]jsontext.Value
		_ = json.Unmarshal(raw, &items)
		keys := slices.Sorted(maps.Keys(items))
		b.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(quote(k) + " = ")
			writeConstant(b, items[k])
		}
		b.WriteByte('}')
	default:
		b.Write(raw)
	}
}
