package vault

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/wire"
)

// appender appends a value as JSON, with its secrets revealed.
type appender func(b []byte, v reflect.Value) ([]byte, error)

// values keeps how each type is written. It writes what package json would
// write with the options of reveal, but that a secret.JSON keeps its bytes;
// what has rules of its own is left to that package.
type values struct{ byType sync.Map } // reflect.Type to appender

// append appends v, with its secrets revealed.
func (vs *values) append(b []byte, v any) ([]byte, error) {
	if v == nil {
		return append(b, "null"...), nil
	}
	rv := reflect.ValueOf(v)
	b, err := vs.appender(rv.Type(), nil)(b, rv)
	if err != nil {
		return nil, fmt.Errorf("encoding a %v: %w", rv.Type(), err)
	}
	return b, nil
}

// appender returns how t is written. The types of outer are being looked at.
func (vs *values) appender(t reflect.Type, outer []reflect.Type) appender {
	if kept, ok := vs.byType.Load(t); ok {
		if a, ok := kept.(appender); ok {
			return a
		}
	}
	if slices.Contains(outer, t) {
		return func(b []byte, v reflect.Value) ([]byte, error) { return vs.appender(t, nil)(b, v) }
	}
	a := vs.make(t, append(outer, t))
	vs.byType.Store(t, a)
	return a
}

var isZeroer = reflect.TypeFor[interface{ IsZero() bool }]()

func (vs *values) make(t reflect.Type, outer []reflect.Type) appender {
	switch t {
	case textType:
		return func(b []byte, v reflect.Value) ([]byte, error) {
			s, _ := reflect.TypeAssert[secret.Text](v) // which it is
			return appendString(b, s.Reveal()), nil
		}
	case jsonType:
		return func(b []byte, v reflect.Value) ([]byte, error) {
			j, _ := reflect.TypeAssert[secret.JSON](v) // which it is
			if j.Empty() {
				return append(b, "null"...), nil
			}
			return append(b, j.Reveal()...), nil
		}
	case reflect.TypeFor[wire.Duration]():
		return func(b []byte, v reflect.Value) ([]byte, error) { return appendSeconds(b, time.Duration(v.Int())), nil }
	case reflect.TypeFor[wire.Time]():
		return func(b []byte, v reflect.Value) ([]byte, error) {
			at, _ := reflect.TypeAssert[wire.Time](v) // which it is
			b = append(b, '"')
			if !time.Time(at).IsZero() {
				b = time.Time(at).UTC().AppendFormat(b, time.RFC3339Nano)
			}
			return append(b, '"'), nil
		}
	case reflect.TypeFor[wire.Strings]():
		return vs.list(reflect.TypeFor[string](), outer)
	case reflect.TypeFor[wire.Map]():
		return vs.mapping(reflect.TypeFor[string](), outer, "null")
	}
	if to := reflect.PointerTo(t); t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface &&
		(to.Implements(jsonMarshaler) || to.Implements(jsonMarshalTo) || to.Implements(textMarshaler) || to.Implements(reflect.TypeFor[encoding.TextAppender]())) {
		return leaf
	}
	switch t.Kind() {
	case reflect.Bool:
		return func(b []byte, v reflect.Value) ([]byte, error) { return strconv.AppendBool(b, v.Bool()), nil }
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if t != reflect.TypeFor[time.Duration]() { // which package json refuses
			return func(b []byte, v reflect.Value) ([]byte, error) { return strconv.AppendInt(b, v.Int(), 10), nil }
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(b []byte, v reflect.Value) ([]byte, error) { return strconv.AppendUint(b, v.Uint(), 10), nil }
	case reflect.String:
		return func(b []byte, v reflect.Value) ([]byte, error) { return appendString(b, v.String()), nil }
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 {
			return vs.list(t.Elem(), outer)
		}
	case reflect.Map:
		if t.Key() == reflect.TypeFor[string]() {
			return vs.mapping(t.Elem(), outer, "{}")
		}
	case reflect.Pointer:
		inner := vs.appender(t.Elem(), outer)
		return func(b []byte, v reflect.Value) ([]byte, error) {
			if v.IsNil() {
				return append(b, "null"...), nil
			}
			return inner(b, v.Elem())
		}
	case reflect.Interface:
		return func(b []byte, v reflect.Value) ([]byte, error) {
			if v.IsNil() {
				return append(b, "null"...), nil
			}
			return vs.appender(v.Elem().Type(), nil)(b, v.Elem())
		}
	case reflect.Struct:
		if members, ok := vs.members(t, nil, outer); ok {
			return writeObject(members)
		}
	}
	return leaf
}

// Check reports an operation that the door cannot serve, and panics where it
// takes a type that cannot be read. It is for tests of what a server is built
// with: it also holds what is written of an empty answer to what package json
// writes.
func Check(ops []op.Op) error {
	ps, vs := &plans{}, &values{}
	for i := range ops {
		ps.request(ops[i].In)
		zero := reflect.Zero(ops[i].Out).Interface()
		got, err := vs.append(nil, zero)
		if err != nil {
			return fmt.Errorf("%s: %w", ops[i].Name, err)
		}
		if want, err := json.Marshal(zero, reveal); err != nil || string(got) != string(want) {
			return fmt.Errorf("%s: an empty answer is %s, and %s by package json: %w", ops[i].Name, got, want, err)
		}
	}
	return nil
}

// leaf leaves a value to package json.
func leaf(b []byte, v reflect.Value) ([]byte, error) {
	whole, err := json.Marshal(v.Interface(), reveal)
	return append(b, whole...), err
}

func (vs *values) list(elem reflect.Type, outer []reflect.Type) appender {
	item := vs.appender(elem, outer)
	return func(b []byte, v reflect.Value) ([]byte, error) {
		b = append(b, '[')
		var err error
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = item(b, v.Index(i)); err != nil {
				return b, err
			}
		}
		return append(b, ']'), nil
	}
}

