package token_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/token"
	"rotunda.dev/rotunda/internal/token/tokentest"
	"rotunda.dev/rotunda/internal/wire"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantFault(t testing.TB, err error, kind fault.Kind, public string) {
	t.Helper()
	if !fault.Is(err, kind) || fault.Public(err) != public {
		t.Errorf("error is %v (%v); want %v %q", err, fault.KindOf(err), kind, public)
	}
}

func wantDead(t testing.TB, r *tokentest.Rig, what string, text secret.Text) {
	t.Helper()
	if _, err := r.Lookup(text); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("%s: Find = %v; want permission denied", what, err)
	}
}

func wantAlive(t testing.TB, r *tokentest.Rig, what string, text secret.Text) *token.Entry {
	t.Helper()
	e, err := r.Lookup(text)
	if err != nil {
		t.Errorf("%s: Find = %v; want a token", what, err)
		return &token.Entry{}
	}
	return e
}

// sudo is a request as root makes it.
func sudo(policies ...name.Name) token.Request {
	return token.Request{Policies: policies, Sudo: true, Path: "create"}
}

// left returns how many rows of the space of tokens are left, by table.
func left(t testing.TB, r *tokentest.Rig) map[string]int {
	t.Helper()
	changes, err := r.Raw.Changes(t.Context(), 1)
	ok(t, err)
	rows := map[string]int{}
	ok(t, r.Raw.View(t.Context(), func(raw storage.Reader) error {
		for _, scope := range changes.Scopes {
			if len(scope) < 37 || scope[16] != 2 {
				continue
			}
			items, _, err := raw.Scan(scope, "", "", 0)
			if err != nil {
				return err
			}
			if len(items) > 0 {
				rows[scope[:1]] += len(items)
			}
		}
		return nil
	}))
	return rows
}

func TestLife(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	root := r.Root(t)
	if !strings.HasPrefix(root.ClientToken.Reveal(), "rts_") || len(root.Accessor) != 24 || root.TTL != 0 || root.Renewable {
		t.Errorf("Issue = %+v; want a service token that does not expire", root)
	}
	g := r.MustMake(t, root.ClientToken, token.Request{Policies: []name.Name{"b", "a", "b"}, TTL: time.Hour, Sudo: true, Path: "create", DisplayName: "my ci!"})
	if want := []name.Name{"a", "b", "default"}; !slices.Equal(g.Policies, want) || g.TTL != time.Hour || !g.Renewable || g.Orphan || g.Kind != "service" {
		t.Errorf("Create = %+v; want policies %v for an hour", g, want)
	}
	e := wantAlive(t, r, "child", g.ClientToken)
	if e.DisplayName != "token-my-ci" || e.Path != "auth/token/create" || e.Accessor != g.Accessor || e.Depth != 1 {
		t.Errorf("Find = %+v; want what was created", e)
	}
	if c := e.Caller(); c.Cubby == "" || c.TokenID != e.ID || c.Root || c.Kind != "service" {
		t.Errorf("Caller() = %+v; want a service token's", c)
	}
	r.Clock.Advance(30 * time.Minute)
	c := renew(t, r, g.ClientToken, 2*time.Hour)
	if c.Reply.Auth.TTL != 2*time.Hour {
		t.Errorf("Renew gave %v; want 2 h", c.Reply.Auth.TTL)
	}
	r.Clock.Advance(2*time.Hour - 2*time.Second)
	wantAlive(t, r, "renewed", g.ClientToken)
	r.Clock.Advance(2 * time.Second)
	wantDead(t, r, "expired", g.ClientToken)
	r.Clock.Advance(-24 * time.Hour)
	wantDead(t, r, "expired, clock back", g.ClientToken)
	r.Clock.Advance(24 * time.Hour)
	r.Settled(t)
	keys, err := r.Accessors(t.Context())
	if ok(t, err); !slices.Equal(keys, []string{root.Accessor}) {
		t.Errorf("Accessors() = %v; want the root token's", keys)
	}
	wantAlive(t, r, "root", root.ClientToken)
}

func renew(t testing.TB, r *tokentest.Rig, text secret.Text, increment time.Duration) *op.Call {
	t.Helper()
	c := r.Call(t, text)
	ok(t, r.Space().Update(t.Context(), r.Locks(token.ByID(c.Caller.TokenID)), func(tx storage.Tx) error {
		c.Reply = op.Reply{}
		return r.Renew(tx, c, c.Caller.TokenID, text, increment, token.Bounds{})
	}))
	return c
}

