// Package intake reads files of secrets that other tools write: .env, JSON and
// YAML.
//
// Values keep what they are: a number keeps its digits, an object its order. A
// name that stands twice in one file is refused, because it cannot be known
// which value is meant.
package intake

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// MaxSize is the size in bytes of the largest file that is read.
const MaxSize = 16 << 20

// Format is how a file is written.
type Format string

// The formats that are read.
const (
	Env  Format = "env"
	JSON Format = "json"
	YAML Format = "yaml"
)

// Item is one secret: its name, and its value as one JSON value. An object in
// a file gives an item for each member, with the names joined by slashes.
type Item struct {
	Path  string // "db/password"
	Value jsontext.Value
}

// FormatOf returns the format that the name of a file tells, or "".
func FormatOf(file string) Format {
	base := strings.ToLower(path.Base(strings.ReplaceAll(file, `\`, "/")))
	switch ext := path.Ext(base); {
	case ext == ".json":
		return JSON
	case ext == ".yaml", ext == ".yml":
		return YAML
	case ext == ".env", strings.HasPrefix(base, ".env"), base == "env":
		return Env
	}
	return ""
}

// Parse reads data in the given format. With flat, the members of nested
// objects are items of their own; without, a nested object is one value.
func Parse(data []byte, format Format, flat bool) ([]Item, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("the file has more than %d MiB", MaxSize>>20)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("the file is not UTF-8 text")
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	var items []Item
	var err error
	switch format {
	case Env:
		items, err = parseEnv(data)
	case JSON:
		items, err = parseJSON(data, flat)
	case YAML:
		items, err = parseYAML(data, flat)
	default:
		return nil, fmt.Errorf("the format %q is not one of env, json, yaml", format)
	}
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, it := range items {
		if err := checkPath(it.Path); err != nil {
			return nil, err
		}
		if seen[it.Path] {
			return nil, fmt.Errorf("%s stands in the file more than once", strconv.Quote(it.Path))
		}
		seen[it.Path] = true
	}
	return items, nil
}

func checkPath(p string) error {
	for s := range strings.SplitSeq(p, "/") {
		if s == "" || s == "." || s == ".." {
			return fmt.Errorf("%s cannot be the path of a secret: it has an empty segment or one of dots", strconv.Quote(p))
		}
	}
	return nil
}

func parseJSON(data []byte, flat bool) ([]Item, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	v, err := dec.ReadValue()
	if err != nil {
		return nil, fmt.Errorf("the file is not strict JSON: %s", where(data, err))
	}
	v = slices.Clone(v) // reading on takes it back
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the file is not strict JSON: there is more after its value")
	}
	if v.Kind() != '{' {
		return nil, errors.New("the file must hold one object of names and values")
	}
	return flatten(v, flat)
}

// where says on which line err is, without quoting it.
func where(data []byte, err error) string {
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		at := min(int(e.ByteOffset), len(data))
		line := 1 + bytes.Count(data[:at], []byte("\n"))
		what := "it does not parse"
		if errors.Is(err, jsontext.ErrDuplicateName) {
			what = "a name stands twice"
		}
		return fmt.Sprintf("line %d: %s", line, what)
	}
	return "it does not parse"
}

// flatten returns the members of the object v; with deep, those of objects in
// it too.
func flatten(v jsontext.Value, deep bool) ([]Item, error) {
	var items []Item
	var walk func(prefix string, v jsontext.Value, depth int) error
	walk = func(prefix string, v jsontext.Value, depth int) error {
		if depth > 32 {
			return errors.New("objects are nested more than 32 deep")
		}
		dec := jsontext.NewDecoder(bytes.NewReader(v))
		if _, err := dec.ReadToken(); err != nil {
			return fmt.Errorf("reading an object: %w", err)
		}
		for dec.PeekKind() != '}' {
			name, err := dec.ReadToken()
			if err != nil {
				return fmt.Errorf("reading a name: %w", err)
			}
			member := name.String()
			val, err := dec.ReadValue()
			if err != nil {
				return fmt.Errorf("reading a value: %w", err)
			}
			if deep && strings.Contains(member, "/") && val.Kind() == '{' {
				return fmt.Errorf("the name %s holds a slash and an object", strconv.Quote(member))
			}
			if deep && val.Kind() == '{' {
				if err := walk(prefix+member+"/", val, depth+1); err != nil {
					return err
				}
				continue
			}
			items = append(items, Item{prefix + member, slices.Clone(val)})
		}
		return nil
	}
	if err := walk("", v, 0); err != nil {
		return nil, err
	}
	return items, nil
}

func parseYAML(data []byte, flat bool) ([]Item, error) {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, errors.New("the file is not YAML: " + yamlWhere(err))
	}
	var docs []*ast.DocumentNode
	for _, d := range file.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType {
			docs = append(docs, d)
		}
	}
	switch len(docs) {
	case 0:
		return nil, errors.New("the file must hold one mapping of names and values")
	case 1:
	default:
		return nil, errors.New("the file holds more than one YAML document")
	}
	c := yamlConverter{}
	v, err := c.convert(docs[0].Body, 0)
	if err != nil {
		return nil, err
	}
	if v.Kind() != '{' {
		return nil, errors.New("the file must hold one mapping of names and values")
	}
	if !v.IsValid() {
		return nil, errors.New("a name stands twice in one mapping")
	}
	return flatten(v, flat)
}

// yamlWhere returns the position in err without the source that it shows.
func yamlWhere(err error) string {
	text := yaml.FormatError(err, false, false)
	first, _, _ := strings.Cut(text, "\n")
	if at := strings.IndexByte(first, ']'); strings.HasPrefix(first, "[") && at > 0 {
		pos := strings.Split(first[1:at], ":")
		return "line " + pos[0] + ": it does not parse"
	}
	return "it does not parse"
}

// yamlConverter turns YAML into JSON. Aliases, merge keys and tags of one's
// own are refused: a file of secrets has no use for them, and expanding them is
// how a small file becomes a large one.
type yamlConverter struct{}

func (c yamlConverter) convert(n ast.Node, depth int) (jsontext.Value, error) {
	if depth > 32 {
		return nil, errors.New("the file is nested more than 32 deep")
	}
	at := func(what string) error {
		line := 0
		if t := n.GetToken(); t != nil && t.Position != nil {
			line = t.Position.Line
		}
		return fmt.Errorf("line %d: %s", line, what)
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return c.object(n.Values, depth)
	case *ast.MappingValueNode:
		return c.object([]*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		out := jsontext.Value{'['}
		for i, v := range n.Values {
			j, err := c.convert(v, depth+1)
			if err != nil {
				return nil, err
			}
			if i > 0 {
				out = append(out, ',')
			}
			out = append(out, j...)
		}
		return append(out, ']'), nil
	case *ast.StringNode:
		if v := jsontext.Value(n.Value); n.Token != nil && n.Token.Type == token.StringType && v.IsValid() && v.Kind() == '0' {
			return slices.Clone(v), nil // a number that fits no machine word
		}
		return text(n.Value)
	case *ast.LiteralNode:
		return text(n.Value.Value)
	case *ast.BoolNode:
		return jsontext.Value(strconv.FormatBool(n.Value)), nil
	case *ast.NullNode:
		return jsontext.Value("null"), nil
	case *ast.IntegerNode, *ast.FloatNode:
		raw := strings.TrimSpace(n.GetToken().Value)
		if v := jsontext.Value(raw); v.IsValid() && v.Kind() == '0' {
			return v, nil // as it is spelled: 1.50 and 2^64 survive
		}
		return text(raw) // 0x1F, 0o17, 1_000, +1: a spelling that JSON does not have is kept as text
	case *ast.InfinityNode, *ast.NanNode:
		return text(n.GetToken().Value)
	case *ast.TagNode:
		if n.Start.Value == "!!str" && n.Value != nil {
			if s, ok := n.Value.(*ast.StringNode); ok {
				return text(s.Value)
			}
			return text(n.Value.GetToken().Value)
		}
		return nil, at("the tag " + n.Start.Value + " is not read")
	case *ast.AnchorNode:
		return nil, at("anchors are not read")
	case *ast.AliasNode:
		return nil, at("aliases are not read")
	default:
		return nil, at("this is not read")
	}
}

func (c yamlConverter) object(values []*ast.MappingValueNode, depth int) (jsontext.Value, error) {
	out := jsontext.Value{'{'}
	for i, m := range values {
		line := 0
		if t := m.Key.GetToken(); t != nil && t.Position != nil {
			line = t.Position.Line
		}
		var name string
		switch k := m.Key.(type) {
		case *ast.StringNode:
			name = k.Value
		case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
			name = m.Key.GetToken().Value
		case *ast.MergeKeyNode:
			return nil, fmt.Errorf("line %d: merge keys are not read", line)
		default:
			return nil, fmt.Errorf("line %d: this cannot be a name", line)
		}
		key, err := text(name)
		if err != nil {
			return nil, err
		}
		if m.Value == nil {
			return nil, fmt.Errorf("line %d: a name without a value", line)
		}
		val, err := c.convert(m.Value, depth+1)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, key...), ':'), val...)
	}
	return append(out, '}'), nil
}

func text(s string) (jsontext.Value, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, errors.New("a text in the file is not UTF-8")
	}
	return b, nil
}
