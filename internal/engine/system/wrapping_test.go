package system

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/token"
	"rotunda.dev/rotunda/internal/token/tokentest"
)

// wrappers runs the operations of wrapping for callers whom no policy stops.
type wrappers struct {
	*tokentest.Rig
	ops []op.Op
}

// Run implements [op.Runner].
func (w *wrappers) Run(ctx context.Context, c *op.Call, opName string, src op.Source) (any, error) {
	i := slices.IndexFunc(w.ops, func(o op.Op) bool { return o.Name == opName })
	return w.ops[i].Run(ctx, c, src, func(op.Ask) error { return nil })
}

func TestWrappingOps(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	w := &wrappers{r, wrappingOps(Parts{Tokens: r.Store})}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string, err error, public string) {
		t.Helper()
		if !fault.Is(err, fault.Invalid) || fault.Public(err) != public {
			t.Errorf("%s: %v; want %q", what, err, public)
		}
	}
	const none = "wrapping token is not valid or does not exist"
	root := r.Root(t).ClientToken
	user := r.MustMake(t, root, token.Request{Policies: []name.Name{"a"}, Sudo: true}).ClientToken
	ctx := t.Context()

	c := r.Call(t, user)
	_, err := Wrap.Do(ctx, w, c, WrapIn{Data: secret.NewJSON([]byte(`{"a":1}`))})
	refused("wrap without a TTL", err, "endpoint requires response wrapping to be used")
	c.WrapTTL = time.Minute
	got, err := Wrap.Do(ctx, w, c, WrapIn{Data: secret.NewJSON([]byte(`{"a":1.10}`))})
	if ok(err); string(got.Reveal()) != `{"a":1.10}` {
		t.Errorf("wrap = %s; want what was sent", got.Reveal())
	}
	wrap := func() op.Wrap {
		t.Helper()
		info, err := r.Wrap(ctx, r.Clock.Now(), got, time.Minute, "sys/wrapping/wrap", "")
		ok(err)
		return info
	}

	held := wrap()
	for what, call := range map[string]func() (WrappingOut, error){
		"in the body": func() (WrappingOut, error) {
			return LookupWrapping.Do(ctx, w, &op.Call{Time: r.Clock.Now()}, WrappingIn{held.Token})
		},
		"as one's own": func() (WrappingOut, error) {
			return ReadWrapping.Do(ctx, w, &op.Call{Time: r.Clock.Now(), Token: held.Token}, WrappingIn{})
		},
		"beside another": func() (WrappingOut, error) {
			return LookupWrapping.Do(ctx, w, r.Call(t, user), WrappingIn{held.Token})
		},
	} {
		out, err := call()
		if err != nil || out.CreationPath != "sys/wrapping/wrap" || time.Duration(out.CreationTTL) != time.Minute {
			t.Errorf("lookup with the token %s = %+v, %v", what, out, err)
		}
	}
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			call, in := &op.Call{Time: r.Clock.Now(), Token: held.Token}, WrappingIn{}
			if i%2 == 0 {
				call, in = &op.Call{Time: r.Clock.Now(), Token: user}, WrappingIn{held.Token}
			}
			out, err := Unwrap.Do(context.Background(), w, call, in)
			switch {
			case err == nil && string(out.Reveal()) == `{"a":1.10}`:
				won.Add(1)
			case err == nil:
				t.Errorf("unwrap = %s", out.Reveal())
			default:
				refused("unwrap", err, none)
			}
		})
	}
	if wg.Wait(); won.Load() != 1 {
		t.Errorf("%d of 50 got the answer; want 1", won.Load())
	}

	held = wrap()
	c = r.Call(t, user)
	_, err = Rewrap.Do(ctx, w, c, WrappingIn{held.Token})
	ok(err)
	_, err = Unwrap.Do(ctx, w, r.Call(t, user), WrappingIn{held.Token})
	refused("unwrap of the first", err, none)
	out, err := Unwrap.Do(ctx, w, r.Call(t, user), WrappingIn{c.Reply.Wrap.Token})
	if ok(err); string(out.Reveal()) != `{"a":1.10}` {
		t.Errorf("unwrap = %s; want what was wrapped", out.Reveal())
	}

	held = wrap()
	r.Clock.Advance(time.Minute)
	_, err = Unwrap.Do(ctx, w, &op.Call{Time: r.Clock.Now(), Token: held.Token}, WrappingIn{})
	refused("unwrap of an expired one", err, none)
	for what, text := range map[string]secret.Text{"another token": user, "root's": root, "text": secret.New("x")} {
		_, err = Unwrap.Do(ctx, w, &op.Call{Time: r.Clock.Now(), Token: text}, WrappingIn{})
		refused("unwrap of "+what, err, none)
		_, err = Rewrap.Do(ctx, w, r.Call(t, user), WrappingIn{text})
		refused("rewrap of "+what, err, none)
	}
	_, err = Unwrap.Do(ctx, w, &op.Call{Time: r.Clock.Now()}, WrappingIn{})
	refused("unwrap of nothing", err, `missing "token" value in input`)
}