func (vs *values) mapping(elem reflect.Type, outer []reflect.Type, none string) appender {
	item := vs.appender(elem, outer)
	return func(b []byte, v reflect.Value) ([]byte, error) {
		if v.IsNil() {
			return append(b, none...), nil
		}
		keys := v.MapKeys()
		slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(x.String(), y.String()) })
		b = append(b, '{')
		var err error
		for i, k := range keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, k.String()), ':')
			if b, err = item(b, v.MapIndex(k)); err != nil {
				return b, err
			}
		}
		return append(b, '}'), nil
	}
}

// member is one field of a struct that is written.
type member struct {
	quoted    string // `"name":`
	index     []int
	omitZero  bool
	omitEmpty bool
	zeroer    bool // has IsZero
	write     appender
}

// members returns what is written of a struct, or false where it has rules
// that are left to package json.
func (vs *values) members(t reflect.Type, at []int, outer []reflect.Type) ([]member, bool) {
	var all []member
	for i := range t.NumField() {
		f := t.Field(i)
		tag, tagged := f.Tag.Lookup("json")
		called, options, _ := strings.Cut(tag, ",")
		index := append(slices.Clone(at), i)
		if f.Anonymous && called == "" {
			if f.Type.Kind() != reflect.Struct || options != "" {
				return nil, false
			}
			if vs.own(f.Type) {
				return nil, false
			}
			inner, ok := vs.members(f.Type, index, outer)
			if !ok {
				return nil, false
			}
			all = append(all, inner...)
			continue
		}
		if tag == "-" || !f.IsExported() {
			if tagged && tag != "-" {
				return nil, false
			}
			continue
		}
		if strings.ContainsAny(called, `'"\`) {
			return nil, false
		}
		m := member{index: index, zeroer: f.Type.Implements(isZeroer)}
		if !m.zeroer && reflect.PointerTo(f.Type).Implements(isZeroer) {
			return nil, false
		}
		if called == "" {
			called = f.Name
		}
		m.quoted = string(appendString(nil, called)) + ":"
		for option := range strings.SplitSeq(options, ",") {
			switch option {
			case "":
			case "omitzero":
				m.omitZero = true
			case "omitempty":
				m.omitEmpty = true
			default:
				return nil, false
			}
		}
		m.write = vs.appender(f.Type, outer)
		all = append(all, m)
	}
	for i := range all { // an outer field hides an inner one; package json knows how
		for j := range i {
			if all[i].quoted == all[j].quoted {
				return nil, false
			}
		}
	}
	return all, true
}

// own reports whether t writes itself.
func (vs *values) own(t reflect.Type) bool {
	to := reflect.PointerTo(t)
	return t == textType || t == jsonType || to.Implements(jsonMarshaler) || to.Implements(jsonMarshalTo) || to.Implements(textMarshaler)
}

func writeObject(members []member) appender {
	return func(b []byte, v reflect.Value) ([]byte, error) {
		b = append(b, '{')
		first := true
		for i := range members {
			m := &members[i]
			f := v.FieldByIndex(m.index)
			if m.omitZero {
				if z, ok := reflect.TypeAssert[interface{ IsZero() bool }](f); ok && m.zeroer && (f.Kind() != reflect.Pointer || !f.IsNil()) {
					if z.IsZero() {
						continue
					}
				} else if f.IsZero() {
					continue
				}
			}
			before := len(b)
			if !first {
				b = append(b, ',')
			}
			b = append(b, m.quoted...)
			at := len(b)
			var err error
			if b, err = m.write(b, f); err != nil {
				return b, err
			}
			if m.omitEmpty {
				switch string(b[at:]) {
				case "null", `""`, "{}", "[]":
					b = b[:before]
					continue
				}
			}
			first = false
		}
		return append(b, '}'), nil
	}
}
