package vault

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/wire"
)

type object = map[string]any

// OpenAPI describes what can be called at mounts, in OpenAPI 3.0. Lists are
// shown as GET on the path with a slash at its end, because OpenAPI has no
// method LIST.
func OpenAPI(mounts []door.MountedOps, version string) ([]byte, error) {
	paths, schemas := object{}, object{
		"Errors": object{"type": "object", "properties": object{"errors": object{"type": "array", "items": object{"type": "string"}}}},
		"Auth":   describedAuth(), "WrapInfo": describedWrap(),
	}
	shapes := map[string]string{} // of a path with its fields' names left out, to the path
	for _, m := range mounts {
		for i := range m.Ops {
			o := &m.Ops[i]
			if o.Hidden {
				continue
			}
			path, params := pathFor(m.Mount, o)
			shape := shapeOf(path)
			if first, ok := shapes[shape]; ok {
				path = first // two names for one field would be two paths that no one can tell apart
				params = paramsOf(path)
			}
			shapes[shape] = path
			item, _ := paths[path].(object)
			if item == nil {
				item = object{}
				if len(params) > 0 {
					item["parameters"] = pathParameters(params, o.In)
				}
				paths[path] = item
			}
			item[strings.ToLower(verbMethod(o.Verb))] = operation(m.Mount, o, schemas)
		}
	}
	b, err := json.Marshal(object{
		"openapi": "3.0.3",
		"info": object{
			"title": "Rotunda", "version": version,
			"description": "Every operation that this server can do. Paths are below /v1.",
			"license":     object{"name": "Apache-2.0"},
		},
		"servers":  []any{object{"url": "/v1"}},
		"security": []any{object{"token": []any{}}},
		"paths":    paths,
		"components": object{
			"schemas": schemas,
			"responses": object{"Errors": object{
				"description": "What went wrong, in words that give nothing away.",
				"content":     object{"application/json": object{"schema": object{"$ref": "#/components/schemas/Errors"}}},
			}},
			"securitySchemes": object{"token": object{"type": "apiKey", "in": "header", "name": "X-Vault-Token"}},
		},
	}, json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("encoding the OpenAPI document: %w", err)
	}
	return b, nil
}

// verbMethod is the method that OpenAPI has for v.
func verbMethod(v op.Verb) string {
	if v == op.List {
		return "GET"
	}
	return methodOf(v)
}

// pathFor returns the path of o at m, with the names of its fields.
func pathFor(m op.Mount, o *op.Op) (string, []string) {
	path := "/" + string(m.Path) + strings.ReplaceAll(o.Path, "...}", "}")
	if o.Verb == op.List && !strings.HasSuffix(path, "/") {
		path += "/"
	}
	return path, paramsOf(path)
}

func paramsOf(path string) []string {
	var names []string
	for rest := path; ; {
		_, after, ok := strings.Cut(rest, "{")
		if !ok {
			return names
		}
		field, tail, _ := strings.Cut(after, "}")
		names, rest = append(names, field), tail
	}
}

func shapeOf(path string) string {
	for _, p := range paramsOf(path) {
		path = strings.Replace(path, "{"+p+"}", "{}", 1)
	}
	return path
}

func pathParameters(names []string, in reflect.Type) []any {
	var all []any
	for _, n := range names {
		p := object{"name": n, "in": "path", "required": true, "schema": object{"type": "string"}}
		for _, f := range describe(in) {
			if f.from == "path" && f.name == n && f.doc != "" {
				p["description"] = f.doc
			}
		}
		all = append(all, p)
	}
	return all
}

func operation(m op.Mount, o *op.Op, schemas object) object {
	out := object{
		"operationId": strings.ReplaceAll(string(m.Path), "/", ".") + o.Name,
		"summary":     o.Does,
		"tags":        []any{m.Kind},
	}
	if o.Auth != op.Token {
		out["security"] = []any{}
		out["x-vault-unauthenticated"] = true
	}
	if o.Sudo {
		out["x-vault-sudo"] = true
	}
	var params []any
	if o.Verb == op.List {
		params = append(params, object{
			"name": "list", "in": "query", "required": true,
			"schema": object{"type": "string", "enum": []any{"true"}}, "description": "Says that a list is wanted.",
		})
	}
	body := object{}
	for _, f := range describe(o.In) {
		schema := schemaOf(f.typ, true, nil)
		if f.doc != "" {
			schema["description"] = f.doc
		}
		switch {
		case f.from == "path":
		case f.from == "query", fromQuery(o.Verb):
			p := object{"name": f.name, "in": "query", "schema": schema}
			if f.doc != "" {
				p["description"] = f.doc
			}
			params = append(params, p)
		case f.name == "*":
			schemas[o.Name+".request"] = schema
		default:
			body[f.name] = schema
		}
	}
	if len(params) > 0 {
		out["parameters"] = params
	}
	if len(body) > 0 {
		schemas[o.Name+".request"] = object{"type": "object", "properties": body}
	}
	if _, ok := schemas[o.Name+".request"]; ok {
		kind := "application/json"
		if o.Verb == op.Patch {
			kind = "application/merge-patch+json"
		}
		out["requestBody"] = object{"content": object{kind: object{"schema": object{"$ref": "#/components/schemas/" + o.Name + ".request"}}}}
	}
	out["responses"] = responses(o, schemas)
	return out
}

