package vault

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/wire"
)

// source is the arguments of one request. It is taken apart when an operation
// asks for it, which is after the caller is known.
type source struct {
	plans   *plans
	limits  *door.Limits
	verb    op.Verb
	query   []field
	body    []byte
	isForm  bool
	fields  []field // of the body
	parsed  bool
	err     error
	ignored []string // names that the operation does not know, "config.x" of one in an object
	inPath  []string // top-level names that the path has already given
}

func (s *source) parse() error {
	if s.parsed {
		return s.err
	}
	s.parsed = true
	if s.isForm {
		s.fields, s.err = form(s.body, s.limits)
	} else {
		s.fields, s.err = gate(s.body, s.limits)
	}
	return s.err
}

// fromQuery reports whether the fields of a body come as query parameters.
func fromQuery(v op.Verb) bool { return v == op.Read || v == op.List || v == op.Delete }

// Fill implements [op.Source].
func (s *source) Fill(in any) error {
	v := reflect.ValueOf(in).Elem()
	p := s.plans.request(v.Type())
	if err := s.parse(); err != nil {
		return err
	}
	for _, q := range s.query {
		f, err := p.find(q.name)
		if err != nil {
			return err
		}
		if f == nil || (!f.query && !fromQuery(s.verb)) {
			if fromQuery(s.verb) {
				s.ignored = append(s.ignored, q.name)
			}
			continue
		}
		if q.several && !f.list {
			return fault.New(fault.Invalid, "parameter %q is given more than once", f.name)
		}
		if err := f.set(q.value, v.Field(f.index), s.limits.ListItems); err != nil {
			return fieldFault("invalid parameter: ", f.name, err)
		}
	}
	if fromQuery(s.verb) {
		return nil
	}
	if p.whole >= 0 {
		if len(s.fields) > 0 || len(bytes.TrimSpace(s.body)) > 1 {
			v.Field(p.whole).Set(reflect.ValueOf(secret.NewJSON(s.whole())))
		}
		return nil
	}
	for _, b := range s.fields {
		f, err := p.find(b.name)
		if err != nil {
			return err
		}
		if f == nil || f.query {
			if slices.Contains(p.path, b.name) {
				s.inPath = append(s.inPath, b.name)
			} else {
				s.ignored = append(s.ignored, b.name)
			}
			continue
		}
		if err := f.set(b.value, v.Field(f.index), s.limits.ListItems); err != nil {
			return fieldFault("failed to decode JSON input: field ", f.name, err)
		}
		s.ignored = append(s.ignored, f.unknown(b.value)...)
	}
	return nil
}

// whole returns the body as one JSON object.
func (s *source) whole() []byte {
	if !s.isForm {
		body := bytes.TrimSpace(s.body)
		if string(body) == "null" {
			return nil
		}
		return body
	}
	b := []byte{'{'}
	for i, f := range s.fields {
		if i > 0 {
			b = append(b, ',')
		}
		b, _ = jsontext.AppendQuote(b, f.name) // valid UTF-8, as form made sure
		b = append(append(b, ':'), f.value...)
	}
	return append(b, '}')
}

// Params implements [op.Source].
func (s *source) Params() ([]op.Param, error) {
	from := s.query
	if !fromQuery(s.verb) {
		if err := s.parse(); err != nil {
			return nil, err
		}
		from = s.fields
	}
	params := make([]op.Param, len(from))
	for i, f := range from {
		params[i] = op.Param{Name: strings.ToLower(f.name), Value: f.value}
	}
	return params, nil
}

// warnings returns what the caller is told, with what is told of the fields
// that had no effect.
func (s *source) warnings(said []string) []string {
	if len(s.ignored) > 0 {
		slices.Sort(s.ignored)
		said = append(said, "Endpoint ignored these unrecognized parameters: ["+strings.Join(s.ignored, " ")+"]")
	}
	if len(s.inPath) > 0 {
		slices.Sort(s.inPath)
		said = append(said, "Endpoint replaced the value of these parameters with the values captured from the endpoint's path: ["+strings.Join(s.inPath, " ")+"]")
	}
	return said
}

func fieldFault(prefix, field string, err error) error {
	if w, ok := err.(*wrongType); ok { //nolint:errorlint // made here and never wrapped
		return fault.New(fault.Invalid, "%s%q must be %s", prefix, field+w.at, w.want)
	}
	if errors.Is(err, errOtherCase) {
		return err
	}
	if fault.KindOf(err) != fault.Internal {
		return fault.Wrap(fault.Invalid, err, "%s%q: %s", prefix, field, fault.Public(err))
	}
	return fault.New(fault.Invalid, "%s%q has a malformed value", prefix, field)
}

// errOtherCase is the cause of refusing a name that is one of ours in another case.
var errOtherCase = errors.New("a name in another case")