func TestTreeEndsAtOnce(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	root := r.Root(t)
	top := r.MustMake(t, root.ClientToken, sudo("a"))
	var all []secret.Text
	parent := top.ClientToken
	for i := range 12 {
		g := r.MustMake(t, parent, token.Request{Path: "create"})
		all = append(all, g.ClientToken)
		if i%3 != 0 {
			parent = g.ClientToken
		}
	}
	for _, text := range all {
		wantAlive(t, r, "descendant", text)
	}
	id := wantAlive(t, r, "top", top.ClientToken).ID
	ok(t, r.Revoke(t.Context(), id))
	// Nothing has been swept: validity is decided by the ancestors.
	for i, text := range append(all, top.ClientToken) {
		wantDead(t, r, fmt.Sprintf("descendant %d", i), text)
	}
	ok(t, r.Revoke(t.Context(), id))
	r.Settled(t)
	keys, err := r.Accessors(t.Context())
	if ok(t, err); !slices.Equal(keys, []string{root.Accessor}) {
		t.Errorf("Accessors() = %v; want the root token's", keys)
	}
	r.Clock.Advance(1000 * time.Hour)
	r.Settled(t)
	rows := left(t, r)
	delete(rows, "q") // the claims
	if rows["t"] != 1 || rows["a"] != 1 || len(rows) != 2 {
		t.Errorf("rows left: %v; want those of the root token", rows)
	}
}

func TestExpiryOfAnAncestor(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	root := r.Root(t)
	top := r.MustMake(t, root.ClientToken, token.Request{Policies: []name.Name{"a"}, TTL: time.Minute, Sudo: true})
	child := r.MustMake(t, top.ClientToken, token.Request{TTL: time.Hour})
	batch := r.MustMake(t, top.ClientToken, token.Request{TTL: time.Hour, Kind: "batch"})
	r.Clock.Advance(59 * time.Second)
	wantAlive(t, r, "child", child.ClientToken)
	wantAlive(t, r, "batch child", batch.ClientToken)
	r.Clock.Advance(time.Second)
	wantDead(t, r, "child", child.ClientToken)
	wantDead(t, r, "batch child", batch.ClientToken)
	wantDead(t, r, "parent", top.ClientToken)
}

func TestReleaseMakesOrphans(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	root := r.Root(t)
	above := r.MustMake(t, root.ClientToken, sudo("a"))
	top := r.MustMake(t, above.ClientToken, token.Request{})
	var children []secret.Text
	for range 9 {
		children = append(children, r.MustMake(t, top.ClientToken, token.Request{}).ClientToken)
	}
	grandchild := r.MustMake(t, children[0], token.Request{}).ClientToken
	batch := r.MustMake(t, top.ClientToken, token.Request{Kind: "batch"}).ClientToken
	id := wantAlive(t, r, "top", top.ClientToken).ID
	ok(t, r.Space().Update(t.Context(), r.RevokeLocks(id), func(tx storage.Tx) error {
		found, err := r.ReleaseTx(tx, id)
		if err == nil && !found {
			err = errors.New("not found")
		}
		return err
	}))
	check := func(when string) {
		t.Helper()
		wantDead(t, r, when+": the token", top.ClientToken)
		wantDead(t, r, when+": its batch token", batch)
		for _, text := range append(children, grandchild) {
			wantAlive(t, r, when+": child", text)
		}
	}
	check("before the sweep")
	// The end of what was above does not reach them either.
	ok(t, r.Revoke(t.Context(), wantAlive(t, r, "above", above.ClientToken).ID))
	check("after the tree above ended")
	r.Reopen(t, nil)
	r.Settled(t)
	check("after the sweep")
	for _, text := range children {
		if e := wantAlive(t, r, "child", text); e.Parent != "" {
			t.Errorf("Parent = %q; want an orphan", e.Parent)
		}
	}
	if keys, err := r.Accessors(t.Context()); err != nil || len(keys) != 11 {
		t.Errorf("Accessors() = %d, %v; want root, 9 children, 1 grandchild", len(keys), err)
	}
}

