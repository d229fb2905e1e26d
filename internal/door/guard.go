package door

import (
	"fmt"
	"hash/maphash"
	"math"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"rotunda.dev/rotunda/internal/fault"
)

// Class says how much a request matters when there are too many.
type Class uint8

// The classes of requests.
const (
	Anyone Class = iota // needs no token: shed first
	Signin              // the same, and tries a credential: attempts are counted
	Holder              // carries a token
	Vital               // sealing, revoking and what says how we are: never shed
)

// GuardConfig bounds how much is let in at once. A zero field stands for the
// default; a negative one is no bound.
type GuardConfig struct {
	InFlight        int           // most requests at once; 20 000
	Target          time.Duration // a request that takes longer means that there are too many at once; 2 s
	LoginRate       float64       // failed logins a second from one address; 10
	LoginBurst      int           // failed logins at once from one address; 30
	AccountFailures int           // failed logins for one account before each further one waits; 5
	AccountWindow   time.Duration // after which without a failure an account's are forgotten; 5 min
	TokenRate       float64       // requests a second of one token, and as many at once; no bound
	GlobalRate      float64       // requests a second, and as many at once; 50 000 for each core
	RefusalRate     float64       // malformed requests a second from one address that are recorded; 50, and ten times that at once
}

func (c GuardConfig) withDefaults() GuardConfig {
	set := func(n *int, v int) {
		switch {
		case *n == 0:
			*n = v
		case *n < 0:
			*n = math.MaxInt32
		}
	}
	set(&c.InFlight, 20_000)
	set(&c.LoginBurst, 30)
	set(&c.AccountFailures, 5)
	rate := func(r *float64, v float64) {
		switch {
		case *r == 0:
			*r = v
		case *r < 0:
			*r = math.Inf(1)
		}
	}
	rate(&c.LoginRate, 10)
	rate(&c.RefusalRate, 50)
	rate(&c.TokenRate, math.Inf(1))
	rate(&c.GlobalRate, 50_000*float64(runtime.GOMAXPROCS(0)))
	if c.Target == 0 {
		c.Target = 2 * time.Second
	} else if c.Target < 0 {
		c.Target = math.MaxInt64
	}
	if c.AccountWindow <= 0 {
		c.AccountWindow = 5 * time.Minute
	}
	return c
}

// maxBackoff bounds how long an account waits after a failure.
const maxBackoff = 15 * time.Minute

// Guard sheds what is too much before any of its body is read. What it
// remembers of callers is of a fixed size.
type Guard struct {
	config   GuardConfig
	inFlight atomic.Int64
	limit    atomic.Int64 // of requests at once: rises by one for each limit's worth of prompt answers, falls by a tenth for late ones
	prompt   atomic.Int64 // answers in time since limit last rose
	fell     atomic.Int64 // when limit last fell, in Unix nanoseconds
	shed     atomic.Uint64
	pace     pacer
	seed     maphash.Seed
	holders  *table
	sources  *table
	accounts *table
	refusals *table
}

// NewGuard returns a Guard.
func NewGuard(config GuardConfig) *Guard {
	g := &Guard{config: config.withDefaults(), seed: maphash.MakeSeed(), holders: newTable(), sources: newTable(), accounts: newTable(), refusals: newTable()}
	g.limit.Store(int64(min(g.config.InFlight, 256*runtime.GOMAXPROCS(0))))
	return g
}

// Holder returns what [Guard.Pace] knows a token by; 0 where nobody counts its requests.
func (g *Guard) Holder(token string) uint64 {
	if g == nil || math.IsInf(g.config.TokenRate, 1) {
		return 0
	}
	return g.key(token)
}