// wrongType says what a value should have been, and nothing of what it was.
type wrongType struct{ at, want string }

func (w *wrongType) Error() string { return "must be " + w.want }

// decoder sets v from one JSON value that has passed the gate.
type decoder func(raw jsontext.Value, v reflect.Value) error

// planned is one field of a struct.
type planned struct {
	name   string
	index  int
	query  bool // taken from the query only
	list   bool // may be repeated in a query
	decode decoder
	inner  *plan // of the struct that it takes as an object; nil for every other field
}

// set reads raw into v. No list in it may have more items than most: what an
// operation does for each item is done for so many and no more.
func (f *planned) set(raw jsontext.Value, v reflect.Value, most int) error {
	if err := f.decode(raw, v); err != nil {
		return err
	}
	if longest(v) > most {
		return fault.New(fault.Invalid, "a list has at most %d items", most)
	}
	return nil
}

// unknown returns the names in the object raw that mean nothing to f.
func (f *planned) unknown(raw jsontext.Value) (names []string) {
	if f.inner == nil || raw.Kind() != '{' {
		return nil
	}
	_ = eachMember(raw, func(key string, _ jsontext.Value) error { // f has read it already
		if _, ok := f.inner.byName[key]; !ok {
			names = append(names, f.name+"."+key)
		}
		return nil
	})
	return names
}

// longest returns the length of the longest list in v. Bytes are no list, and
// names are left to the bound on the policies of a token.
func longest(v reflect.Value) int {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return longest(v.Elem())
		}
	case reflect.Slice:
		if elem := v.Type().Elem(); elem.Kind() == reflect.Uint8 || elem == nameType {
			return 0
		}
		most := v.Len()
		if k := v.Type().Elem().Kind(); k == reflect.Struct || k == reflect.Pointer || k == reflect.Slice {
			for i := range v.Len() {
				most = max(most, longest(v.Index(i)))
			}
		}
		return most
	case reflect.Struct:
		most := 0
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				most = max(most, longest(v.Field(i)))
			}
		}
		return most
	}
	return 0
}

// plan says how the fields of a struct are filled.
type plan struct {
	fields []planned
	byName map[string]int
	path   []string // names of fields that the path gives
	whole  int      // the field that takes the whole body; negative for none
}

// find returns the field called name, or nil. A name that is one of ours in
// another case is an error: some program would take the one for the other.
func (p *plan) find(called string) (*planned, error) {
	if i, ok := p.byName[called]; ok {
		return &p.fields[i], nil
	}
	for i := range p.fields {
		if strings.EqualFold(p.fields[i].name, called) {
			return nil, fault.Wrap(fault.Invalid, errOtherCase, "failed to decode JSON input: field %q is spelled in another case", p.fields[i].name)
		}
	}
	return nil, nil //nolint:nilnil // a field that is not ours is not an error
}

// plans keeps the plan of each type.
type plans struct{ requests sync.Map } // reflect.Type to *plan

// request returns the plan of an operation's In.
func (ps *plans) request(t reflect.Type) *plan {
	if kept, ok := ps.requests.Load(t); ok {
		if p, ok := kept.(*plan); ok {
			return p
		}
	}
	p := ps.compile(t, true)
	ps.requests.Store(t, p)
	return p
}

func (ps *plans) compile(t reflect.Type, top bool) *plan {
	p := &plan{byName: map[string]int{}, whole: -1}
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		if in, ok := f.Tag.Lookup("path"); ok && top {
			p.path = append(p.path, in)
			continue
		}
		if f.Tag.Get("body") == "whole" {
			p.whole = i
			continue
		}
		x := planned{index: i}
		if q, ok := f.Tag.Lookup("query"); ok {
			x.name, x.query = q, true
		} else {
			x.name, _, _ = strings.Cut(f.Tag.Get("json"), ",")
		}
		if x.name == "-" {
			continue
		}
		if x.name == "" {
			panic(fmt.Sprintf("vault: internal error: %v.%s has no tag that says where it comes from", t, f.Name))
		}
		kind := f.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		x.list = kind.Kind() == reflect.Slice
		x.decode = ps.decoder(f.Type)
		if kind.Kind() == reflect.Struct && !readsItself(kind) {
			x.inner = ps.compile(kind, false)
		}
		p.byName[x.name] = len(p.fields)
		p.fields = append(p.fields, x)
	}
	return p
}

var (
	textType      = reflect.TypeFor[secret.Text]()
	jsonType      = reflect.TypeFor[secret.JSON]()
	bytesType     = reflect.TypeFor[secret.Bytes]()
	rawType       = reflect.TypeFor[jsontext.Value]()
	nameType      = reflect.TypeFor[name.Name]()
	pathType      = reflect.TypeFor[name.Path]()
	jsonUnmarshal = reflect.TypeFor[json.Unmarshaler]()
	fromUnmarshal = reflect.TypeFor[json.UnmarshalerFrom]()
	textUnmarshal = reflect.TypeFor[encoding.TextUnmarshaler]()
	wirePackage   = reflect.TypeFor[wire.Duration]().PkgPath()
)