func TestP9UsesAreCountedExactly(t *testing.T) {
	t.Parallel()
	for _, uses := range []int{1, 7} {
		var told []string
		r := tokentest.New(t, token.Config{Gone: func(_ context.Context, id string) error { told = append(told, id); return nil }})
		root := r.Root(t)
		g := r.MustMake(t, root.ClientToken, token.Request{Policies: []name.Name{"a"}, NumUses: uses, Sudo: true})
		e := wantAlive(t, r, "limited", g.ClientToken)
		var won atomic.Int32
		var wg, arrived sync.WaitGroup
		arrived.Add(50)
		for range 50 {
			wg.Go(func() {
				found, err := r.Lookup(g.ClientToken)
				arrived.Done()
				arrived.Wait()
				if err == nil {
					err = r.Use(context.Background(), found)
				}
				if err == nil {
					won.Add(1)
					err = r.AfterUse(context.Background(), found)
				}
				if err != nil && !fault.Is(err, fault.Unauthenticated) {
					t.Errorf("Use: %v", err)
				}
			})
		}
		wg.Wait()
		if int(won.Load()) != uses {
			t.Errorf("%d calls succeeded; want %d", won.Load(), uses)
		}
		wantDead(t, r, "used up", g.ClientToken)
		r.Settled(t)
		if !slices.Equal(told, []string{e.ID}) {
			t.Errorf("Gone was told of %v; want the used-up token", told)
		}
	}
}

func TestLastUseIsFinished(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	root := r.Root(t)
	g := r.MustMake(t, root.ClientToken, token.Request{Policies: []name.Name{"a"}, NumUses: 2, Sudo: true})
	e := wantAlive(t, r, "limited", g.ClientToken)
	ctx := t.Context()
	ok(t, r.Use(ctx, e))
	ok(t, r.Use(ctx, e))
	wantFault(t, r.Use(ctx, e), fault.Unauthenticated, "permission denied")
	ok(t, r.AfterUse(ctx, e))
	if _, err := r.Read(ctx, e.ID); err != nil {
		t.Errorf("Read while a use is running = %v; want the token", err)
	}
	r.Clock.Advance(10 * time.Minute)
	if _, err := r.Store.Lookup(ctx, r.Clock.Now(), token.ByID(e.ID)); err != nil {
		t.Errorf("Lookup by the last use itself = %v; want the token", err)
	}
	ok(t, r.AfterUse(ctx, e))
	if _, err := r.Read(ctx, e.ID); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("Read after the last use = %v; want none", err)
	}
}

func TestUsedUpAndForgotten(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	root := r.Root(t)
	g := r.MustMake(t, root.ClientToken, token.Request{Policies: []name.Name{"a"}, NumUses: 1, Sudo: true})
	e := wantAlive(t, r, "limited", g.ClientToken)
	ok(t, r.Use(t.Context(), e))
	for _, when := range []string{"while its last use runs", "when the process has died in the middle of it"} {
		for what, target := range map[string]token.Target{"text": token.ByText(g.ClientToken), "accessor": token.ByAccessor(g.Accessor)} {
			if found, err := r.Store.Lookup(t.Context(), r.Clock.Now(), target); !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("Lookup by its %s %s = %v, %v; want that it is used up", what, when, found, err)
			}
		}
		r.Reopen(t, nil)
	}
	wantDead(t, r, "used up", g.ClientToken)
	r.Clock.Advance(3 * time.Minute)
	r.Settled(t)
	if _, err := r.Read(t.Context(), e.ID); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("Read = %v; want that the queue ended the token", err)
	}
}

func TestManyExpireWhileDown(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	root := r.Root(t)
	var texts []secret.Text
	for range 500 {
		texts = append(texts, r.MustMake(t, root.ClientToken, token.Request{Policies: []name.Name{"a"}, TTL: 5 * time.Second, Sudo: true}).ClientToken)
	}
	r.Clock.Advance(6 * time.Second)
	r.Reopen(t, nil)
	for i, text := range texts {
		wantDead(t, r, fmt.Sprint("token ", i), text)
	}
	r.Settled(t)
	if keys, err := r.Accessors(t.Context()); err != nil || len(keys) != 1 {
		t.Errorf("Accessors() = %d, %v; want the root token's", len(keys), err)
	}
}

