package kv

import (
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

func TestMerge(t *testing.T) {
	for _, c := range []struct{ object, patch, want string }{
		{`{"a":1,"b":2}`, `{"b":3}`, `{"a":1,"b":3}`},
		{`{ "a" : 18446744073709551615 , "b":1.10e+2, "c": [ 1, 2 ] }`, `{"d":1e400}`, `{"a":18446744073709551615,"b":1.10e+2,"c":[ 1, 2 ],"d":1e400}`},
		{`{"a":{"x":1.0,"y":2},"b":0}`, `{"a":{"y":null,"z":{"q":null,"r":[null]}}}`, `{"a":{"x":1.0,"z":{"r":[null]}},"b":0}`},
		{`{"a":1}`, `{"a":null}`, `{}`},
		{`{"a":1}`, `{"a":{"b":null}}`, `{"a":{}}`},
		{`{"a":{"b":1}}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"\u0061":1}`, `{"a":2}`, `{"\u0061":2}`},
		{`{}`, `{"z":1,"a":2,"n":null}`, `{"z":1,"a":2}`},
		{`{"a":null}`, `{}`, `{"a":null}`},
		{`{"a":" \u00e9 é \ud83d\ude00"}`, `{"b":1}`, `{"a":" \u00e9 é \ud83d\ude00","b":1}`},
	} {
		got, err := merge([]byte(c.object), []byte(c.patch))
		if err != nil || string(got) != c.want {
			t.Errorf("merge(%s, %s) = %s, %v; want %s", c.object, c.patch, got, err, c.want)
		}
	}
	if _, err := merge([]byte(`{}`), []byte(`{"a":1,"a":2}`)); err == nil {
		t.Error("a patch with a name twice is taken")
	}
}

// naive is RFC 7396 as it stands there, over decoded values.
func naive(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, value := range changes {
		if value == nil {
			delete(object, name)
		} else {
			object[name] = naive(object[name], value)
		}
	}
	return object
}

func FuzzMerge(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"a":1,"b":{"c":[1,{"d":null}]}}`, `{"b":{"c":null,"e":{"f":null}}}`},
		{`{"n":18446744073709551615}`, `{"m":-0.0}`},
		{` { "\u0061" : 1 } `, `{"a":{"b":1}}`},
		{`{"":{}}`, `{"":{"":null}}`},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, object, patch string) {
		if jsontext.Value(object).Kind() != '{' || jsontext.Value(patch).Kind() != '{' || strings.Count(object+patch, "{") > 100 {
			return
		}
		var was, change any
		if json.Unmarshal([]byte(object), &was) != nil || json.Unmarshal([]byte(patch), &change) != nil {
			return
		}
		got, err := merge([]byte(object), []byte(patch))
		if err != nil {
			t.Fatalf("merge(%s, %s) = %v", object, patch, err)
		}
		var decoded any
		if err := json.Unmarshal(got, &decoded); err != nil {
			t.Fatalf("merge(%s, %s) = %s: %v", object, patch, got, err)
		}
		if want := naive(was, change); !reflect.DeepEqual(decoded, want) {
			t.Fatalf("merge(%s, %s) = %s; want %v", object, patch, got, want)
		}
		// What the patch does not name is there byte for byte.
		before, err := members([]byte(object))
		if err != nil {
			t.Fatal(err)
		}
		after, err := members(got)
		if err != nil {
			t.Fatal(err)
		}
		named, _ := change.(map[string]any)
		i := 0
		for _, m := range before {
			if _, changed := named[m.name]; changed {
				continue
			}
			for i < len(after) && after[i].name != m.name {
				i++
			}
			if i == len(after) || string(after[i].value) != string(m.value) || string(after[i].written) != string(m.written) {
				t.Fatalf("merge(%s, %s) = %s: %s is not as it was", object, patch, got, m.written)
			}
		}
		names, err := withoutValues([]byte(object), 0)
		if err != nil || !jsontext.Value(names).IsValid() {
			t.Fatalf("withoutValues(%s) = %s, %v", object, names, err)
		}
	})
}
