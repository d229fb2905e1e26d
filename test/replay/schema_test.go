package replay

import (
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/server/servertest"
)

// source says where the value of a field is in a request.
type source uint8

const (
	inPath source = iota
	inQuery
	inBody
	isBody // the field is the whole body
)

// field is one field of one operation of a node.
type field struct {
	mount op.Mount
	op    op.Op
	name  string
	from  source
	typ   reflect.Type // without a pointer
	clear bool         // the journal shows it as it is
}

// operation is one operation of a node.
type operation struct {
	mount  op.Mount
	op     op.Op
	fields []field
}

// operations returns all that the node can do, as its operations declare it.
func operations(t *testing.T, r *servertest.Rig) []operation {
	t.Helper()
	mounts, err := r.Node.Operations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []operation
	for _, m := range mounts {
		for _, o := range m.Ops {
			x := operation{mount: m.Mount, op: o}
			for f := range o.In.Fields() {
				if y, ok := fieldOf(f); ok {
					y.mount, y.op = m.Mount, o
					x.fields = append(x.fields, y)
				}
			}
			all = append(all, x)
		}
	}
	if len(all) < 80 {
		t.Fatalf("the node has %d operations; want at least 80", len(all))
	}
	return all
}

func fieldOf(f reflect.StructField) (field, bool) {
	y := field{typ: f.Type, clear: f.Tag.Get("audit") == "clear"}
	if y.typ.Kind() == reflect.Pointer {
		y.typ = y.typ.Elem()
	}
	if name, ok := f.Tag.Lookup("path"); ok {
		y.name, y.from = name, inPath
	} else if name, ok := f.Tag.Lookup("query"); ok {
		y.name, y.from = name, inQuery
	} else if f.Tag.Get("body") == "whole" {
		y.from = isBody
	} else {
		y.name, _, _ = strings.Cut(f.Tag.Get("json"), ",")
		y.from = inBody
	}
	return y, y.name != "" || y.from == isBody
}

// fields returns the fields that pass.
func fields(t *testing.T, r *servertest.Rig, pass func(field) bool) []field {
	t.Helper()
	var out []field
	for _, o := range operations(t, r) {
		for _, f := range o.fields {
			if pass(f) {
				out = append(out, f)
			}
		}
	}
	return out
}

// scene is what there is on a node for requests to be about: a secret, a
// mount, a role, a policy, and a token with its accessor.
type scene struct {
	token, accessor string
}

// stage makes a scene.
func stage(t *testing.T, r *servertest.Rig) scene {
	t.Helper()
	r.Policy("app", `path "secret/data/app/*" { capabilities = ["read"] }`)
	r.Must(r.Root, http.MethodPost, "auth/token/roles/app", `{"allowed_policies":["app"]}`)
	r.Must(r.Root, http.MethodPost, "sys/mounts/probe", `{"type":"kv"}`)
	r.Must(r.Root, http.MethodPost, "secret/data/app/one", `{"data":{"k":"v"}}`)
	r.Must(r.Root, http.MethodPost, "cubbyhole/hole", `{"k":"v"}`)
	made := r.Must(r.Root, http.MethodPost, "auth/token/create", `{"policies":["app"]}`)
	return scene{token: made.Text("auth.client_token"), accessor: made.Text("auth.accessor")}
}

