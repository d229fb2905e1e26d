package token_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/token"
	"rotunda.dev/rotunda/internal/token/tokentest"
)

// imagined is a token as a naive reading of the promises sees it: dead for
// ever once anything has ended it.
type imagined struct {
	text     secret.Text
	id       string
	parent   *imagined // nil for an orphan
	created  time.Time
	expires  time.Time // zero for never
	granted  time.Duration
	period   time.Duration
	explicit time.Duration
	uses     int // -1 for no limit
	batch    bool
	dead     bool
}

// world is the model: all tokens that were ever made, and the latest time.
type world struct {
	tokens []*imagined
	latest time.Time
	max    time.Duration
}

// pass moves the time on and buries what has come to its end, with all below it.
func (w *world) pass(now time.Time) {
	if now.After(w.latest) {
		w.latest = now
	}
	for changed := true; changed; {
		changed = false
		for _, x := range w.tokens {
			ended := !x.expires.IsZero() && !w.latest.Before(x.expires) || x.uses == 0 || x.parent != nil && x.parent.dead
			if ended && !x.dead {
				x.dead, changed = true, true
			}
		}
	}
}

// ttl is what a token is given that asks for d.
func (w *world) ttl(x *imagined, d time.Duration) (time.Duration, bool) {
	bound := w.max
	if x.explicit > 0 && x.explicit < bound {
		bound = x.explicit
	}
	now := w.latest.Truncate(time.Second)
	rest := x.created.Add(bound).Sub(now)
	if x.period > 0 {
		d = min(x.period, bound)
		if rest = d; x.explicit > 0 {
			rest = x.created.Add(x.explicit).Sub(now)
		}
	}
	return min(d, rest), rest > 0
}