// Pace counts a request, and returns a fault of kind Limited where there are
// too many of them a second, of the holder or in all.
func (g *Guard) Pace(now time.Time, class Class, holder uint64) error {
	if g == nil || class == Vital {
		return nil
	}
	if holder != 0 {
		if wait := g.holders.take(holder, now, g.config.TokenRate, max(1, g.config.TokenRate)); wait > 0 {
			g.shed.Add(1)
			return Limited(wait, "too many requests of this token")
		}
	}
	if wait := g.pace.take(now, g.config.GlobalRate); wait > 0 {
		g.shed.Add(1)
		return Limited(max(time.Second, wait), "the server is busy")
	}
	return nil
}

// Ticket is one request that was let in. Its zero value may be left.
type Ticket struct {
	guard           *Guard
	class           Class
	source, account uint64
	entered         time.Time
}

// Enter lets a request in, or returns a fault of kind Limited. The account is
// whose credential a Signin tries; empty where that cannot be told before the
// body is read.
func (g *Guard) Enter(now time.Time, class Class, from netip.Addr, account string) (Ticket, error) {
	if g == nil {
		return Ticket{}, nil
	}
	n := g.inFlight.Add(1)
	if limit := g.limit.Load(); class != Vital {
		room := limit
		if class != Holder {
			room = limit - limit/4
		}
		if n > room {
			g.inFlight.Add(-1)
			g.shed.Add(1)
			return Ticket{}, Limited(time.Second, "the server is busy")
		}
	}
	t := Ticket{guard: g, class: class, entered: now}
	if class != Signin {
		return t, nil
	}
	if from.IsValid() {
		t.source = g.key(source(from))
		if wait := g.sources.take(t.source, now, g.config.LoginRate, float64(g.config.LoginBurst)); wait > 0 {
			g.inFlight.Add(-1)
			return Ticket{}, Limited(wait, "too many failed logins")
		}
	}
	if account != "" {
		t.account = g.key(account)
		if wait := g.accounts.fail(t.account, now, g.config.AccountFailures, g.config.AccountWindow); wait > 0 {
			g.sources.give(t.source)
			g.inFlight.Add(-1)
			return Ticket{}, Limited(wait, "too many failed logins")
		}
	}
	return t, nil
}

// Leave ends the request. Of a Signin, only one that failed counts.
func (t Ticket) Leave(now time.Time, failed bool) {
	g := t.guard
	if g == nil {
		return
	}
	n := g.inFlight.Add(-1)
	if t.class == Signin && !failed {
		g.sources.give(t.source)
		g.accounts.forget(t.account)
	}
	if t.class == Vital {
		return
	}
	limit := g.limit.Load()
	if now.Sub(t.entered) > g.config.Target {
		fell := g.fell.Load()
		if now.UnixNano()-fell > int64(g.config.Target) && g.fell.CompareAndSwap(fell, now.UnixNano()) {
			g.limit.CompareAndSwap(limit, min(int64(g.config.InFlight), max(16, limit-limit/10)))
		}
		return
	}
	if n >= limit/2 && g.prompt.Add(1) >= limit { // only a limit that is in use can be too low
		g.prompt.Store(0)
		g.limit.CompareAndSwap(limit, min(int64(g.config.InFlight), limit+1+limit/16))
	}
}

// Refuse counts a request that a door refuses on its own, and returns a fault
// of kind Limited where there are too many of them from one address. Those are
// not to be recorded.
func (g *Guard) Refuse(now time.Time, from netip.Addr) error {
	if g == nil || !from.IsValid() {
		return nil
	}
	if wait := g.refusals.take(g.key(source(from)), now, g.config.RefusalRate, 10*g.config.RefusalRate); wait > 0 {
		g.shed.Add(1)
		return Limited(wait, "too many malformed requests")
	}
	return nil
}

// InFlight returns how many requests are in and how many may be.
func (g *Guard) InFlight() (now, limit int64) { return g.inFlight.Load(), g.limit.Load() }

// Shed returns how many requests were turned away because there were too many.
func (g *Guard) Shed() uint64 { return g.shed.Load() }

// RetryAfter is the cause of a fault of kind Limited, and says when to try again.
type RetryAfter time.Duration

