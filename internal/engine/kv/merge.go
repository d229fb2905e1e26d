package kv

import (
	"bytes"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/fault"
)

// member is one member of an object, its name as it is and as it was written.
type member struct {
	name    string
	written jsontext.Value
	value   jsontext.Value
}

// members takes an object apart without decoding its values.
func members(object []byte) ([]member, error) {
	d := jsontext.NewDecoder(bytes.NewReader(object))
	if _, err := d.ReadToken(); err != nil {
		return nil, fmt.Errorf("reading an object: %w", err)
	}
	var ms []member
	for d.PeekKind() != '}' {
		written, err := d.ReadValue()
		if err != nil {
			return nil, fmt.Errorf("reading a name: %w", err)
		}
		m := member{written: written.Clone()}
		name, err := jsontext.AppendUnquote(nil, written)
		if err != nil {
			return nil, fmt.Errorf("reading a name: %w", err)
		}
		m.name = string(name)
		value, err := d.ReadValue()
		if err != nil {
			return nil, fmt.Errorf("reading a value: %w", err)
		}
		m.value = value.Clone()
		ms = append(ms, m)
	}
	return ms, nil
}

// merge applies a JSON merge patch (https://www.rfc-editor.org/rfc/rfc7396) to
// an object. Both are objects. What the patch does not name stays as it was
// written, and in its place; what it adds follows in the order of the patch.
func merge(object, patch []byte) ([]byte, error) {
	was, err := members(object)
	if err != nil {
		return nil, err
	}
	return appendMerged(make([]byte, 0, len(object)+len(patch)), was, patch)
}

func appendMerged(b []byte, was []member, patch []byte) ([]byte, error) {
	changes, err := members(patch)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "malformed merge patch")
	}
	todo := make(map[string]int, len(changes))
	for i := range changes {
		todo[changes[i].name] = i
	}
	b = append(b, '{')
	first := len(b)
	put := func(written, value []byte) {
		if len(b) > first {
			b = append(b, ',')
		}
		b = append(append(append(b, written...), ':'), value...)
	}
	// change adds the member that a change leads to from a value, nil for none.
	change := func(written []byte, value, change jsontext.Value) error {
		switch change.Kind() {
		case 'n':
			return nil
		case '{':
		default:
			put(written, change)
			return nil
		}
		var inner []member
		if value.Kind() == '{' {
			var err error
			if inner, err = members(value); err != nil {
				return err
			}
		}
		put(written, nil)
		var err error
		b, err = appendMerged(b, inner, change)
		return err
	}
	for i := range was {
		at, named := todo[was[i].name]
		if !named {
			put(was[i].written, was[i].value)
			continue
		}
		delete(todo, was[i].name)
		if err := change(was[i].written, was[i].value, changes[at].value); err != nil {
			return nil, err
		}
	}
	for i := range changes {
		if _, added := todo[changes[i].name]; !added {
			continue
		}
		if err := change(changes[i].written, nil, changes[i].value); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// withoutValues returns an object with null in the place of every value that
// is not an object with members, down to depth levels of names; 0 is all.
func withoutValues(object []byte, depth int) ([]byte, error) {
	return appendNames(nil, object, depth, 1)
}

func appendNames(b, object []byte, depth, level int) ([]byte, error) {
	ms, err := members(object)
	if err != nil {
		return nil, err
	}
	b = append(b, '{')
	for i, m := range ms {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, m.written...), ':')
		if m.value.Kind() != '{' || depth > 0 && level >= depth || isEmpty(m.value) {
			b = append(b, "null"...)
			continue
		}
		if b, err = appendNames(b, m.value, depth, level+1); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// isEmpty reports whether an object has no members.
func isEmpty(object jsontext.Value) bool {
	object = bytes.TrimSpace(object)
	return len(bytes.TrimSpace(object[1:len(object)-1])) == 0
}