func TestCreateRules(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	root := r.Root(t).ClientToken
	user := r.MustMake(t, root, sudo("a", "b", "default")).ClientToken
	bare := r.MustMake(t, root, token.Request{Policies: []name.Name{"a"}, NoDefault: true, Sudo: true}).ClientToken
	limited := r.MustMake(t, root, token.Request{Policies: []name.Name{"a"}, NumUses: 5, Sudo: true}).ClientToken
	batch := r.MustMake(t, root, token.Request{Policies: []name.Name{"a"}, Kind: "batch", Sudo: true}).ClientToken
	yes := true
	for _, c := range []struct {
		name   string
		parent secret.Text
		ask    token.Request
		want   []name.Name // nil for an error
		err    string
	}{
		{"inherits", user, token.Request{}, []name.Name{"a", "b", "default"}, ""},
		{"subset gets default", user, token.Request{Policies: []name.Name{"b"}}, []name.Name{"b", "default"}, ""},
		{"without default", user, token.Request{Policies: []name.Name{"b"}, NoDefault: true}, []name.Name{"b"}, ""},
		{"parent without default", bare, token.Request{Policies: []name.Name{"a"}}, []name.Name{"a"}, ""},
		{"default of its own", bare, token.Request{Policies: []name.Name{"a", "default"}}, nil, "child policies must be subset of parent"},
		{"more than parent", user, token.Request{Policies: []name.Name{"c"}}, nil, "child policies must be subset of parent"},
		{"root by a user", user, token.Request{Policies: []name.Name{"root"}}, nil, "child policies must be subset of parent"},
		{"root by sudo", user, token.Request{Policies: []name.Name{"root"}, Sudo: true}, nil, "root tokens may not be created without parent token being root"},
		{"sudo", user, token.Request{Policies: []name.Name{"c"}, Sudo: true}, []name.Name{"c", "default"}, ""},
		{"root by root", root, token.Request{Policies: []name.Name{"root", "a"}, Sudo: true}, []name.Name{"root"}, ""},
		{"root inherits root", root, token.Request{Sudo: true}, []name.Name{"root"}, ""},
		{"wrapping policy", root, sudo("response-wrapping"), nil, `cannot assign policy "response-wrapping"`},
		{"of limited uses", limited, token.Request{}, nil, "restricted use token cannot generate child tokens"},
		{"of a batch token", batch, token.Request{}, nil, "batch tokens cannot create more tokens"},
		{"orphan", user, token.Request{NoParent: true}, nil, "root or sudo privileges required to create orphan token"},
		{"periodic", user, token.Request{Period: time.Hour}, nil, "root or sudo privileges required to create periodic token"},
		{"id", user, token.Request{ID: secret.New("mine"), Sudo: true}, nil, "root or sudo privileges required to specify token id"},
		{"id like ours", root, token.Request{ID: secret.New("RTS_x"), Sudo: true}, nil, "a token id cannot have a prefix of the server's own"},
		{"id with a dot", root, token.Request{ID: secret.New("a.b"), Sudo: true}, nil, "a token id has 1 to 512 visible ASCII characters and no '.'"},
		{"id with a space", root, token.Request{ID: secret.New("a b"), Sudo: true}, nil, "a token id has 1 to 512 visible ASCII characters and no '.'"},
		{"long id", root, token.Request{ID: secret.New(strings.Repeat("a", 513)), Sudo: true}, nil, "a token id has 1 to 512 visible ASCII characters and no '.'"},
		{"alias", user, token.Request{EntityAlias: "x"}, nil, "'entity_alias' is only allowed in combination with token role"},
		{"kind", user, token.Request{Kind: "other"}, nil, "invalid 'token_type' value"},
		{"negative uses", user, token.Request{NumUses: -1}, nil, "number of uses cannot be negative"},
		{"role", user, token.Request{Role: "none"}, nil, "unknown role none"},
		{"batch with uses", user, token.Request{Kind: "batch", NumUses: 1}, nil, `batch tokens cannot have "num_uses" set`},
		{"batch with period", root, token.Request{Kind: "batch", Period: 1, Sudo: true}, nil, `batch tokens cannot have "period" set`},
		{"batch with max", user, token.Request{Kind: "batch", ExplicitMax: 1}, nil, `batch tokens cannot have "explicit_max_ttl" set`},
		{"batch renewable", user, token.Request{Kind: "batch", Renewable: &yes}, []name.Name{"a", "b", "default"}, ""},
		{"batch root", root, token.Request{Kind: "batch", Sudo: true}, nil, "batch tokens cannot be root tokens"},
		{"batch", user, token.Request{Kind: "batch"}, []name.Name{"a", "b", "default"}, ""},
		{"service", user, token.Request{Kind: "service"}, []name.Name{"a", "b", "default"}, ""},
	} {
		g, _, err := r.Make(t, c.parent, c.ask)
		switch {
		case c.want == nil:
			if !fault.Is(err, fault.Invalid) || fault.Public(err) != c.err {
				t.Errorf("%s: Create = %v; want %q", c.name, err, c.err)
			}
		case err != nil:
			t.Errorf("%s: Create = %v", c.name, err)
		default:
			if e := wantAlive(t, r, c.name, g.ClientToken); !slices.Equal(g.Policies, c.want) || !slices.Equal(e.Policies, c.want) {
				t.Errorf("%s: policies = %v and %v; want %v", c.name, g.Policies, e.Policies, c.want)
			}
		}
	}
}