// decoder returns how a value of type t is read.
func (ps *plans) decoder(t reflect.Type) decoder {
	switch t {
	case textType:
		return func(raw jsontext.Value, v reflect.Value) error {
			s, err := text(raw)
			if err == nil && raw.Kind() != 'n' {
				v.Set(reflect.ValueOf(secret.New(s)))
			}
			return err
		}
	case jsonType:
		return func(raw jsontext.Value, v reflect.Value) error {
			if raw.Kind() != 'n' {
				v.Set(reflect.ValueOf(secret.NewJSON(raw)))
			}
			return nil
		}
	case bytesType:
		return func(raw jsontext.Value, v reflect.Value) error {
			b, err := decode64(raw)
			if err == nil && raw.Kind() != 'n' {
				v.Set(reflect.ValueOf(secret.NewBytes(b)))
			}
			return err
		}
	case reflect.TypeFor[[]byte]():
		return func(raw jsontext.Value, v reflect.Value) error {
			b, err := decode64(raw)
			v.SetBytes(b)
			return err
		}
	case rawType:
		return func(raw jsontext.Value, v reflect.Value) error { v.SetBytes(raw); return nil }
	case nameType:
		return named(func(s string) (string, error) { n, err := name.Parse(s); return string(n), err })
	case pathType:
		return named(func(s string) (string, error) { p, err := name.ParsePath(s); return string(p), err })
	}
	if t.Kind() == reflect.Pointer {
		inner := ps.decoder(t.Elem())
		return func(raw jsontext.Value, v reflect.Value) error {
			if raw.Kind() == 'n' {
				return nil
			}
			v.Set(reflect.New(t.Elem()))
			return inner(raw, v.Elem())
		}
	}
	if readsItself(t) {
		return own(t)
	}
	switch t.Kind() {
	case reflect.String:
		return func(raw jsontext.Value, v reflect.Value) error {
			s, err := text(raw)
			v.SetString(s)
			return err
		}
	case reflect.Bool:
		return boolean
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return integer
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return unsigned
	case reflect.Float32, reflect.Float64:
		return float
	case reflect.Slice:
		return list(t, ps.decoder(t.Elem()))
	case reflect.Map:
		if t.Key().Kind() == reflect.String {
			return mapping(t, ps.decoder(t.Elem()))
		}
	case reflect.Struct:
		return ps.object(t)
	}
	panic(fmt.Sprintf("vault: internal error: a request cannot hold a %v", t))
}

// readsItself reports whether t says how it is read.
func readsItself(t reflect.Type) bool {
	to := reflect.PointerTo(t)
	return slices.Contains([]reflect.Type{textType, jsonType, bytesType}, t) ||
		to.Implements(jsonUnmarshal) || to.Implements(fromUnmarshal) || to.Implements(textUnmarshal)
}

// object returns the decoder of a struct inside a request. Fields of it that
// we do not know are ignored.
func (ps *plans) object(t reflect.Type) decoder {
	p := ps.compile(t, false)
	return func(raw jsontext.Value, v reflect.Value) error {
		if k := raw.Kind(); k != '{' {
			return nullOr(k, "an object")
		}
		return eachMember(raw, func(key string, value jsontext.Value) error {
			f, err := p.find(key)
			if f == nil || err != nil {
				return err
			}
			return under(f.name, f.decode(value, v.Field(f.index)))
		})
	}
}

func under(field string, err error) error {
	if w, ok := err.(*wrongType); ok { //nolint:errorlint // made here and never wrapped
		w.at = "." + field + w.at
	}
	return err
}

// eachMember calls fn for each member of an object, whose values are parts of raw.
func eachMember(raw jsontext.Value, fn func(key string, value jsontext.Value) error) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw))
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != '}' {
		tok, err := dec.ReadToken()
		if err != nil {
			return err
		}
		key := tok.String()
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if err := fn(key, value); err != nil {
			return err
		}
	}
	return nil
}

func eachItem(raw jsontext.Value, fn func(value jsontext.Value) error) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw))
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != ']' {
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if err := fn(value); err != nil {
			return err
		}
	}
	return nil
}

// own lets a type read itself. What it says of a value that it refuses is
// shown only where it is a fault or comes from package wire, whose texts hold
// nothing of the value.
func own(t reflect.Type) decoder {
	return func(raw jsontext.Value, v reflect.Value) error {
		err := json.Unmarshal(raw, v.Addr().Interface())
		if err == nil || fault.KindOf(err) != fault.Internal {
			return err
		}
		if semantic, ok := err.(*json.SemanticError); ok && t.PkgPath() == wirePackage && semantic.Err != nil { //nolint:errorlint // of json.Unmarshal
			return fault.Wrap(fault.Invalid, err, "%s", semantic.Err.Error())
		}
		return err
	}
}