func TestRandomLives(t *testing.T) {
	t.Parallel()
	const rounds, steps = 250, 400 // 100,000 cases
	for seed := range uint64(rounds) {
		live(t, rand.New(rand.NewPCG(seed, 7)), steps)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func live(t *testing.T, rng *rand.Rand, steps int) {
	t.Helper()
	hour := time.Hour
	r := tokentest.New(t, token.Config{MaxTTL: 3 * hour, DefaultTTL: hour})
	w := &world{max: 3 * hour, latest: r.Clock.Now()}
	ctx := context.Background()
	root := &imagined{text: r.Root(t).ClientToken, uses: -1}
	root.id = wantAlive(t, r, "root", root.text).ID
	w.tokens = append(w.tokens, root)
	some := func() *imagined {
		if rng.IntN(3) == 0 {
			return w.tokens[rng.IntN(len(w.tokens))]
		}
		return w.tokens[max(0, len(w.tokens)-1-rng.IntN(8))]
	}
	secs := func(n int) time.Duration { return time.Duration(1+rng.IntN(n)) * time.Second }
	check := func(x *imagined, what string) bool {
		t.Helper()
		w.pass(r.Clock.Now())
		_, err := r.Lookup(x.text)
		if err != nil && !fault.Is(err, fault.Unauthenticated) {
			t.Fatalf("%s: Find = %v", what, err)
		}
		if (err == nil) == x.dead {
			t.Fatalf("%s: Find = %v; the model says dead: %v (%+v)", what, err, x.dead, x)
		}
		return err == nil
	}
	for range steps {
		x := some()
		switch rng.IntN(12) {
		case 0, 1, 2: // create
			if !check(x, "parent") {
				continue
			}
			y := &imagined{parent: x, created: w.latest.Truncate(time.Second), uses: -1, granted: hour}
			ask := token.Request{Policies: []name.Name{"a"}, Sudo: true}
			if rng.IntN(2) == 0 {
				ask.TTL = secs(5 * 3600)
				y.granted = ask.TTL
			}
			switch rng.IntN(5) {
			case 0:
				ask.Kind, y.batch = "batch", true
			case 1:
				ask.Period = secs(4 * 3600)
				y.period = ask.Period
			case 2:
				ask.NumUses = 1 + rng.IntN(3)
				y.uses = ask.NumUses
			}
			if !y.batch && rng.IntN(3) == 0 {
				ask.ExplicitMax = secs(4 * 3600)
				y.explicit = ask.ExplicitMax
			}
			if rng.IntN(6) == 0 {
				ask.Orphan, y.parent = true, nil
			}
			g, _, err := r.Make(t, x.text, ask)
			if x.batch || x.uses > 0 {
				wantInvalid(t, err)
				continue
			}
			ok(t, err)
			y.text = g.ClientToken
			y.granted, _ = w.ttl(y, y.granted)
			y.expires = y.created.Add(y.granted)
			if g.TTL != y.granted {
				t.Fatalf("Create gave %v; the model %v (%+v)", g.TTL, y.granted, y)
			}
			if !y.batch {
				y.id = wantAlive(t, r, "new", y.text).ID
			}
			w.tokens = append(w.tokens, y)
		case 3, 4: // renew
			if !check(x, "renewed") || x.batch {
				continue
			}
			increment := time.Duration(0)
			if rng.IntN(2) == 0 {
				increment = secs(5 * 3600)
			}
			c := r.Call(t, x.text)
			err := r.Space().Update(ctx, r.Locks(token.ByID(x.id)), func(tx storage.Tx) error {
				c.Reply = op.Reply{}
				return r.Renew(tx, c, x.id, x.text, increment, token.Bounds{})
			})
			want := x.granted
			if increment > 0 {
				want = increment
			}
			want, may := w.ttl(x, want)
			if x == root || !may {
				wantInvalid(t, err)
				continue
			}
			ok(t, err)
			if c.Reply.Auth.TTL != want {
				t.Fatalf("Renew gave %v; the model %v (%+v)", c.Reply.Auth.TTL, want, x)
			}
			x.granted, x.expires = want, w.latest.Truncate(time.Second).Add(want)
		case 5: // use
			if !check(x, "used") || x.uses < 0 {
				continue
			}
			e := wantAlive(t, r, "used", x.text)
			ok(t, r.Use(ctx, e))
			x.uses--
			ok(t, r.AfterUse(ctx, e))
		case 6: // end, sparing the children or not
			if x == root || x.batch {
				continue
			}
			gone := !check(x, "ended")
			if free := rng.IntN(2) == 0; free && !gone {
				ok(t, r.Space().Update(ctx, r.RevokeLocks(x.id), func(tx storage.Tx) error {
					_, err := r.ReleaseTx(tx, x.id)
					return err
				}))
				for _, y := range w.tokens {
					if y.parent == x && !y.dead && !y.batch {
						y.parent = nil
					}
				}
			} else {
				ok(t, r.Revoke(ctx, x.id))
			}
			x.dead = true
		case 7: // the clock goes back, or on
			r.Clock.Advance(-secs(2 * 3600))
		case 8, 9:
			r.Clock.Advance(secs(3600))
			check(root, "root") // the Store knows what time it is
		case 10: // the queue runs, and perhaps the process starts anew
			_, err := r.Sweep(ctx)
			ok(t, err)
			if !r.Clock.Now().Before(w.latest) && rng.IntN(2) == 0 {
				r.Reopen(t, nil)
				check(root, "root after a start")
			}
		default:
			check(x, "looked at")
		}
	}
	for _, x := range w.tokens {
		check(x, "at the end")
	}
	r.Clock.Advance(100 * hour)
	r.Settled(t)
	if rows := left(t, r); rows["t"] != 1 || rows["a"] != 1 || rows["c"] != 0 {
		t.Errorf("rows left: %v; want those of the root token", rows)
	}
}

func wantInvalid(t testing.TB, err error) {
	t.Helper()
	if !fault.Is(err, fault.Invalid) {
		t.Fatalf("error is %v; want invalid", err)
	}
}
