package token

import (
	"fmt"
	"time"

	"rotunda.dev/rotunda/internal/fault"
)

// span is a question for how long a token may live.
type span struct {
	increment   time.Duration // asked for now; 0 for nothing
	usual       time.Duration // where nothing is asked; 0 for the system's
	period      time.Duration // of a periodic token; 0 for none
	explicitMax time.Duration // from the start; 0 for none
	start       time.Time     // when the token was made
}

// Bounds are the default and the longest TTL of tokens where an operator has
// tuned them, on the mount of tokens. Its zero fields stand for the server's.
type Bounds struct{ Default, Max time.Duration }

// within returns c with b in the place of its own.
func (c Config) within(b Bounds) Config {
	if b.Max > 0 {
		c.MaxTTL = seconds(b.Max)
	}
	if b.Default > 0 {
		c.DefaultTTL = seconds(b.Default)
	}
	c.DefaultTTL = min(c.DefaultTTL, c.MaxTTL)
	return c
}

// grant returns the TTL that q is given at now, a whole number of seconds and
// never 0, and what to tell the caller of it. It is the arithmetic that clients know:
// https://developer.hashicorp.com/vault/docs/concepts/tokens#token-time-to-live-periodic-tokens-and-explicit-max-ttls
//
//   - the longest life is the system's, or the explicit maximum where that is less;
//   - a periodic token is given its period, at most the longest life, again and
//     again, and only an explicit maximum ends that;
//   - any other is given what is asked, else the usual, but not beyond the
//     longest life since its start.
func (c Config) grant(q span, now time.Time) (ttl time.Duration, warnings []string, err error) {
	now, start := now.Truncate(time.Second), q.start.Truncate(time.Second)
	if start.After(now) {
		start = now
	}
	longest := c.MaxTTL
	explicit := seconds(q.explicitMax)
	if explicit > 0 {
		longest = min(longest, explicit)
	}
	var end time.Time
	if period := seconds(q.period); period > 0 {
		if period > longest {
			warnings = append(warnings, fmt.Sprintf("period of %q exceeded the effective max_ttl of %q; period value is capped accordingly", period, longest))
			period = longest
		}
		ttl = period
		if explicit > 0 {
			end = start.Add(explicit)
		}
	} else {
		switch {
		case q.increment > 0:
			ttl = seconds(q.increment)
		case q.usual > 0:
			ttl = seconds(q.usual)
		default:
			ttl = c.DefaultTTL
		}
		end = start.Add(longest)
	}
	if !end.IsZero() {
		left := end.Sub(now)
		if left <= 0 {
			return 0, nil, fault.New(fault.Invalid, "past the max TTL, cannot renew")
		}
		if ttl > left {
			warnings = append(warnings, fmt.Sprintf("TTL of %q exceeded the effective max_ttl of %q; TTL value is capped accordingly", ttl, left))
			ttl = left
		}
	}
	return ttl, warnings, nil
}

// longestTTL bounds durations so that no sum of two overflows.
const longestTTL = 100 * 365 * 24 * time.Hour

// seconds returns d as a whole number of seconds: what is less than none is
// none, a part of one counts as one, and what is absurd is 100 years.
func seconds(d time.Duration) time.Duration {
	switch {
	case d <= 0:
		return 0
	case d >= longestTTL:
		return longestTTL
	}
	return (d + time.Second - 1).Truncate(time.Second)
}

// lesser returns the smaller of two durations of which 0 is none.
func lesser(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}
