package vault

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/wire"
)

// Page is one page of the reference: what one kind of mount can do.
type Page struct {
	Title string // "kv"
	Does  string // one sentence for people
	Mount string // where it is mounted in the examples: "secret/"
	Ops   []op.Op
}

// Reference writes p in Markdown.
func Reference(p Page) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n\n", p.Title, p.Does)
	fmt.Fprintf(&b, "Generated from the operations themselves. Paths are as if mounted at `%s`.\n", p.Mount)
	for i := range p.Ops {
		if o := &p.Ops[i]; !o.Hidden {
			writeOperation(&b, p.Mount, o)
		}
	}
	return []byte(b.String())
}

func writeOperation(b *strings.Builder, mount string, o *op.Op) {
	path := mount + strings.ReplaceAll(o.Path, "...}", "}")
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n    %s /v1/%s\n\n", o.Name, o.Does, methodOf(o.Verb), path)
	switch {
	case o.Sealed:
		b.WriteString("Needs no token, and can be called while sealed.\n")
	case o.Auth != op.Token:
		b.WriteString("Needs no token.\n")
	case o.Verb == op.Upsert:
		fmt.Fprintf(b, "Needs `create` on `%s` where there is none yet, and `update` where there is one%s.\n", path, sudo(o))
	case o.Verb == op.List:
		fmt.Fprintf(b, "Needs `list` on `%s/`%s.\n", strings.TrimSuffix(path, "/"), sudo(o))
	default:
		fmt.Fprintf(b, "Needs `%s` on `%s`%s.\n", o.Verb, path, sudo(o))
	}
	if o.Verb == op.Patch {
		b.WriteString("The body is a JSON merge patch: `Content-Type: application/merge-patch+json`.\n")
	}
	if o.Limit.Body > 0 {
		fmt.Fprintf(b, "The body has at most %d bytes.\n", o.Limit.Body)
	}
	if fields := describe(o.In); len(fields) > 0 {
		b.WriteString("\n| takes | in | type | meaning |\n|---|---|---|---|\n")
		for _, f := range fields {
			from, called := f.from, "`"+f.name+"`"
			if from == "body" && fromQuery(o.Verb) {
				from = "query"
			}
			if f.name == "*" {
				called = "the whole body"
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s |\n", called, from, typeName(f.typ), f.doc)
		}
	}
	writeAnswer(b, o)
}

func sudo(o *op.Op) string {
	if o.Sudo {
		return " with `sudo`"
	}
	return ""
}

func writeAnswer(b *strings.Builder, o *op.Op) {
	switch {
	case o.Auth == op.Login:
		b.WriteString("\nAnswers a token under `auth`.\n")
	case o.Out == reflect.TypeFor[op.Empty]():
		b.WriteString("\nAnswers nothing (204).\n")
	case o.Out == reflect.TypeFor[op.Raw]():
		b.WriteString("\nThe answer is the body itself.\n")
	case o.Out.Kind() == reflect.Struct && o.Out != jsonType && o.Out != textType:
		rows := answerRows(o.Out)
		if len(rows) == 0 {
			return
		}
		if !slices.ContainsFunc(rows, func(r described) bool { return r.doc != "" }) { // names that say it themselves
			b.WriteString("\n| answers | type |\n|---|---|\n")
			for _, r := range rows {
				fmt.Fprintf(b, "| `%s` | %s |\n", r.name, typeName(r.typ))
			}
			return
		}
		b.WriteString("\n| answers | type | meaning |\n|---|---|---|\n")
		for _, r := range rows {
			fmt.Fprintf(b, "| `%s` | %s | %s |\n", r.name, typeName(r.typ), r.doc)
		}
	default:
		fmt.Fprintf(b, "\nAnswers %s.\n", typeName(o.Out))
	}
}

func answerRows(t reflect.Type) []described {
	var rows []described
	for f := range t.Fields() {
		called, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && called == "" && f.Type.Kind() == reflect.Struct {
			rows = append(rows, answerRows(f.Type)...)
			continue
		}
		if f.IsExported() && called != "" && called != "-" {
			rows = append(rows, described{name: called, doc: f.Tag.Get("doc"), typ: f.Type})
		}
	}
	return rows
}

// typeName says what a value of t is, to people.
func typeName(t reflect.Type) string {
	switch t {
	case textType:
		return "secret text"
	case bytesType:
		return "secret bytes in base64"
	case jsonType:
		return "secret object"
	case reflect.TypeFor[jsontext.Value]():
		return "object"
	case reflect.TypeFor[wire.Duration]():
		return "duration"
	case reflect.TypeFor[wire.Strings]():
		return "list of text"
	case reflect.TypeFor[wire.Map]():
		return "map of text"
	case reflect.TypeFor[wire.Time]():
		return "time"
	case reflect.TypeFor[name.Name](), reflect.TypeFor[name.Path]():
		return strings.ToLower(t.Name())
	}
	if _, own := reflect.PointerTo(t).MethodByName("UnmarshalJSON"); own && t.Kind() == reflect.Int64 {
		return "duration" // an engine's own, that reads as wire.Duration does
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "whole number"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.String:
		return "text"
	case reflect.Slice, reflect.Array:
		return "list of " + typeName(t.Elem())
	case reflect.Map:
		return "map of " + typeName(t.Elem())
	}
	return "object"
}