func named(parse func(string) (string, error)) decoder {
	return func(raw jsontext.Value, v reflect.Value) error {
		s, err := text(raw)
		if err != nil || s == "" {
			return err
		}
		if s, err = parse(s); err != nil {
			return err
		}
		v.SetString(s)
		return nil
	}
}

// isScalar reports whether k is a number, true or false.
func isScalar(k jsontext.Kind) bool { return k == '0' || k == 't' || k == 'f' }

// nullOr returns nil where k is that of null, and what should have been there elsewhere.
func nullOr(k jsontext.Kind, want string) error {
	if k == 'n' {
		return nil
	}
	return &wrongType{want: want}
}

// text reads a string; numbers and booleans as they are written, null as the
// empty string.
func text(raw jsontext.Value) (string, error) {
	k := raw.Kind()
	if k == '"' {
		b, err := jsontext.AppendUnquote(nil, raw)
		return string(b), err
	}
	if isScalar(k) {
		return string(raw), nil
	}
	return "", nullOr(k, "text")
}

func decode64(raw jsontext.Value) ([]byte, error) {
	s, err := text(raw)
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, &wrongType{want: "text in base64"}
	}
	return b, nil
}

func boolean(raw jsontext.Value, v reflect.Value) error {
	s, err := text(raw)
	if err == nil {
		var b bool
		if s != "" {
			b, err = strconv.ParseBool(s)
		}
		v.SetBool(b)
	}
	if err != nil {
		return &wrongType{want: "true or false"}
	}
	return nil
}

func integer(raw jsontext.Value, v reflect.Value) error {
	s, err := digits(raw)
	if err != nil || s == "" {
		return err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v.OverflowInt(n) {
		return &wrongType{want: "a whole number"}
	}
	v.SetInt(n)
	return nil
}

func unsigned(raw jsontext.Value, v reflect.Value) error {
	s, err := digits(raw)
	if err != nil || s == "" {
		return err
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || v.OverflowUint(n) {
		return &wrongType{want: "a whole number that is not negative"}
	}
	v.SetUint(n)
	return nil
}

// digits reads a number, or text that holds one.
func digits(raw jsontext.Value) (string, error) {
	s, err := text(raw)
	if k := raw.Kind(); err != nil || k == 't' || k == 'f' {
		return "", &wrongType{want: "a number"}
	}
	return strings.TrimSpace(s), nil
}

func float(raw jsontext.Value, v reflect.Value) error {
	s, err := digits(raw)
	if err != nil || s == "" {
		return err
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f-f != 0 || v.OverflowFloat(f) || strings.ContainsAny(s, "xX_") { // f-f is NaN for NaN and infinities
		return &wrongType{want: "a number"}
	}
	v.SetFloat(f)
	return nil
}

// list reads an array; a single value as a list of one, and text with commas
// as a list of its parts.
func list(t reflect.Type, item decoder) decoder {
	return func(raw jsontext.Value, v reflect.Value) error {
		out := reflect.MakeSlice(t, 0, 0)
		add := func(value jsontext.Value) error {
			x := reflect.New(t.Elem()).Elem()
			if err := item(value, x); err != nil {
				return err
			}
			out = reflect.Append(out, x)
			return nil
		}
		var err error
		switch k := raw.Kind(); {
		case k == '[':
			err = eachItem(raw, add)
		case k == '"':
			err = eachPart(raw, add)
		case isScalar(k):
			err = add(raw)
		default:
			return nullOr(k, "a list")
		}
		if err != nil {
			return err
		}
		v.Set(out)
		return nil
	}
}

// eachPart calls fn for each part of text with commas.
func eachPart(raw jsontext.Value, fn func(value jsontext.Value) error) error {
	s, err := text(raw)
	if err != nil {
		return err
	}
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		quoted, _ := jsontext.AppendQuote(nil, part) // valid UTF-8, as the gate made sure
		if err := fn(quoted); err != nil {
			return err
		}
	}
	return nil
}

func mapping(t reflect.Type, item decoder) decoder {
	return func(raw jsontext.Value, v reflect.Value) error {
		if k := raw.Kind(); k != '{' {
			return nullOr(k, "an object")
		}
		out := reflect.MakeMap(t)
		err := eachMember(raw, func(key string, value jsontext.Value) error {
			x := reflect.New(t.Elem()).Elem()
			if err := item(value, x); err != nil {
				return err
			}
			out.SetMapIndex(reflect.ValueOf(key).Convert(t.Key()), x)
			return nil
		})
		if err == nil {
			v.Set(out)
		}
		return err
	}
}
