package doortest

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/op"
)

// Abuse sends what no honest client sends to every operation of a Vault-shaped
// door. What is expected is computed from the operations: that the answer is
// 4xx and says little, and that nothing changes.
type Abuse struct {
	Handler http.Handler // without a door.Guard, which would answer 429
	Mounts  []door.MountedOps
	Token   string // allowed everything

	// State returns what must stay as it is; nil where there is nothing.
	State func(t *testing.T) string
}

// canary stands in hostile values and must be in no answer.
const canary = "c4n4ry"

// bodies are refused by every operation that takes one.
var bodies = map[string]string{
	"cut off": `{"a":"` + canary, "array": `["` + canary + `"]`, "text": `"` + canary + `"`, "number": `1e400`, "true": `true`,
	"not JSON": canary, "XML": `<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e "` + canary + `">]><x>&e;</x>`,
	"a key twice": `{"a":1,"a":"` + canary + `"}`, "a key twice, escaped": `{"a":1,"\u0061":2}`, "a key twice, deep": `{"a":{"b":[{"c":1,"c":2}]}}`,
	"more after it": `{} ` + canary, "two": `{}{}`, "comma": `{"a":1,}`, "comment": `{/**/}`, "NaN": `{"a":NaN}`, "hexadecimal": `{"a":0x1}`,
	"byte order mark": "\ufeff{}", "bad UTF-8": "{\"a\":\"\xff\xfe\"}", "overlong UTF-8": "{\"a\":\"\xc0\xae\"}", "lone surrogate": `{"a":"\udc00"}`,
	"NUL": "{\"a\":\"\x00\"}", "line feed": "{\"a\":\"\n\"}", "deep": `{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`,
	"very deep": strings.Repeat(`{"a":`, 8000), "many": `{"a":[` + strings.Repeat("0,", 10_000) + `0]}`, "long key": `{"` + strings.Repeat("k", 300) + `":1}`,
}

// headers are refused with any operation; the values of one name are separated by commas.
var headers = map[string]http.Header{
	"many tokens":       {"X-Vault-Token": {"a", "b"}},
	"another token":     {"Authorization": {"Bearer " + canary}},
	"a namespace":       {"X-Vault-Namespace": {"ns/"}},
	"wrap for ever":     {"X-Vault-Wrap-Ttl": {"9999999h"}},
	"wrap backwards":    {"X-Vault-Wrap-Ttl": {"-1s"}},
	"wrap for a word":   {"X-Vault-Wrap-Ttl": {"soon"}},
	"wrap twice":        {"X-Vault-Wrap-Ttl": {"1", "2"}},
	"a token of spaces": {"X-Vault-Token": {"a b"}},
	"a long token":      {"X-Vault-Token": {strings.Repeat("a", 9<<10)}},
}

// media are refused with every body.
var media = map[string]http.Header{
	"gzip":      {"Content-Encoding": {"gzip"}},
	"zstd":      {"Content-Encoding": {"zstd"}},
	"a list":    {"Content-Encoding": {"identity, gzip"}},
	"multipart": {"Content-Type": {"multipart/form-data; boundary=x"}},
}

// targets make a path that is not canonical out of one that is.
var targets = map[string]func(path string) string{
	"dots":                     func(p string) string { return p + "/../x" },
	"a dot":                    func(p string) string { return p + "/./x" },
	"escaped dots":             func(p string) string { return p + "/%2e%2e/x" },
	"half escaped":             func(p string) string { return p + "/.%2E/x" },
	"escaped twice":            func(p string) string { return p + "/%252e%252e/x" },
	"slash escaped at the end": func(p string) string { return p + "%2f" },
	"slash escaped in front":   func(p string) string { return strings.Replace(p, "/v1/", "/v1/%2f", 1) },
	"slash of a mount escaped": func(p string) string {
		head, tail, _ := strings.Cut(strings.TrimPrefix(p, "/v1/"), "/")
		return "/v1/" + head + "%2F" + tail
	},
	"slashes and dots escaped": func(p string) string { return p + "%2f..%2fx" },
	"two slashes":              func(p string) string { return strings.Replace(p, "/v1/", "/v1//", 1) },
	"slashes at end":           func(p string) string { return p + "//" },
	"NUL":                      func(p string) string { return p + "%00" },
	"line feed":                func(p string) string { return p + "%0a" },
	"overlong":                 func(p string) string { return p + "%C0%AE" },
	"bad escape":               func(p string) string { return p + "%zz" },
	"space":                    func(p string) string { return p + "%20" },
	"right to left":            func(p string) string { return p + "%E2%80%AE" },
	"no width":                 func(p string) string { return p + "%E2%80%8B" },
	"Kelvin sign":              func(p string) string { return p + "%E2%84%AA" },
	"decomposed":               func(p string) string { return p + "e%CC%81" },
	"long":                     func(p string) string { return p + strings.Repeat("/a", 2100) },
	"a long segment":           func(p string) string { return p + "/" + strings.Repeat("a", 300) },
	"many segments":            func(p string) string { return p + strings.Repeat("/a", 40) },
	"absolute":                 func(p string) string { return "http://elsewhere" + p },
	"a bad query":              func(p string) string { return p + "?a=%zz" },
	"a semicolon":              func(p string) string { return p + "?a=1;b=2" },
	"no text in query":         func(p string) string { return p + "?a=%ff" },
	"a list of what":           func(p string) string { return p + "?list=maybe" },
	"help of what":             func(p string) string { return p + "?help=maybe" },
}