func TestCustomID(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	root := r.Root(t).ClientToken
	id := secret.New("my-dev-token")
	ask := token.Request{ID: id, Policies: []name.Name{"a"}, TTL: time.Minute, Sudo: true}
	g := r.MustMake(t, root, ask)
	if !g.ClientToken.Equal(id) {
		t.Error("the token is not the text that root chose")
	}
	first := wantAlive(t, r, "custom", id)
	child := r.MustMake(t, id, token.Request{}).ClientToken
	_, _, err := r.Make(t, root, ask)
	wantFault(t, err, fault.Invalid, "cannot create a token with a duplicate ID")
	ok(t, r.Revoke(t.Context(), first.ID))
	wantDead(t, r, "revoked", id)
	// The same text again is another token: it does not revive the children of the first.
	r.MustMake(t, root, ask)
	if e := wantAlive(t, r, "custom again", id); e.ID == first.ID {
		t.Error("the second token has the id of the first")
	}
	wantDead(t, r, "child of the first", child)
	r.Clock.Advance(2 * time.Minute)
	r.MustMake(t, root, ask)
	r.Settled(t)
	wantAlive(t, r, "in the place of an expired one", id)
}

func TestRootTokensExpire(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	root := r.Root(t).ClientToken
	g, warnings, err := r.Make(t, root, token.Request{Sudo: true})
	if ok(t, err); g.TTL != time.Hour || len(warnings) != 1 {
		t.Errorf("Create = %v, %v; want an hour and a warning", g.TTL, warnings)
	}
	g, _, err = r.Make(t, root, token.Request{Sudo: true, TTL: 100 * time.Hour, Period: 50 * time.Hour, ExplicitMax: 70 * time.Hour})
	if ok(t, err); g.TTL != time.Hour {
		t.Errorf("Create = %v; want an hour", g.TTL)
	}
	r.Clock.Advance(59 * time.Minute)
	if c := renew(t, r, g.ClientToken, time.Hour); c.Reply.Auth.TTL != time.Minute {
		t.Errorf("Renew = %v; want what is left of the hour", c.Reply.Auth.TTL)
	}
}

func TestBoundNetworks(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	root := r.Root(t).ClientToken
	role := func(n name.Name, cidrs ...string) {
		t.Helper()
		ok(t, r.Space().Update(t.Context(), token.RoleLocks(), func(tx storage.Tx) error {
			return r.PutRole(tx, &token.Role{Name: n, Renewable: true, BoundCIDRs: cidrs})
		}))
	}
	role("ten", "10.0.0.0/8", "192.0.2.7")
	role("wide", "0.0.0.0/0", "10.1.0.0/16")
	role("none", "203.0.113.0/24")
	role("free")
	parent := r.MustMake(t, root, token.Request{Role: "ten", Policies: []name.Name{"a"}, Sudo: true})
	from := func(text secret.Text, addr string) bool {
		t.Helper()
		return wantAlive(t, r, "bound", text).AllowsFrom(netip.MustParseAddr(addr))
	}
	inherited := r.MustMake(t, parent.ClientToken, token.Request{})
	orphan := r.MustMake(t, parent.ClientToken, token.Request{Orphan: true})
	wide := r.MustMake(t, parent.ClientToken, token.Request{Role: "wide"})
	free := r.MustMake(t, parent.ClientToken, token.Request{Role: "free"})
	batch := r.MustMake(t, parent.ClientToken, token.Request{Kind: "batch"})
	for which, g := range map[string]op.Grant{"parent": parent, "inherited": inherited, "orphan": orphan, "wide": wide, "free": free, "batch": batch} {
		for addr, want := range map[string]bool{"10.9.9.9": true, "192.0.2.7": true, "::ffff:10.1.2.3": true, "192.0.2.8": false, "203.0.113.1": false, "::1": false} {
			if got := from(g.ClientToken, addr); got != want {
				t.Errorf("%s: AllowsFrom(%s) = %v; want %v", which, addr, got, want)
			}
		}
	}
	_, _, err := r.Make(t, parent.ClientToken, token.Request{Role: "none"})
	wantFault(t, err, fault.Invalid, "the role's networks and those of the parent token have nothing in common")
}

