package door_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/fault"
)

var (
	start = time.Unix(1e9, 0)
	here  = netip.MustParseAddr("192.0.2.1")
)

// try makes one login that fails at the time given, and returns how long it is
// told to wait; 0 where it was let in.
func try(t *testing.T, g *door.Guard, at time.Time, from netip.Addr, account string) time.Duration {
	t.Helper()
	ticket, err := g.Enter(at, door.Signin, from, account)
	if err == nil {
		ticket.Leave(at, true)
		return 0
	}
	if fault.KindOf(err) != fault.Limited {
		t.Fatalf("Enter = %v; want Limited", err)
	}
	after, ok := errors.AsType[door.RetryAfter](err)
	if !ok || after <= 0 {
		t.Fatalf("Enter = %v; want how long to wait", err)
	}
	return time.Duration(after)
}

func TestFailedLoginsOfAnAddress(t *testing.T) {
	g := door.NewGuard(door.GuardConfig{})
	for i := range 30 {
		if wait := try(t, g, start, here, ""); wait != 0 {
			t.Fatalf("login %d waits %v; want a burst of 30", i+1, wait)
		}
	}
	if wait := try(t, g, start, here, ""); wait == 0 {
		t.Error("login 31 at once is let in; want it to wait")
	}
	if wait := try(t, g, start, netip.MustParseAddr("192.0.2.2"), ""); wait != 0 {
		t.Errorf("a login from elsewhere waits %v", wait)
	}
	in := 0
	for range 30 {
		if try(t, g, start.Add(time.Second), here, "") == 0 {
			in++
		}
	}
	if in != 10 {
		t.Errorf("%d logins a second later; want 10", in)
	}
}

func TestAddressesOfOneHolderAreOne(t *testing.T) {
	g := door.NewGuard(door.GuardConfig{LoginBurst: 1})
	try(t, g, start, netip.MustParseAddr("2001:db8::1"), "")
	if try(t, g, start, netip.MustParseAddr("2001:db8::ffff"), "") == 0 {
		t.Error("another address of the same /64 is let in")
	}
	if try(t, g, start, netip.MustParseAddr("2001:db8:0:1::1"), "") != 0 {
		t.Error("an address of another /64 waits")
	}
	try(t, g, start, here, "")
	if try(t, g, start, netip.MustParseAddr("::ffff:192.0.2.1"), "") == 0 {
		t.Error("an IPv4 address spelled as IPv6 is let in")
	}
}

func TestFailedLoginsOfAnAccount(t *testing.T) {
	g := door.NewGuard(door.GuardConfig{LoginBurst: -1, LoginRate: -1})
	for i := range 5 {
		if wait := try(t, g, start, here, "auth/userpass/login/bob"); wait != 0 {
			t.Fatalf("failure %d waits %v; want five free", i+1, wait)
		}
	}
	at := start
	for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second} {
		if wait := try(t, g, at, here, "auth/userpass/login/bob"); wait != want {
			t.Errorf("failure %d waits %v; want %v", i+6, wait, want)
		}
		at = at.Add(want)
		if wait := try(t, g, at, netip.MustParseAddr(fmt.Sprintf("198.51.100.%d", i)), "auth/userpass/login/bob"); wait != 0 {
			t.Errorf("failure %d waits %v more after its wait", i+6, wait)
		}
	}
	if wait := try(t, g, at, here, "auth/userpass/login/alice"); wait != 0 {
		t.Errorf("another account waits %v", wait)
	}
	if wait := try(t, g, at.Add(5*time.Minute+time.Second), here, "auth/userpass/login/bob"); wait != 0 {
		t.Errorf("the account waits %v after five quiet minutes", wait)
	}
}

func TestSuccessForgetsFailures(t *testing.T) {
	g := door.NewGuard(door.GuardConfig{})
	for range 3 {
		for range 4 {
			try(t, g, start, netip.Addr{}, "bob")
		}
		ticket, err := g.Enter(start, door.Signin, netip.Addr{}, "bob")
		if err != nil {
			t.Fatal(err)
		}
		ticket.Leave(start, false)
	}
}

func TestAccountsThatAreManyDoNotGrowTheGuard(t *testing.T) {
	g := door.NewGuard(door.GuardConfig{LoginBurst: -1, LoginRate: -1})
	allocs := testing.AllocsPerRun(1, func() {
		for i := range 100_000 {
			ticket, err := g.Enter(start, door.Signin, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), "")
			if err == nil {
				ticket.Leave(start, true)
			}
		}
	})
	if allocs > 500_000 { // what writes an address as text, and nothing that stays
		t.Errorf("%v allocations", allocs)
	}
}

func TestMalformedRequestsThatAreMany(t *testing.T) {
	g := door.NewGuard(door.GuardConfig{RefusalRate: 1})
	for i := range 10 {
		if err := g.Refuse(start, here); err != nil {
			t.Fatalf("refusal %d = %v", i+1, err)
		}
	}
	if err := g.Refuse(start, here); !fault.Is(err, fault.Limited) {
		t.Errorf("refusal 11 at once = %v; want Limited", err)
	}
	if err := g.Refuse(start, netip.Addr{}); err != nil {
		t.Errorf("a refusal of who has no address = %v", err)
	}
	if err := g.Refuse(start.Add(2*time.Second), here); err != nil {
		t.Errorf("a refusal later = %v", err)
	}
}

