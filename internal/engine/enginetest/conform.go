package enginetest

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/storage"
)

// Suite is what [Conform] needs to know of an engine.
type Suite struct {
	Kind    engine.Kind
	Options map[string]string

	// Steps is a history of an empty mount in which every operation is run, and
	// answers without an error.
	Steps []Step

	// Secret is in the values that Steps keep, and must be nowhere else.
	Secret string

	// Observe returns all that callers can see of the mount. It is the same
	// after the same steps.
	Observe func(ctx context.Context, r *Rig) (string, error)
}

// Step is one operation with its request. Make it with [Request].
type Step struct {
	name string
	run  func(ctx context.Context, r *Rig, c *op.Call) (any, error)
}

// Request is the step that runs d with in. An error of kind Deleted is an
// answer.
func Request[In, Out any](d op.Def[In, Out], in In) Step {
	return Step{d.Name, func(ctx context.Context, r *Rig, c *op.Call) (any, error) {
		out, err := DoAs(ctx, r, c, d, in)
		if fault.Is(err, fault.Deleted) {
			err = nil
		}
		return out, err
	}}
}

// Run runs the step at this moment, as somebody who may do everything.
func (s Step) Run(ctx context.Context, r *Rig) error {
	_, err := s.run(ctx, r, r.Call())
	return err
}

// Conform holds an engine to the contract:
//
//   - it opens without writing, as often as it is asked, with the same operations;
//   - every operation and every field says what it is, and is reached by its path;
//   - an operation whose transaction runs twice does what it does once;
//   - neither an audit record nor the store shows a secret;
//   - a crash at any commit of any operation leaves what was before it or what
//     is after it;
//   - draining leaves nothing, also when it is interrupted;
//   - the mount's key can be turned, also when that is interrupted, and the old
//     one destroyed, and callers see what they saw.
func Conform(t *testing.T, s Suite) {
	t.Helper()
	t.Run("open", s.testOpen)
	t.Run("documented", s.testDocumented)
	t.Run("secret", s.testSecret)
	t.Run("twice", s.testTwice)
	t.Run("crash", s.testCrash)
	t.Run("drain", s.testDrain)
	t.Run("turn", s.testTurn)
}

func (s Suite) testOpen(t *testing.T) {
	if s.Kind.Name == "" || s.Kind.Does == "" {
		t.Errorf("kind %+v has no name or does not say what it does", s.Kind)
	}
	r := New(t, s.Kind, s.Options)
	before, err := r.Raw.Changes(t.Context(), 0)
	must(t, err)
	names := func() (all []string) {
		for _, o := range r.Instance.Ops {
			all = append(all, o.Name)
		}
		return all
	}
	first := names()
	r.Reopen(t, nil)
	after, err := r.Raw.Changes(t.Context(), 0)
	must(t, err)
	if before.Mark != after.Mark {
		t.Error("opening wrote to the store")
	}
	if !slices.Equal(first, names()) {
		t.Errorf("opened twice: operations %q, then %q", first, names())
	}
}

func (s Suite) testDocumented(t *testing.T) {
	r := New(t, s.Kind, s.Options)
	op.NewRoutes(r.Instance.Ops)
	ran := map[string]bool{}
	for _, step := range s.Steps {
		ran[step.name] = true
	}
	seen := map[string]bool{}
	for _, o := range r.Instance.Ops {
		if seen[o.Name] {
			t.Errorf("%s is there twice", o.Name)
		}
		seen[o.Name] = true
		if !ran[o.Name] {
			t.Errorf("%s is in no step of the suite", o.Name)
		}
		if !strings.HasSuffix(o.Does, ".") {
			t.Errorf("%s: %q is not a sentence", o.Name, o.Does)
		}
		checkIn(t, o)
		checkOut(t, o.Name, o.Out, map[reflect.Type]bool{})
	}
}