// usual returns what a field of an operation has when another one is tried.
func (s scene) usual(o operation) (path map[string]string, body map[string]any) {
	path = map[string]string{
		"role": "app", "name": "app", "id": "00000000-0000-4000-8000-000000000000", "lease_id": "none", "path": "probe",
		"type": "secret", "source": "platform", "what": "16", "bytes": "16", "algorithm": "sha2-256",
	}
	for _, f := range o.fields {
		if f.from == inPath && path[f.name] == "" {
			path[f.name] = "app"
		}
	}
	switch {
	case o.mount.Kind == "kv":
		path["path"] = "app/one"
	case o.mount.Kind == "cubbyhole":
		path["path"] = "hole"
	case strings.HasPrefix(o.op.Path, "auth/"), strings.HasPrefix(o.op.Path, "mounts/auth/"):
		path["path"] = "token"
	case strings.HasPrefix(o.op.Path, "audit"):
		path["path"] = "journal"
	}
	body = map[string]any{}
	for _, f := range o.fields {
		if f.from != inBody {
			continue
		}
		switch f.name {
		case "token":
			body["token"] = s.token
		case "accessor":
			body["accessor"] = s.accessor
		case "path", "paths":
			body[f.name] = "secret/data/app/one"
		case "type":
			if o.mount.Kind == "system" {
				body["type"] = "kv"
			}
		case "policy":
			body["policy"] = `path "x" { capabilities = ["read"] }`
		case "versions":
			body["versions"] = []int{1}
		case "data":
			body["data"] = map[string]any{"k": "v"}
		case "input":
			body["input"] = "aGVsbG8="
		case "from":
			body["from"] = "nowhere"
		case "to":
			body["to"] = "elsewhere"
		}
	}
	if o.op.Name == "system.policy-explain" {
		for _, n := range []string{"token", "accessor", "policy"} {
			delete(body, n)
		}
	}
	return path, body
}

// method returns how an operation is called.
func (o operation) method() string {
	switch o.op.Verb {
	case op.List:
		return "LIST"
	case op.Delete:
		return http.MethodDelete
	case op.Patch:
		return http.MethodPatch
	case op.Create, op.Update, op.Upsert:
		return http.MethodPost
	case op.Read, op.NoVerb:
	}
	return http.MethodGet
}

// target returns the path of an operation, with its fields filled in as they are.
func (o operation) target(path map[string]string) string {
	var b strings.Builder
	b.WriteString(string(o.mount.Path))
	for rest := o.op.Path; ; {
		text, after, ok := strings.Cut(rest, "{")
		b.WriteString(text)
		if !ok {
			return strings.TrimSuffix(b.String(), "/")
		}
		var name string
		name, rest, _ = strings.Cut(after, "}")
		b.WriteString(path[strings.TrimSuffix(name, "...")])
	}
}

// request returns a request in which f has a value, given as JSON, and every
// other field what is usual. Of a field of the path the value is text as it
// stands in the request line.
func (s scene) request(o operation, f field, value string) attack {
	path, body := s.usual(o)
	a := attack{what: o.op.Name + " " + f.name, method: o.method()}
	takesBody := o.op.Verb.IsWrite() || o.op.Verb == op.Patch
	switch f.from {
	case inPath:
		path[f.name] = value
	case isBody:
		a.path, a.body = o.target(path), value
		return a
	case inQuery, inBody:
		if f.from == inBody && takesBody {
			break
		}
		text := value
		if v := jsontext.Value(value); v.Kind() == '"' {
			_ = json.Unmarshal([]byte(value), &text)
		}
		a.path = o.target(path) + "?" + url.QueryEscape(f.name) + "=" + url.QueryEscape(text)
	}
	if a.path == "" {
		a.path = o.target(path)
	}
	if !takesBody {
		return a
	}
	if f.from == inBody {
		delete(body, f.name)
	}
	a.body = object(body, f, value)
	return a
}

// object returns body as JSON, with the value of f as it is.
func object(body map[string]any, f field, value string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, name := range slices.Sorted(maps.Keys(body)) {
		v, err := json.Marshal(body[name])
		if err != nil {
			panic(err)
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(quote(name) + ":" + string(v))
	}
	if f.from == inBody {
		if len(body) > 0 {
			b.WriteByte(',')
		}
		b.WriteString(quote(f.name) + ":" + value)
	}
	b.WriteByte('}')
	return b.String()
}

// opOf returns the operation that f is of.
func opOf(t *testing.T, r *servertest.Rig, f field) operation {
	t.Helper()
	for _, o := range operations(t, r) {
		if o.op.Name == f.op.Name && o.mount.Path == f.mount.Path {
			return o
		}
	}
	t.Fatalf("no operation %s", f.op.Name)
	return operation{}
}
