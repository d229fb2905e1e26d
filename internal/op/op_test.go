package op_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
)

type in struct {
	Path string    `path:"path"`
	Name name.Name `path:"name"`
}

type filled struct{ err error }

func (f filled) Fill(any) error                               { return f.err }
func (f filled) Params() ([]op.Param, error)                  { return nil, nil }
func allowAll(op.Ask) error                                   { return nil }
func nothing(context.Context, *op.Call, in) (op.Empty, error) { return op.Empty{}, nil }

func def(path string, v op.Verb) op.Op {
	return op.Def[in, op.Empty]{Name: path + " " + v.String(), Verb: v, Path: path, Does: "Tests."}.With(nothing)
}

func TestRoutesMatch(t *testing.T) {
	routes := op.NewRoutes([]op.Op{
		def("mounts", op.Read), def("mounts/{path...}", op.Read), def("mounts/{path...}", op.Update), def("mounts/{path...}/tune", op.Update),
		def("policies/{name}", op.Read), def("policies/{name}", op.Delete), def("policies/self", op.Read),
	})
	for _, c := range []struct {
		verb op.Verb
		path string
		want string
		args []op.Arg
		kind fault.Kind
	}{
		{verb: op.Read, path: "mounts", want: "mounts read"},
		{verb: op.Read, path: "mounts/a", want: "mounts/{path...} read", args: []op.Arg{{"path", "a"}}},
		{verb: op.Create, path: "mounts/a/b/", want: "mounts/{path...} update", args: []op.Arg{{"path", "a/b"}}},
		{verb: op.Update, path: "mounts/a/b/tune", want: "mounts/{path...}/tune update", args: []op.Arg{{"path", "a/b"}}},
		{verb: op.Update, path: "mounts/tune", want: "mounts/{path...} update", args: []op.Arg{{"path", "tune"}}},
		{verb: op.Read, path: "policies/self", want: "policies/self read"},
		{verb: op.Read, path: "policies/other", want: "policies/{name} read", args: []op.Arg{{"name", "other"}}},
		{verb: op.Delete, path: "policies/self", want: "policies/{name} delete", args: []op.Arg{{"name", "self"}}},
		{verb: op.Patch, path: "policies/x", kind: fault.Unsupported},
		{verb: op.Read, path: "policies/x/y", kind: fault.NoRoute},
		{verb: op.Read, path: "nothing", kind: fault.NoRoute},
		{verb: op.Read, path: "", kind: fault.NoRoute},
	} {
		o, args, err := routes.Match(c.verb, c.path)
		if o.Name != c.want || cmp.Diff(c.args, args) != "" && err == nil || (err != nil && fault.KindOf(err) != c.kind) {
			t.Errorf("Match(%v, %q) = %q, %v, %v; want %q, %v, %v", c.verb, c.path, o.Name, args, err, c.want, c.args, c.kind)
		}
	}
}

func TestAValueIsNotAPattern(t *testing.T) {
	o := op.Def[in, op.Empty]{Name: "x", Verb: op.Read, Path: "a/{name}/{path...}", Does: "Tests."}.With(nothing)
	c := &op.Call{Mount: op.Mount{Path: "m/"}, Args: []op.Arg{{"path", "{name}"}, {"name", "Team"}}}
	var asked string
	if _, err := o.Run(t.Context(), c, filled{}, func(a op.Ask) error { asked = a.Resource; return nil }); err != nil {
		t.Fatalf("Run: %v", err)
	}
	if want := "m/a/team/{name}"; asked != want {
		t.Errorf("the policy was asked about %q; want %q", asked, want)
	}
}

func TestListsAskAboutADirectory(t *testing.T) {
	o := def("metadata/{path...}", op.List)
	for given, want := range map[string]string{"a/b": "m/metadata/a/b/", "": "m/metadata/"} {
		c := &op.Call{Mount: op.Mount{Path: "m/"}, Args: []op.Arg{{"path", given}}}
		if _, err := o.Run(t.Context(), c, filled{}, allowAll); err != nil {
			t.Fatalf("Run: %v", err)
		}
		if c.Asked.Resource != want {
			t.Errorf("listing %q asks about %q; want %q", given, c.Asked.Resource, want)
		}
	}
}

func TestDeniedNeverWorks(t *testing.T) {
	worked := false
	o := op.Def[in, op.Empty]{Name: "x", Verb: op.Read, Path: "{path...}", Does: "Tests."}.With(
		func(context.Context, *op.Call, in) (op.Empty, error) { worked = true; return op.Empty{}, nil })
	_, err := o.Run(t.Context(), &op.Call{}, filled{}, func(op.Ask) error { return fault.New(fault.Denied, "permission denied") })
	if !fault.Is(err, fault.Denied) || worked {
		t.Errorf("Run = %v, worked %t; want Denied and no work", err, worked)
	}
	_, err = o.Run(t.Context(), &op.Call{}, filled{err: context.Canceled}, allowAll)
	if !fault.Is(err, fault.Invalid) || worked {
		t.Errorf("Run with a request that cannot be filled = %v, worked %t; want Invalid and no work", err, worked)
	}
}

// TestFree: only within its {name...} are the slashes of a path the caller's.
func TestFree(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ declared, path, free string }{
		{"data/{path...}", "data/x/y", "x/y"},
		{"data/{path...}", "data/x/y/", "x/y"},
		{"data/{path...}", "data", ""},
		{"{path...}", "x/y", "x/y"},
		{"{path...}/tune", "x/y/tune", "x/y"},
		{"at/{name}/{path...}", "at/x/y/z", "y/z"},
		{"at/{name}", "at/x", ""},
		{"at", "at", ""},
	} {
		o := def(c.declared, op.Read)
		if from, to := o.Free(c.path); c.path[from:to] != c.free {
			t.Errorf("Free(%q) of %q = %q; want %q", c.path, c.declared, c.path[from:to], c.free)
		}
	}
}