func TestRoles(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	root := r.Root(t).ClientToken
	user := r.MustMake(t, root, sudo("a")).ClientToken
	put := func(role token.Role) error {
		t.Helper()
		return r.Space().Update(t.Context(), token.RoleLocks(), func(tx storage.Tx) error { return r.PutRole(tx, &role) })
	}
	ok(t, put(token.Role{Name: "app", Renewable: true, Allowed: []name.Name{"x", "y"}, AllowedGlob: []string{"team-*-read"}, Period: wire.Duration(time.Hour), NumUses: 3, PathSuffix: "v1", Orphan: true}))
	ok(t, put(token.Role{Name: "not", Renewable: false, Disallowed: []name.Name{"x"}, DisallowedGlob: []string{"adm*"}, ExplicitMax: wire.Duration(time.Minute)}))
	ok(t, put(token.Role{Name: "batch", Orphan: true, Kind: "batch", Allowed: []name.Name{"x"}, NoDefaultPolicy: true}))
	for _, bad := range []token.Role{
		{Name: "r", Allowed: []name.Name{"root"}},
		{Name: "r", Disallowed: []name.Name{"root"}},
		{Name: "r", Kind: "batch"},
		{Name: "r", Kind: "batch", Orphan: true, Renewable: true},
		{Name: "r", Kind: "batch", Orphan: true, NumUses: 1},
		{Name: "r", Kind: "other"},
		{Name: "r", NumUses: -1},
		{Name: "r", PathSuffix: "../x"},
		{Name: "r", BoundCIDRs: []string{"10.0.0.0/33"}},
		{Name: "r", AllowedGlob: []string{"a\x00"}},
	} {
		if err := put(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("PutRole(%+v) = %v; want invalid", bad, err)
		}
	}
	names, err := r.Roles(t.Context())
	if ok(t, err); !slices.Equal(names, []name.Name{"app", "batch", "not"}) {
		t.Errorf("Roles() = %v", names)
	}
	for _, c := range []struct {
		name string
		ask  token.Request
		want []name.Name
		err  string
	}{
		{"all that is allowed", token.Request{Role: "app"}, []name.Name{"default", "x", "y"}, ""},
		{"some", token.Request{Role: "app", Policies: []name.Name{"y"}}, []name.Name{"default", "y"}, ""},
		{"by pattern", token.Request{Role: "app", Policies: []name.Name{"team-1-read"}}, []name.Name{"default", "team-1-read"}, ""},
		{"not by pattern", token.Request{Role: "app", Policies: []name.Name{"team-1-write"}}, nil, `token policies (["default" "team-1-write"]) must be subset of the role's allowed policies (["default" "x" "y"]) or glob policies (["team-*-read"])`},
		{"root", token.Request{Role: "app", Policies: []name.Name{"root"}}, nil, `token policies (["root"]) must be subset of the role's allowed policies (["default" "x" "y"]) or glob policies (["team-*-read"])`},
		{"root by what is not disallowed", token.Request{Role: "not", Policies: []name.Name{"root"}}, nil, "root tokens may not be created without parent token being root"},
		{"disallowed", token.Request{Role: "not", Policies: []name.Name{"x"}}, nil, `token policy "x" is disallowed by this role`},
		{"disallowed by pattern", token.Request{Role: "not", Policies: []name.Name{"admin"}}, nil, `token policy "admin" is disallowed by this role`},
		{"not disallowed", token.Request{Role: "not", Policies: []name.Name{"other"}}, []name.Name{"default", "other"}, ""},
		{"batch", token.Request{Role: "batch", Kind: "service"}, []name.Name{"x"}, ""},
		{"alias", token.Request{Role: "app", EntityAlias: "x"}, nil, "invalid 'entity_alias' value"},
	} {
		c.ask.Path = "create/" + string(c.ask.Role)
		g, _, err := r.Make(t, user, c.ask)
		if c.want == nil {
			if !fault.Is(err, fault.Invalid) || fault.Public(err) != c.err {
				t.Errorf("%s: Create = %v; want %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil || !slices.Equal(g.Policies, c.want) {
			t.Errorf("%s: Create = %v, %v; want %v", c.name, g.Policies, err, c.want)
		}
	}
	g := r.MustMake(t, user, token.Request{Role: "app", NumUses: 9, Path: "create/app"})
	e := wantAlive(t, r, "app", g.ClientToken)
	if g.TTL != time.Hour || g.NumUses != 3 || !g.Orphan || e.Path != "auth/token/create/app/v1" || e.Role != "app" {
		t.Errorf("Create = %+v, %+v; want as the role says", g, e)
	}
	ok(t, r.Revoke(t.Context(), wantAlive(t, r, "user", user).ID))
	wantAlive(t, r, "orphan by its role", g.ClientToken)
	ok(t, r.Space().Update(t.Context(), token.RoleLocks(), func(tx storage.Tx) error { r.DeleteRole(tx, "app"); return nil }))
	c := r.Call(t, g.ClientToken)
	err = r.Space().Update(t.Context(), storage.Locks{}, func(tx storage.Tx) error { return r.Renew(tx, c, e.ID, g.ClientToken, 0, token.Bounds{}) })
	wantFault(t, err, fault.Invalid, `original token role "app" could not be found, not renewing`)
}

func TestBatchTokens(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	root := r.Root(t).ClientToken
	g := r.MustMake(t, root, token.Request{
		Policies: []name.Name{"a"}, Kind: "batch", TTL: time.Minute, Sudo: true, Meta: map[string]string{"k": "v"}, Renewable: new(true), // as some clients ask of every token
	})
	text := g.ClientToken.Reveal()
	if !strings.HasPrefix(text, "rtb_") || g.Accessor != "" || g.Renewable || g.Kind != "batch" {
		t.Errorf("Create = %+v; want a batch token", g)
	}
	e := wantAlive(t, r, "batch", g.ClientToken)
	if c := e.Caller(); c.Cubby != "" || c.Kind != "batch" || e.Meta["k"] != "v" {
		t.Errorf("Find = %+v; want what was created", e)
	}
	r.Reopen(t, nil)
	wantAlive(t, r, "batch after a restart", g.ClientToken)
	for i := range text[4:] {
		for _, c := range []byte("A_") {
			if b := []byte(text); b[4+i] != c {
				b[4+i] = c
				if _, err := r.Lookup(secret.New(string(b))); err == nil {
					t.Fatalf("a changed character %d is accepted", i)
				}
			}
		}
	}
	r.Clock.Advance(time.Minute)
	wantDead(t, r, "batch", g.ClientToken)
	big := map[string]string{}
	for i := range 10 {
		big[fmt.Sprint(i)] = strings.Repeat("x", 500)
	}
	_, _, err := r.Make(t, root, token.Request{Policies: []name.Name{"a"}, Kind: "batch", Sudo: true, Meta: big})
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("Create of a batch token of 5 KB = %v; want invalid", err)
	}
	other := tokentest.New(t, token.Config{})
	g = r.MustMake(t, root, token.Request{Policies: []name.Name{"a"}, Kind: "batch", Sudo: true})
	wantDead(t, other, "another server's", g.ClientToken)
}

func TestAccessors(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	root := r.Root(t)
	g := r.MustMake(t, root.ClientToken, sudo("a"))
	e, err := r.Store.Lookup(t.Context(), r.Clock.Now(), token.ByAccessor(g.Accessor))
	if ok(t, err); e.Accessor != g.Accessor {
		t.Errorf("Lookup = %+v; want the token of the accessor", e)
	}
	for _, bad := range []string{"", "x", strings.Repeat("a", 24), strings.Repeat("a", 9999), root.ClientToken.Reveal()} {
		if _, err := r.Store.Lookup(t.Context(), r.Clock.Now(), token.ByAccessor(bad)); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("Lookup(%.30q) = %v; want none", bad, err)
		}
	}
	r.Clock.Advance(1000 * time.Hour)
	if _, err := r.Store.Lookup(t.Context(), r.Clock.Now(), token.ByAccessor(g.Accessor)); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("Lookup of an expired token = %v; want none", err)
	}
}