// checkIn checks that each field of a request is tagged once and described,
// and that the path has each of its fields.
func checkIn(t *testing.T, o op.Op) {
	t.Helper()
	for f := range o.In.Fields() {
		if !f.IsExported() {
			continue
		}
		tags := 0
		for _, tag := range [...]string{"path", "json", "query", "body"} {
			if f.Tag.Get(tag) != "" {
				tags++
			}
		}
		if tags != 1 {
			t.Errorf("%s: field %s of the request has %d of the tags path, json, query and body", o.Name, f.Name, tags)
		}
		if f.Tag.Get("doc") == "" {
			t.Errorf("%s: field %s of the request has no doc", o.Name, f.Name)
		}
		if p := f.Tag.Get("path"); p != "" && !strings.Contains(o.Path, "{"+p+"}") && !strings.Contains(o.Path, "{"+p+"...}") {
			t.Errorf("%s: path %q does not bind %s", o.Name, o.Path, f.Name)
		}
	}
}

// checkOut checks that each field of an answer is named and described.
func checkOut(t *testing.T, opName string, typ reflect.Type, seen map[reflect.Type]bool) {
	t.Helper()
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
		typ = typ.Elem()
	}
	_, marshals := typ.MethodByName("MarshalJSON")
	if typ.Kind() != reflect.Struct || marshals || seen[typ] || typ == reflect.TypeFor[op.Raw]() {
		return
	}
	seen[typ] = true
	for f := range typ.Fields() {
		if !f.IsExported() {
			continue
		}
		if f.Tag.Get("json") == "" || f.Tag.Get("doc") == "" {
			t.Errorf("%s: field %s of the answer has no json name or no doc", opName, f.Name)
		}
		checkOut(t, opName, f.Type, seen)
	}
}

func (s Suite) testSecret(t *testing.T) {
	r := New(t, s.Kind, s.Options)
	hasher := audit.NewHasher(func(parts ...[]byte) [32]byte { return r.Barrier.MAC(barrier.ForAudit, parts...) })
	for i, step := range s.Steps {
		c := r.Call()
		if _, err := step.run(t.Context(), r, c); err != nil {
			t.Fatalf("step %d, %s: %v", i, step.name, err)
		}
		for what, v := range map[string]any{"request": c.In, "answer": c.Out} {
			if v == nil {
				continue
			}
			if strings.Contains(string(hasher.Redact(v)), s.Secret) {
				t.Errorf("%s: the audit record of the %s shows a secret", step.name, what)
			}
			if strings.Contains(fmt.Sprintf("%+v", v), s.Secret) {
				t.Errorf("%s: the %s shows a secret when it is printed", step.name, what)
			}
		}
	}
	changes, err := r.Raw.Changes(t.Context(), 1)
	must(t, err)
	must(t, r.Raw.View(t.Context(), func(reader storage.Reader) error {
		for _, scope := range changes.Scopes {
			items, _, err := reader.Scan(scope, "", "", 0)
			if err != nil {
				return err
			}
			for _, it := range items {
				if strings.Contains(scope+it.Row, s.Secret) || bytes.Contains(it.Value, []byte(s.Secret)) {
					t.Errorf("a secret can be read in the store, in table %q", scope[:1])
				}
			}
		}
		return nil
	}))
}

// states returns what can be observed after each number of steps.
func (s Suite) states(t *testing.T) []string {
	t.Helper()
	r := New(t, s.Kind, s.Options)
	states := []string{s.observe(t, r)}
	for i, step := range s.Steps {
		if _, err := step.run(t.Context(), r, r.Call()); err != nil {
			t.Fatalf("step %d, %s: %v", i, step.name, err)
		}
		states = append(states, s.observe(t, r))
	}
	return states
}

func (s Suite) observe(t *testing.T, r *Rig) string {
	t.Helper()
	state, err := s.Observe(t.Context(), r)
	must(t, err)
	return state
}

func drain(ctx context.Context, r *Rig) error {
	if r.Instance.Drain == nil {
		return nil
	}
	for {
		more, err := r.Instance.Drain(ctx)
		if err != nil || !more {
			return err
		}
	}
}

func (s Suite) testDrain(t *testing.T) {
	r := New(t, s.Kind, s.Options)
	for i, step := range s.Steps {
		if _, err := step.run(t.Context(), r, r.Call()); err != nil {
			t.Fatalf("step %d, %s: %v", i, step.name, err)
		}
	}
	must(t, drain(t.Context(), r))
	WantEmpty(t, r)
	must(t, drain(t.Context(), r))
}
