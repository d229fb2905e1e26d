package token

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/fault"
)

// model is the arithmetic of TTLs once more, in whole seconds, written from
// the promises of [Config.grant] and not from its text.
func model(c Config, q span, now time.Time) (ttl int64, failed bool) {
	up := func(d time.Duration) int64 {
		if d <= 0 {
			return 0
		}
		s := int64(d / time.Second)
		if d%time.Second != 0 {
			s++
		}
		return min(s, 100*365*24*3600)
	}
	bound := int64(c.MaxTTL / time.Second)
	if x := up(q.explicitMax); x > 0 && x < bound {
		bound = x
	}
	age := max(now.Unix()-q.start.Unix(), 0)
	if p := up(q.period); p > 0 {
		ttl = min(p, bound)
		if x := up(q.explicitMax); x > 0 {
			if age >= x {
				return 0, true
			}
			ttl = min(ttl, x-age)
		}
		return ttl, false
	}
	ttl = int64(c.DefaultTTL / time.Second)
	if u := up(q.usual); u > 0 {
		ttl = u
	}
	if i := up(q.increment); i > 0 {
		ttl = i
	}
	if age >= bound {
		return 0, true
	}
	return min(ttl, bound-age), false
}

func TestP8GrantIsTheModel(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	base := time.Unix(1_800_000_000, 0)
	odd := []time.Duration{0, 1, -1, time.Millisecond, time.Second - 1, time.Second, time.Second + 1, math.MaxInt64, math.MinInt64, math.MaxInt64 - 1, 768 * time.Hour}
	pick := func() time.Duration {
		switch rng.IntN(4) {
		case 0:
			return 0
		case 1:
			return odd[rng.IntN(len(odd))]
		default:
			return time.Duration(rng.Int64N(int64(3 * time.Hour)))
		}
	}
	for i := range 1_000_000 {
		c := Config{MaxTTL: time.Duration(1+rng.IntN(7200)) * time.Second}
		c.DefaultTTL = min(time.Duration(1+rng.IntN(7200))*time.Second, c.MaxTTL)
		q := span{pick(), pick(), pick(), pick(), base.Add(time.Duration(rng.Int64N(int64(time.Second))))}
		now := base.Add(time.Duration(rng.Int64N(int64(4*time.Hour))) - time.Hour)
		want, failed := model(c, q, now)
		got, _, err := c.grant(q, now)
		if failed != (err != nil) || err != nil && !fault.Is(err, fault.Invalid) || err == nil && got != time.Duration(want)*time.Second {
			t.Fatalf("case %d: %+v.grant(%+v, %v) = %v, %v; want %d s, failed %v", i, c, q, now, got, err, want, failed)
		}
		if err == nil && (got <= 0 || got > c.MaxTTL || got%time.Second != 0) {
			t.Fatalf("case %d: grant(%+v) = %v; want whole seconds from 1 to %v", i, q, got, c.MaxTTL)
		}
	}
}

// A token that is renewed in its last second is never given no end: whatever
// is asked for and whenever, it ends by its start and the maximum.
func TestRenewalAtTheEnd(t *testing.T) {
	t.Parallel()
	c := Config{DefaultTTL: time.Hour, MaxTTL: time.Hour}
	start := time.Unix(1_800_000_000, 0)
	for _, explicit := range []time.Duration{0, 1, -1, 10 * time.Second, math.MaxInt64} {
		for _, increment := range []time.Duration{0, 1, -1, time.Hour, math.MaxInt64} {
			for _, period := range []time.Duration{0, 1, time.Minute, math.MaxInt64} {
				most, x := c.MaxTTL, seconds(explicit)
				if x > 0 {
					most = min(most, x)
				}
				ends := period <= 0 || x > 0 && x == most // and not only when it is not renewed
				for step := -2 * time.Second; step <= time.Second; step += 10 * time.Millisecond {
					now := start.Add(most + step)
					ttl, _, err := c.grant(span{increment, time.Minute, period, explicit, start}, now)
					end := now.Truncate(time.Second).Add(ttl)
					switch {
					case err == nil && ttl < time.Second:
						t.Fatalf("explicit %v, increment %v, period %v, %v after the end: TTL %v", explicit, increment, period, step, ttl)
					case err == nil && ends && end.After(start.Add(most)):
						t.Fatalf("explicit %v, increment %v, period %v, %v after the end: expires %v after the maximum", explicit, increment, period, step, end.Sub(start.Add(most)))
					case err == nil && step >= 0 && ends:
						t.Fatalf("explicit %v, increment %v, period %v: renewed %v after the end", explicit, increment, period, step)
					}
				}
			}
		}
	}
}