func responses(o *op.Op, schemas object) object {
	all := object{"default": object{"$ref": "#/components/responses/Errors"}}
	switch o.Out {
	case reflect.TypeFor[op.Empty]():
		if o.Auth != op.Login {
			all["204"] = object{"description": "Done."}
		}
		all["2XX"] = answered("Done, and there is something to say: warnings, or a token.", envelopeOf(object{"nullable": true, "type": "object"}))
		return all
	case reflect.TypeFor[op.Raw]():
		all["200"] = object{"description": "The answer, which is not laid out as others are."}
		return all
	}
	shape := schemaOf(o.Out, false, nil)
	if _, ok := shape["type"]; ok && o.Shape != op.Bare {
		shape["nullable"] = true // of an answer that was wrapped there is none
	}
	schemas[o.Name+".response"] = shape
	data := object{"$ref": "#/components/schemas/" + o.Name + ".response"}
	schema := data
	if o.Shape != op.Bare {
		schema = envelopeOf(data)
	}
	if o.Shape == op.Injected {
		if props, ok := shape["properties"].(object); ok {
			beside, _ := schema["properties"].(object)
			for name, p := range props {
				if _, taken := beside[name]; !taken {
					beside[name] = p
				}
			}
		} else {
			schema["additionalProperties"] = true
		}
	}
	all["200"] = answered("Done.", schema)
	return all
}

func answered(what string, schema object) object {
	return object{"description": what, "content": object{"application/json": object{"schema": schema}}}
}

// envelopeOf describes what [values.appendEnvelope] appends around data.
func envelopeOf(data object) object {
	text, whole := object{"type": "string"}, object{"type": "integer"}
	return object{"type": "object", "properties": object{
		"request_id": text, "lease_id": text, "lease_duration": whole, "renewable": object{"type": "boolean"}, "data": data,
		"warnings":   object{"type": "array", "nullable": true, "items": text},
		"auth":       object{"$ref": "#/components/schemas/Auth"},
		"wrap_info":  object{"$ref": "#/components/schemas/WrapInfo"},
		"mount_type": text,
	}}
}

// describedAuth describes what appendGrant appends.
func describedAuth() object {
	text, whole, yes := object{"type": "string"}, object{"type": "integer"}, object{"type": "boolean"}
	names := object{"type": "array", "items": text}
	return object{"type": "object", "nullable": true, "properties": object{
		"client_token": object{"type": "string", "format": "password"}, "accessor": text, "policies": names, "token_policies": names, "identity_policies": names,
		"metadata":       object{"type": "object", "nullable": true, "additionalProperties": text},
		"lease_duration": whole, "renewable": yes, "entity_id": text, "token_type": text, "orphan": yes,
		"mfa_requirement": object{"type": "object", "nullable": true}, "num_uses": whole,
	}}
}

// describedWrap describes what appendWrap appends.
func describedWrap() object {
	text := object{"type": "string"}
	return object{"type": "object", "nullable": true, "properties": object{
		"token": object{"type": "string", "format": "password"}, "accessor": text, "ttl": object{"type": "integer"},
		"creation_time": object{"type": "string", "format": "date-time"}, "creation_path": text, "wrapped_accessor": text,
	}}
}

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	jsonMarshalTo = reflect.TypeFor[json.MarshalerTo]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// schemaOf describes t, which is read where in is true and written elsewhere.
// The types of outer are being described already.
func schemaOf(t reflect.Type, in bool, outer []reflect.Type) object {
	switch t {
	case textType:
		return object{"type": "string", "format": "password"}
	case bytesType:
		return object{"type": "string", "format": "password", "description": "In base64."}
	case jsonType:
		return object{"type": "object", "additionalProperties": true, "format": "password", "nullable": true}
	case rawType:
		return object{}
	case reflect.TypeFor[wire.Duration]():
		if in {
			return object{"oneOf": []any{object{"type": "integer"}, object{"type": "string"}}}
		}
		return object{"type": "integer"}
	case reflect.TypeFor[wire.Strings]():
		return object{"type": "array", "items": object{"type": "string"}}
	case reflect.TypeFor[wire.Ints]():
		return object{"type": "array", "items": object{"type": "integer"}}
	case reflect.TypeFor[wire.Map]():
		return object{"type": "object", "nullable": true, "additionalProperties": object{"type": "string"}}
	case reflect.TypeFor[wire.Time]():
		return object{"type": "string", "description": "RFC 3339 with nanoseconds, or empty."}
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[[]byte]():
		return object{"type": "string", "format": "byte"}
	}
	if t.Kind() == reflect.Pointer {
		s := schemaOf(t.Elem(), in, outer)
		if _, ok := s["type"]; ok { // nullable has a meaning beside a type only
			s["nullable"] = true
		}
		return s
	}
	to := reflect.PointerTo(t)
	switch {
	case to.Implements(jsonMarshaler), to.Implements(jsonMarshalTo):
		return object{} // only it knows
	case to.Implements(textMarshaler):
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Slice, reflect.Array:
		return object{"type": "array", "items": schemaOf(t.Elem(), in, outer)}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": schemaOf(t.Elem(), in, outer)}
	case reflect.Struct:
		if slices.Contains(outer, t) {
			return object{"type": "object"}
		}
		props := object{}
		addProperties(props, t, in, append(outer, t))
		return object{"type": "object", "properties": props}
	}
	return object{}
}

func addProperties(props object, t reflect.Type, in bool, outer []reflect.Type) {
	for f := range t.Fields() {
		called, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && called == "" && f.Type.Kind() == reflect.Struct {
			addProperties(props, f.Type, in, outer)
			continue
		}
		if !f.IsExported() || called == "" || called == "-" {
			continue
		}
		s := schemaOf(f.Type, in, outer)
		if d := f.Tag.Get("doc"); d != "" {
			s["description"] = d
		}
		props[called] = s
	}
}