// Error says how long to wait.
func (r RetryAfter) Error() string { return fmt.Sprintf("retry after %v", time.Duration(r)) }

// Limited returns a fault of kind Limited that says when to try again.
func Limited(wait time.Duration, text string) error {
	return fault.Wrap(fault.Limited, RetryAfter(wait), "%s", text)
}

// source is what counts as one caller: an IPv4 address, or the /64 that one
// holder of IPv6 addresses has at least.
func source(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return a.String()
	}
	return p.String()
}

func (g *Guard) key(s string) uint64 { return maphash.String(g.seed, s) | 1 } // never 0, which is an empty slot

// table remembers something of many keys in a fixed size. Keys that share a
// bucket push out the one that was seen least lately.
type table struct {
	buckets [4096]struct {
		mu    sync.Mutex // guards slots
		slots [4]slot
	}
}

type slot struct {
	key   uint64
	level float64 // tokens that were taken, or failures
	at    time.Time
}

func newTable() *table { return new(table) }

// with calls fn with the slot of key.
func (t *table) with(key uint64, fn func(*slot)) {
	b := &t.buckets[key>>16%uint64(len(t.buckets))]
	b.mu.Lock()
	defer b.mu.Unlock()
	oldest := &b.slots[0]
	for i := range b.slots {
		s := &b.slots[i]
		if s.key == key {
			fn(s)
			return
		}
		if s.at.Before(oldest.at) {
			oldest = s
		}
	}
	*oldest = slot{key: key}
	fn(oldest)
}

// take takes one of burst tokens that come back at rate a second, or says how
// long to wait for one.
func (t *table) take(key uint64, now time.Time, rate, burst float64) (wait time.Duration) {
	t.with(key, func(s *slot) {
		if !s.at.IsZero() {
			s.level = max(0, s.level-max(0, now.Sub(s.at).Seconds())*rate)
		}
		s.at = now
		if s.level+1 > burst {
			wait = max(time.Second, time.Duration((s.level+1-burst)/rate*float64(time.Second)))
			return
		}
		s.level++
	})
	return wait
}

// give gives a token back that take took.
func (t *table) give(key uint64) {
	if key == 0 {
		return
	}
	t.with(key, func(s *slot) { s.level = max(0, s.level-1) })
}

// fail counts a failure, which [table.forget] takes back, or says how long to
// wait: after free failures for one second, then for two, four, ….
func (t *table) fail(key uint64, now time.Time, free int, window time.Duration) (wait time.Duration) {
	t.with(key, func(s *slot) {
		since := now.Sub(s.at)
		if since < 0 { // the clock was set back
			s.at, since = now, 0
		}
		over := int(s.level) - free
		if over >= 0 {
			backoff := min(maxBackoff, time.Second<<min(over, 20))
			if since < backoff {
				wait = backoff - max(0, since)
				return
			}
			window = max(window, 2*backoff)
		}
		if since > window {
			s.level = 0
		}
		s.level++
		s.at = now
	})
	return wait
}

func (t *table) forget(key uint64) {
	if key == 0 {
		return
	}
	t.with(key, func(s *slot) { s.level = 0 })
}

// pacer lets requests through at a rate, one second's worth of them at once.
// It is one word, so that it costs every request next to nothing.
type pacer struct {
	due atomic.Int64 // when all that were let through would have come, had they kept to the rate; Unix nanoseconds
}

// take lets a request through, or says how long to wait.
func (p *pacer) take(now time.Time, rate float64) (wait time.Duration) {
	interval := int64(min(float64(time.Second)/rate, 1<<56))
	if interval == 0 {
		return 0
	}
	at, ahead := now.UnixNano(), max(int64(time.Second), interval)
	for {
		due := p.due.Load()
		next := max(due, at) + interval
		if due-at > 2*ahead {
			next = at + interval // the clock was set back
		}
		if next-at > ahead {
			return time.Duration(next - at - ahead)
		}
		if p.due.CompareAndSwap(due, next) {
			return 0
		}
	}
}
