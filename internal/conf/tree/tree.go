// Package tree reads text in HCL 1 syntax, or in JSON, into values that know
// where they stand.
//
// It is the one reader of policies and of configuration files. It is strict
// where the syntax is not: an attribute that is given twice is an error, also
// in JSON, and what is too deep or not valid UTF-8 is refused. It keeps what
// HCL 1 keeps: two attributes on a line, quoted keys, and "${" as it is.
package tree

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/parser"
	"github.com/hashicorp/hcl/hcl/scanner"
	"github.com/hashicorp/hcl/hcl/token"
)

// MaxDepth bounds how deep blocks and lists may stand in one another.
const MaxDepth = 32

// Pos is a place in a text. Lines and columns count from 1.
type Pos struct {
	File         string // empty where the text is not a file
	Line, Column int
}

// String returns "FILE:3:5", or "line 3, column 5" where there is no file.
func (p Pos) String() string {
	if p.File == "" {
		return fmt.Sprintf("line %d, column %d", p.Line, p.Column)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Error is something wrong at one place of a text.
type Error struct {
	Pos  Pos
	Text string
}

// Error returns the place and what is wrong there.
func (e *Error) Error() string { return e.Pos.String() + ": " + e.Text }

// Kind is the kind of a Value.
type Kind uint8

// The kinds of values.
const (
	String Kind = iota + 1
	Number
	Bool
	Null // in JSON only
	List
	Object
)

// String returns the kind as an error message names it.
func (k Kind) String() string {
	switch k {
	case String:
		return "text"
	case Number:
		return "a number"
	case Bool:
		return "true or false"
	case Null:
		return "null"
	case List:
		return "a list"
	case Object:
		return "a block"
	}
	return "nothing"
}

// Value is what stands behind a key.
type Value struct {
	Pos    Pos
	Kind   Kind
	Text   string  // of a String its content, of a Number JSON's decimal form, of a Bool "true" or "false"
	List   []Value // of a List
	Object *Block  // of an Object
}

// Key is one of the words before a value.
type Key struct {
	Pos  Pos
	Text string
}

// Item is an attribute (one key) or a block (a key and its labels).
type Item struct {
	Keys  []Key
	Value Value
}

// Key returns the first key's text.
func (i Item) Key() string { return i.Keys[0].Text }

// Pos returns where the item begins.
func (i Item) Pos() Pos { return i.Keys[0].Pos }

// Block is a list of items in the order of the text.
type Block struct {
	Pos   Pos
	Items []Item
}

// Parse reads text, which is JSON if its first character is '{' and HCL
// otherwise. file names it in errors, every one of which is an [*Error].
func Parse(file, text string) (*Block, error) {
	if i := firstBadRune(text); i >= 0 {
		return nil, &Error{at(file, text, i), "text is not valid UTF-8"}
	}
	if strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{") {
		return parseJSON(file, text)
	}
	return parseHCL(file, text)
}

// Expand returns the blocks that i, whose first key names a kind of block,
// stands for: each with exactly the given number of labels. The forms are
//
//	kind "label" { … }      kind = { "label" = { … } }      kind = [ { "label" = { … } }, … ]
//
// of which the latter two are how JSON writes the first.
func (i Item) Expand(labels int) ([]Item, error) {
	switch {
	case len(i.Keys) > labels+1:
		return nil, &Error{i.Keys[labels+1].Pos, fmt.Sprintf("%s takes %s", i.Key(), plural(labels, "label"))}
	case i.Value.Kind == List:
		var out []Item
		for _, v := range i.Value.List {
			more, err := Item{i.Keys, v}.Expand(labels)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
		return out, nil
	case i.Value.Kind != Object:
		return nil, &Error{i.Value.Pos, fmt.Sprintf("%s is a block in braces, not %s", i.Key(), i.Value.Kind)}
	case len(i.Keys) == labels+1:
		return []Item{i}, nil
	}
	var out []Item
	for _, inner := range i.Value.Object.Items {
		if !inner.Value.holdsBlocks() {
			return nil, &Error{i.Pos(), fmt.Sprintf("%s needs %s before its braces", i.Key(), plural(labels, "label"))}
		}
		keys := append(append([]Key{}, i.Keys...), inner.Keys...)
		more, err := Item{keys, inner.Value}.Expand(labels)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// holdsBlocks reports whether v is a block or a list of nothing but blocks.
func (v Value) holdsBlocks() bool {
	return v.Kind == Object || v.Kind == List && !slices.ContainsFunc(v.List, func(x Value) bool { return !x.holdsBlocks() })
}

func plural(n int, what string) string {
	switch n {
	case 0:
		return "no " + what
	case 1:
		return "one " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// Attributes calls fn for every item of b, and returns fn's first error. An
// item with labels, and one whose key has been before, is an error.
func (b *Block) Attributes(fn func(Item) error) error {
	seen := make(map[string]Pos, len(b.Items))
	for _, i := range b.Items {
		if len(i.Keys) > 1 {
			return &Error{i.Keys[1].Pos, fmt.Sprintf("%s takes no label", i.Key())}
		}
		if before, twice := seen[i.Key()]; twice {
			return &Error{i.Pos(), fmt.Sprintf("%s is given twice, first in line %d", i.Key(), before.Line)}
		}
		seen[i.Key()] = i.Pos()
		if err := fn(i); err != nil {
			return err
		}
	}
	return nil
}

func firstBadRune(s string) int {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// at returns the place of a byte of text.
func at(file, text string, offset int) Pos {
	offset = min(max(offset, 0), len(text))
	before := text[:offset]
	return Pos{File: file, Line: 1 + strings.Count(before, "\n"), Column: 1 + utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])}
}

func parseHCL(file, text string) (*Block, error) {
	text = strings.ReplaceAll(text, "\r\n", "\n") // as the parser does, so that places agree
	if err := checkDepth(file, text); err != nil {
		return nil, err
	}
	f, err := parser.Parse([]byte(text))
	if err != nil {
		if e, ok := errors.AsType[*parser.PosError](err); ok {
			return nil, &Error{hclPos(file, e.Pos), e.Err.Error()}
		}
		return nil, &Error{Pos{file, 1, 1}, err.Error()}
	}
	list, ok := f.Node.(*ast.ObjectList)
	if !ok {
		return nil, &Error{Pos{file, 1, 1}, "not a list of attributes and blocks"}
	}
	return fromList(file, Pos{file, 1, 1}, list)
}

// checkDepth reads the text's tokens before the parser, which recurses without
// a bound, does.
func checkDepth(file, text string) (err error) {
	s := scanner.New([]byte(text))
	s.Error = func(pos token.Pos, msg string) {
		if err == nil {
			err = &Error{hclPos(file, pos), msg}
		}
	}
	for depth := 0; err == nil; {
		t := s.Scan()
		switch t.Type { //nolint:exhaustive // only brackets and the end matter
		case token.EOF:
			return err
		case token.LBRACE, token.LBRACK:
			if depth++; depth > MaxDepth {
				return &Error{hclPos(file, t.Pos), fmt.Sprintf("more than %d blocks or lists in one another", MaxDepth)}
			}
		case token.RBRACE, token.RBRACK:
			depth--
		}
	}
	return err
}

func fromList(file string, pos Pos, list *ast.ObjectList) (*Block, error) {
	b := &Block{Pos: pos}
	for _, item := range list.Items {
		out := Item{}
		for _, k := range item.Keys {
			text, err := literal(file, k.Token)
			if err != nil {
				return nil, err
			}
			out.Keys = append(out.Keys, Key{hclPos(file, k.Token.Pos), text})
		}
		v, err := fromNode(file, item.Val)
		if err != nil {
			return nil, err
		}
		if out.Value = v; len(out.Keys) == 0 {
			return nil, &Error{v.Pos, "a value without a key"}
		}
		b.Items = append(b.Items, out)
	}
	return b, nil
}

func hclPos(file string, p token.Pos) Pos { return Pos{file, max(p.Line, 1), max(p.Column, 1)} }

func fromNode(file string, n ast.Node) (Value, error) {
	switch n := n.(type) {
	case *ast.LiteralType:
		text, err := literal(file, n.Token)
		if err != nil {
			return Value{}, err
		}
		v := Value{Pos: hclPos(file, n.Token.Pos), Text: text}
		switch n.Token.Type { //nolint:exhaustive // literal has refused the others
		case token.NUMBER, token.FLOAT:
			v.Kind = Number
		case token.BOOL:
			v.Kind = Bool
		default:
			v.Kind = String
		}
		return v, nil
	case *ast.ListType:
		v := Value{Pos: hclPos(file, n.Lbrack), Kind: List}
		for _, x := range n.List {
			item, err := fromNode(file, x)
			if err != nil {
				return Value{}, err
			}
			v.List = append(v.List, item)
		}
		return v, nil
	case *ast.ObjectType:
		b, err := fromList(file, hclPos(file, n.Lbrace), n.List)
		return Value{Pos: hclPos(file, n.Lbrace), Kind: Object, Object: b}, err
	}
	return Value{}, &Error{Pos{file, 1, 1}, "a value of an unknown kind"}
}

// literal returns what a token stands for: of a number its decimal form.
func literal(file string, t token.Token) (text string, err error) {
	bad := func(what string) error { return &Error{hclPos(file, t.Pos), what} }
	defer func() {
		// The library panics where an escape in a text or the end of a heredoc
		// is not what its scanner let through.
		if recover() != nil {
			err = bad("malformed text")
		}
	}()
	switch t.Type { //nolint:exhaustive // all others are errors
	case token.NUMBER:
		n, err := strconv.ParseInt(t.Text, 0, 64)
		if err != nil {
			return "", bad("a whole number has 64 bits at most")
		}
		return strconv.FormatInt(n, 10), nil
	case token.FLOAT:
		f, err := strconv.ParseFloat(t.Text, 64)
		if err != nil {
			return "", bad("not a number that can be held")
		}
		if v := jsontext.Value(t.Text); v.IsValid() {
			return t.Text, nil // digit for digit
		}
		return strconv.FormatFloat(f, 'g', -1, 64), nil
	case token.BOOL, token.IDENT:
		return t.Text, nil
	case token.STRING, token.HEREDOC:
		s, _ := t.Value().(string)
		if firstBadRune(s) >= 0 {
			return "", bad("text is not valid UTF-8")
		}
		return s, nil
	}
	return "", bad("unexpected " + t.Type.String())
}

func parseJSON(file, text string) (*Block, error) {
	d := jsontext.NewDecoder(strings.NewReader(text))
	r := &jsonReader{file: file, text: text, d: d, here: Pos{file, 1, 1}}
	v, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := d.ReadToken(); err == nil {
		return nil, r.bad("text after the end of the JSON object")
	}
	if rest := strings.TrimLeft(text[d.InputOffset():], " \t\r\n"); rest != "" {
		return nil, r.bad("text after the end of the JSON object")
	}
	return v.Object, nil
}

type jsonReader struct {
	file, text string
	d          *jsontext.Decoder
	offset     int // the byte that here is the place of; it only moves forward
	here       Pos
}

func (r *jsonReader) bad(format string, args ...any) error {
	return &Error{at(r.file, r.text, int(r.d.InputOffset())), fmt.Sprintf(format, args...)}
}

func (r *jsonReader) at(offset int) Pos {
	passed := at("", r.text[r.offset:offset], offset)
	if passed.Line > 1 {
		r.here.Column = 0
	}
	r.here.Line += passed.Line - 1
	r.here.Column += passed.Column
	if passed.Line == 1 {
		r.here.Column--
	}
	r.offset = offset
	return r.here
}

// next returns the next token and where it begins.
func (r *jsonReader) next() (jsontext.Token, Pos, error) {
	from := int(r.d.InputOffset())
	for from < len(r.text) && strings.IndexByte(" \t\r\n,:", r.text[from]) >= 0 {
		from++
	}
	pos := r.at(from)
	t, err := r.d.ReadToken()
	if err != nil {
		what := "malformed JSON"
		if errors.Is(err, jsontext.ErrDuplicateName) {
			what = "a key is given twice"
		} else if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok && e.Err != nil {
			what += ": " + e.Err.Error()
		}
		return t, pos, &Error{pos, what}
	}
	return t, pos, nil
}

func (r *jsonReader) value(depth int) (Value, error) {
	if depth > MaxDepth {
		return Value{}, r.bad("more than %d objects or lists in one another", MaxDepth)
	}
	t, pos, err := r.next()
	if err != nil {
		return Value{}, err
	}
	switch t.Kind() {
	case 'n':
		return Value{Pos: pos, Kind: Null}, nil
	case 't', 'f':
		return Value{Pos: pos, Kind: Bool, Text: t.String()}, nil
	case '0':
		return Value{Pos: pos, Kind: Number, Text: t.String()}, nil
	case '"':
		return Value{Pos: pos, Kind: String, Text: t.String()}, nil
	case '[':
		v := Value{Pos: pos, Kind: List}
		for r.d.PeekKind() != ']' {
			item, err := r.value(depth + 1)
			if err != nil {
				return Value{}, err
			}
			v.List = append(v.List, item)
		}
		_, _, err := r.next()
		return v, err
	case '{':
		v := Value{Pos: pos, Kind: Object, Object: &Block{Pos: pos}}
		for r.d.PeekKind() != '}' {
			k, at, err := r.next()
			if err != nil {
				return Value{}, err
			}
			key := Key{at, k.String()}
			inner, err := r.value(depth + 1)
			if err != nil {
				return Value{}, err
			}
			v.Object.Items = append(v.Object.Items, Item{[]Key{key}, inner})
		}
		_, _, err := r.next()
		return v, err
	}
	return Value{}, &Error{pos, "malformed JSON"}
}

// JSON returns v as JSON text. A block becomes an object, its labels objects
// in objects.
func (v Value) JSON() jsontext.Value {
	switch v.Kind {
	case String:
		out, err := jsontext.AppendQuote(nil, v.Text)
		if err != nil {
			panic("tree: internal error: text is not valid UTF-8")
		}
		return out
	case Number, Bool:
		return jsontext.Value(v.Text)
	case List:
		out := []byte{'['}
		for i, x := range v.List {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(out, x.JSON()...)
		}
		return append(out, ']')
	case Object:
		out := []byte{'{'}
		for i, item := range v.Object.Items {
			if i > 0 {
				out = append(out, ',')
			}
			for _, k := range item.Keys {
				out = append(out, Value{Kind: String, Text: k.Text}.JSON()...)
				out = append(out, ":{"...)
			}
			out = append(out[:len(out)-1], item.Value.JSON()...)
			for range len(item.Keys) - 1 {
				out = append(out, '}')
			}
		}
		return append(out, '}')
	case Null:
	}
	return jsontext.Value("null")
}