// methods are none of ours, or not for most paths.
var methods = []string{"TRACE", "CONNECT", "OPTIONS", "SCAN", "PROPFIND", "get", "BREW"}

// Run sends it all.
func (a Abuse) Run(t *testing.T) {
	t.Helper()
	before := a.state(t)
	for _, m := range a.Mounts {
		for i := range m.Ops {
			t.Run(m.Ops[i].Name, func(t *testing.T) { a.one(t, m.Mount, &m.Ops[i]) })
		}
	}
	if after := a.state(t); after != before {
		t.Error("what no honest client sends changed something")
	}
}

func (a Abuse) state(t *testing.T) string {
	if a.State == nil {
		return ""
	}
	return a.State(t)
}

func (a Abuse) one(t *testing.T, m op.Mount, o *op.Op) {
	method, writes := http.MethodGet, false
	switch o.Verb {
	case op.List:
		method = "LIST"
	case op.Delete:
		method = http.MethodDelete
	case op.Patch:
		method, writes = http.MethodPatch, true
	case op.Create, op.Update, op.Upsert:
		method, writes = http.MethodPut, true
	case op.Read, op.NoVerb:
	}
	path := "/v1/" + string(m.Path) + fillPath(o.Path)
	for what, make := range targets {
		a.refused(t, what, method, make(path), nil, "")
	}
	for what, h := range headers {
		a.refused(t, what, method, path, h, "")
	}
	for _, other := range methods {
		a.refused(t, "method "+other, other, path, nil, "")
	}
	if !writes {
		return
	}
	for what, body := range bodies {
		a.refused(t, what, method, path, nil, body)
	}
	for what, h := range media {
		a.refused(t, what, method, path, h, "{}")
	}
	a.refused(t, "a directory", method, path+"/", nil, "{}")
	a.refused(t, "a list of a write", method, path+"?list=true", nil, "{}")
	a.refused(t, "a large body", method, path, nil, `{"a":"`+strings.Repeat("x", 17<<20)+`"}`)
	for name, values := range wrongValues(o.In) {
		for _, v := range values {
			a.refused(t, name, method, path, nil, `{"`+name+`":`+v+`}`)
		}
		a.refused(t, name+" in another case", method, path, nil, `{"`+strings.ToUpper(name[:1])+name[1:]+`":null}`)
	}
}

// fillPath puts something harmless in the place of path fields.
func fillPath(path string) string {
	var b strings.Builder
	for rest := path; ; {
		text, after, ok := strings.Cut(rest, "{")
		b.WriteString(text)
		if !ok {
			return strings.TrimSuffix(b.String(), "/")
		}
		b.WriteString("1")
		_, rest, _ = strings.Cut(after, "}")
	}
}

// wrongValues returns, for each field of a body, what can never be its value.
func wrongValues(in reflect.Type) map[string][]string {
	all := map[string][]string{}
	for f := range in.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || name[0] < 'a' || name[0] > 'z' {
			continue
		}
		typ := f.Type
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if _, custom := reflect.PointerTo(typ).MethodByName("UnmarshalJSON"); custom {
			all[name] = nil
			continue
		}
		switch typ.Kind() {
		case reflect.Bool:
			all[name] = []string{`"` + canary + `"`, `[]`, `{}`, `2`}
		case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
			all[name] = []string{`"` + canary + `"`, `[]`, `{}`, `true`, `1.5`, `1e400`, `9223372036854775808`, `"0x10"`}
		case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
			all[name] = []string{`"` + canary + `"`, `-1`, `18446744073709551616`}
		case reflect.String:
			all[name] = []string{`[]`, `{"a":"` + canary + `"}`}
		case reflect.Struct:
			all[name] = []string{`[]`, `{"a":"` + canary + `"}`}
			if typ.NumField() > 0 && typ.Field(0).Tag.Get("json") != "" { // one of ours, and no secret
				all[name] = []string{`[]`, `"` + canary + `"`}
			}
		default:
			all[name] = nil
		}
	}
	return all
}

// refused makes one request and holds its answer to what is expected.
func (a Abuse) refused(t *testing.T, what, method, target string, head http.Header, body string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://localhost/", nil)
	r.Method, r.RequestURI, r.RemoteAddr = method, target, "192.0.2.1:1234"
	r.Header.Set("X-Vault-Token", a.Token)
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	maps.Copy(r.Header, head)
	if body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	w := httptest.NewRecorder()
	a.Handler.ServeHTTP(w, r)
	if w.Code < 400 || w.Code > 499 || w.Code == http.StatusTooManyRequests {
		t.Errorf("%s: %s %.120s with %.60q = %d %.300s; want 4xx", what, method, target, body, w.Code, w.Body)
	}
	if w.Body.Len() > 600 || strings.Contains(w.Body.String(), canary) {
		t.Errorf("%s: %s %.120s with %.60q answered %.300s; want few words and none of what was sent", what, method, target, body, w.Body)
	}
}