func TestGarbageIsRefused(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	root := r.Root(t).ClientToken.Reveal()
	for _, bad := range []string{
		"", " ", root + " ", " " + root, root[:len(root)-1], root + "x", strings.ToUpper(root), "hvs.CAESIJ", "rts_", "rtw_" + root[4:],
		"rti_" + root[4:], "rtb_", "rtb_AAAA", "rtb_" + strings.Repeat("A", 8000), strings.Repeat("a", 9000), "x\x00", "root", "\u202e",
	} {
		wantDead(t, r, fmt.Sprintf("%.20q", bad), secret.New(bad))
	}
}

func TestWrapping(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	ctx := t.Context()
	answer := `{"data":{"x":18446744073709551615}}`
	wrap := func(ttl time.Duration) op.Wrap {
		t.Helper()
		w, err := r.Wrap(ctx, r.Clock.Now(), secret.NewJSON([]byte(answer)), ttl, "secret/data/x", "theaccessor")
		ok(t, err)
		return w
	}
	unwrap := func(text secret.Text) (got string, err error) {
		err = r.Space().Update(context.Background(), r.WrappingLocks(text), func(tx storage.Tx) error {
			j, err := r.Unwrap(tx, r.Clock.Now(), text)
			got = string(j.Reveal())
			return err
		})
		return got, err
	}
	const none = "wrapping token is not valid or does not exist"
	w := wrap(time.Minute)
	if w.WrappedAccessor != "theaccessor" || w.CreationPath != "secret/data/x" || w.TTL != time.Minute || !strings.HasPrefix(w.Token.Reveal(), "rtw_") {
		t.Errorf("Wrap = %+v", w)
	}
	wantDead(t, r, "a wrapping token as a caller's", w.Token)
	told, err := r.LookupWrapped(ctx, r.Clock.Now(), w.Token)
	if ok(t, err); told.CreationPath != w.CreationPath || told.TTL != w.TTL || !told.CreationTime.Equal(w.CreationTime) {
		t.Errorf("LookupWrapped = %+v; want what Wrap said", told)
	}
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			switch got, err := unwrap(w.Token); {
			case err == nil && got == answer:
				won.Add(1)
			case err == nil:
				t.Errorf("Unwrap = %s", got)
			default:
				wantFault(t, err, fault.Invalid, none)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 50 got the answer; want 1", won.Load())
	}
	_, err = r.LookupWrapped(ctx, r.Clock.Now(), w.Token)
	wantFault(t, err, fault.Invalid, none)

	w = wrap(time.Minute)
	var again op.Wrap
	ok(t, r.Issuer().Update(ctx, r.WrappingLocks(w.Token), func(tx storage.Tx) (err error) {
		again, err = r.Rewrap(tx, r.Clock.Now(), w.Token)
		return err
	}))
	if again.CreationPath != w.CreationPath || again.TTL != w.TTL || again.WrappedAccessor != w.WrappedAccessor {
		t.Errorf("Rewrap = %+v; want as before", again)
	}
	_, err = unwrap(w.Token)
	wantFault(t, err, fault.Invalid, none)
	got, err := unwrap(again.Token)
	if ok(t, err); got != answer {
		t.Errorf("Unwrap = %s; want %s", got, answer)
	}
	w = wrap(time.Minute)
	r.Clock.Advance(time.Minute)
	_, err = unwrap(w.Token)
	wantFault(t, err, fault.Invalid, none)
	w = wrap(time.Minute)
	e, err := r.Store.Lookup(ctx, r.Clock.Now(), token.ByAccessor(w.Accessor))
	ok(t, err)
	ok(t, r.Revoke(ctx, e.ID))
	_, err = unwrap(w.Token)
	wantFault(t, err, fault.Invalid, none)
	r.Settled(t)
	rows := left(t, r)
	if delete(rows, "q"); len(rows) != 0 {
		t.Errorf("rows left: %v", rows)
	}
	_, err = r.Wrap(ctx, r.Clock.Now(), secret.NewJSON(make([]byte, 1<<20)), time.Minute, "x", "")
	if !fault.Is(err, fault.TooLarge) {
		t.Errorf("Wrap of a megabyte = %v; want too large", err)
	}
}