func TestTooManyAtOnce(t *testing.T) {
	g := door.NewGuard(door.GuardConfig{InFlight: 16})
	for i := range 12 {
		if _, err := g.Enter(start, door.Anyone, here, ""); err != nil {
			t.Fatalf("request %d = %v", i+1, err)
		}
	}
	if _, err := g.Enter(start, door.Anyone, here, ""); !fault.Is(err, fault.Limited) {
		t.Errorf("a request without a token in the last quarter = %v; want Limited", err)
	}
	var last door.Ticket
	for i := range 4 {
		ticket, err := g.Enter(start, door.Holder, here, "")
		if err != nil {
			t.Fatalf("request with a token %d = %v", i+13, err)
		}
		last = ticket
	}
	if _, err := g.Enter(start, door.Holder, here, ""); !fault.Is(err, fault.Limited) {
		t.Errorf("a request with a token too many = %v; want Limited", err)
	}
	if _, err := g.Enter(start, door.Vital, here, ""); err != nil {
		t.Errorf("a revocation when there are too many = %v; want it let in", err)
	}
	last.Leave(start, false)
	last = door.Ticket{}
	last.Leave(start, false) // of nobody
	if n := g.Shed(); n != 2 {
		t.Errorf("Shed = %d; want 2", n)
	}
	if now, limit := g.InFlight(); now != 16 || limit != 16 {
		t.Errorf("InFlight = %d of %d; want 16 of 16", now, limit)
	}
}

func TestLimitFollowsLatency(t *testing.T) {
	g := door.NewGuard(door.GuardConfig{Target: time.Second})
	_, first := g.InFlight()
	at := start
	for range 5 {
		ticket, err := g.Enter(at, door.Holder, here, "")
		if err != nil {
			t.Fatal(err)
		}
		at = at.Add(3 * time.Second)
		ticket.Leave(at, false)
	}
	_, low := g.InFlight()
	if low >= first*2/3 {
		t.Errorf("limit after five late answers = %d, from %d; want a tenth less each", low, first)
	}
	for range 20 {
		var all []door.Ticket
		for range low {
			ticket, err := g.Enter(at, door.Holder, here, "")
			if err != nil {
				break
			}
			all = append(all, ticket)
		}
		for _, ticket := range all {
			ticket.Leave(at, false)
		}
	}
	if _, high := g.InFlight(); high <= low {
		t.Errorf("limit after many prompt answers = %d, from %d; want more", high, low)
	}
}

func TestNoGuardLetsEverythingIn(t *testing.T) {
	var g *door.Guard
	ticket, err := g.Enter(start, door.Anyone, here, "")
	if err != nil {
		t.Errorf("Enter = %v", err)
	}
	ticket.Leave(start, true)
}

// paced returns how many of n requests at once are let in.
func paced(g *door.Guard, at time.Time, class door.Class, holder uint64, n int) (in int) {
	for range n {
		if g.Pace(at, class, holder) == nil {
			in++
		}
	}
	return in
}

func TestRequestsOfATokenAndInAll(t *testing.T) {
	g := door.NewGuard(door.GuardConfig{TokenRate: 5, GlobalRate: 12})
	one, two := g.Holder("one"), g.Holder("two")
	for _, c := range []struct {
		what   string
		at     time.Duration
		class  door.Class
		holder uint64
		want   int
	}{
		{"a token's second", 0, door.Holder, one, 5},
		{"what is vital", 0, door.Vital, one, 100},
		{"another token's second", 0, door.Holder, two, 5},
		{"what is left of all", 0, door.Anyone, 0, 2},
		{"a token a second later", time.Second, door.Holder, one, 5},
		{"all a second later", time.Second, door.Anyone, 0, 7},
		{"all long after", time.Hour, door.Anyone, 0, 12},
	} {
		if in := paced(g, start.Add(c.at), c.class, c.holder, 100); in != c.want {
			t.Errorf("%s: %d of 100 requests are let in; want %d", c.what, in, c.want)
		}
	}
	err := g.Pace(start.Add(time.Hour), door.Anyone, 0)
	if after, ok := errors.AsType[door.RetryAfter](err); !ok || after <= 0 || fault.KindOf(err) != fault.Limited {
		t.Errorf("Pace = %v; want Limited and when to try again", err)
	}
	slow := door.NewGuard(door.GuardConfig{TokenRate: 0.5, GlobalRate: 0.1})
	if in := paced(slow, start, door.Holder, slow.Holder("one"), 3); in != 1 {
		t.Errorf("at less than one a second, %d requests at once are let in; want 1", in)
	}
	if usual := door.NewGuard(door.GuardConfig{}); usual.Holder("one") != 0 || paced(usual, start, door.Holder, 0, 20_000) != 20_000 {
		t.Error("where nothing is configured, 20,000 requests at once are not let in")
	}
}

func TestPaceAllocatesNothing(t *testing.T) {
	g := door.NewGuard(door.GuardConfig{TokenRate: 1e6, GlobalRate: 1e6})
	if n := testing.AllocsPerRun(100, func() {
		if err := g.Pace(start, door.Holder, g.Holder("rts_token")); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Pace allocates %v times", n)
	}
}
