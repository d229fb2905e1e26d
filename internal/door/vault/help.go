package vault

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
)

var helpVerbs = [...]op.Verb{op.Read, op.Update, op.List, op.Patch, op.Delete}

// help answers what the path can do, from the operations that it has. Who may
// ask is the Handler's to say.
func (h *handler) help(ctx context.Context, w http.ResponseWriter, q *request) int {
	var found []op.Op
	for _, v := range helpVerbs {
		if o, _, err := h.env.Handler.Route(ctx, v, q.Path); err == nil {
			if len(found) == 0 {
				q.Verb = v
			}
			found = append(found, o)
		}
	}
	_, err := h.env.Handler.Handle(ctx, &q.Request)
	if fault.Is(err, fault.NoRoute) || fault.Is(err, fault.Unsupported) {
		found = nil
		mounts, listed := h.env.Handler.Operations(ctx)
		if listed != nil {
			return h.fail(w, q, listed)
		}
		for _, m := range mounts {
			if m.Mount.Path == q.Path.Dir() {
				found, err = m.Ops, nil
			}
		}
	}
	if err != nil {
		return h.fail(w, q, err)
	}
	b := append([]byte(nil), `{"help":`...)
	b = appendString(b, helpText(found))
	b = append(b, `,"see_also":null,"openapi":null}`...)
	return h.write(w, q, http.StatusOK, b)
}

func helpText(ops []op.Op) string {
	var b strings.Builder
	for i := range ops {
		o := &ops[i]
		if o.Hidden {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s %s\n    %s\n", methodOf(o.Verb), o.Path, o.Does)
		for _, f := range describe(o.In) {
			fmt.Fprintf(&b, "    %s (%s): %s\n", f.name, f.from, f.doc)
		}
	}
	return b.String()
}

// methodOf returns the HTTP method that documentation shows for v.
func methodOf(v op.Verb) string {
	switch v {
	case op.List:
		return "LIST"
	case op.Patch:
		return http.MethodPatch
	case op.Delete:
		return http.MethodDelete
	case op.Create, op.Update, op.Upsert:
		return http.MethodPost
	case op.NoVerb, op.Read:
	}
	return http.MethodGet
}

// described is one field of a request, for people.
type described struct {
	name, from, doc string
	typ             reflect.Type
}

// describe returns the fields of a request.
func describe(t reflect.Type) []described {
	var all []described
	for f := range t.Fields() {
		d := described{doc: f.Tag.Get("doc"), typ: f.Type}
		switch {
		case f.Tag.Get("path") != "":
			d.name, d.from = f.Tag.Get("path"), "path"
		case f.Tag.Get("query") != "":
			d.name, d.from = f.Tag.Get("query"), "query"
		case f.Tag.Get("body") == "whole":
			d.name, d.from = "*", "body"
		default:
			d.name, _, _ = strings.Cut(f.Tag.Get("json"), ",")
			d.from = "body"
		}
		if f.IsExported() && d.name != "" && d.name != "-" {
			all = append(all, d)
		}
	}
	return all
}