// TestMountBounds: what an operator tunes on the mount of tokens holds for
// tokens that are made and for tokens that are renewed.
func TestMountBounds(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{DefaultTTL: 10 * time.Hour, MaxTTL: 100 * time.Hour})
	root := r.Root(t).ClientToken
	for _, c := range []struct {
		name      string
		bounds    token.Bounds
		ask, want time.Duration
	}{
		{"untuned", token.Bounds{}, 0, 10 * time.Hour},
		{"a default", token.Bounds{Default: 2 * time.Hour}, 0, 2 * time.Hour},
		{"a maximum", token.Bounds{Max: 5 * time.Hour}, 50 * time.Hour, 5 * time.Hour},
		{"a maximum below the default", token.Bounds{Max: 5 * time.Hour}, 0, 5 * time.Hour},
		{"a longer maximum", token.Bounds{Max: 200 * time.Hour}, 150 * time.Hour, 150 * time.Hour},
	} {
		g := r.MustMake(t, root, token.Request{Policies: []name.Name{"a"}, TTL: c.ask, Bounds: c.bounds, Sudo: true})
		if g.TTL != c.want {
			t.Errorf("%s: Create for %v = %v; want %v", c.name, c.ask, g.TTL, c.want)
		}
	}
	g := r.MustMake(t, root, token.Request{Policies: []name.Name{"a"}, TTL: 50 * time.Hour, Sudo: true})
	e := wantAlive(t, r, "made before", g.ClientToken)
	call := r.Call(t, g.ClientToken)
	ok(t, r.Space().Update(t.Context(), storage.Locks{}, func(tx storage.Tx) error {
		return r.Renew(tx, call, e.ID, g.ClientToken, 40*time.Hour, token.Bounds{Max: 3 * time.Hour})
	}))
	if got := call.Reply.Auth.TTL; got != 3*time.Hour {
		t.Errorf("Renew for 40 h where 3 h are the most = %v; want 3 h", got)
	}
}
