package listen

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
)

// Refusal is a kind of thing that is refused before it is a request, and so
// never reaches a handler. The words are those of audit events and metrics.
type Refusal string

// The kinds of refusals.
const (
	RefusedConnection Refusal = "refused-connection"    // there are too many, in all, of one address, or shaking hands
	RefusedPlain      Refusal = "refused-plain-http"    // HTTP without TLS where TLS is spoken
	RefusedHandshake  Refusal = "refused-handshake"     // a TLS handshake that failed, or did not come in time
	RefusedMalformed  Refusal = "refused-malformed"     // no request that can be read
	RefusedLine       Refusal = "refused-long-line"     // a request line longer than all headers may be
	RefusedLarge      Refusal = "refused-large-headers" // headers of too many bytes
	RefusedMany       Refusal = "refused-many-headers"  // too many headers
	RefusedSlow       Refusal = "refused-slow-headers"  // headers that did not come in time
	RefusedResets     Refusal = "refused-resets"        // an HTTP/2 connection that gave up too many streams
)

// AllRefusals returns every kind of refusal.
func AllRefusals() []Refusal {
	return []Refusal{
		RefusedConnection, RefusedPlain, RefusedHandshake, RefusedMalformed, RefusedLine,
		RefusedLarge, RefusedMany, RefusedSlow, RefusedResets,
	}
}

// Refused is how often things of one kind were refused that came from one
// network.
type Refused struct {
	Kind  Refusal
	From  netip.Prefix // an IPv4 /24 or an IPv6 /48; not valid for unix sockets, and for Others
	Count uint64
	// Others says that these came from several networks, for which there was no
	// place of their own.
	Others bool
}

// maxRefused is how many pairs of a kind and a network are told apart.
const maxRefused = 64

type refusedKey struct {
	kind   Refusal
	from   netip.Prefix
	others bool
}

// Refusals counts what is refused before it is a request. What it holds is
// bounded, whoever calls: beyond 64 pairs of a kind and a network, only kinds
// are told apart. It is safe for concurrent use; the zero value is ready.
type Refusals struct {
	mu     sync.Mutex // guards the rest
	totals map[Refusal]uint64
	since  map[refusedKey]uint64 // Take
}

// note counts one refusal of what came from an address, which may be none.
func (r *Refusals) note(kind Refusal, from netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.totals == nil {
		r.totals = map[Refusal]uint64{}
	}
	r.totals[kind]++
	r.addLocked(refusedKey{kind: kind, from: network(from)}, 1)
}

func (r *Refusals) addLocked(k refusedKey, n uint64) {
	if r.since == nil {
		r.since = map[refusedKey]uint64{}
	}
	if _, known := r.since[k]; !known && len(r.since) >= maxRefused {
		k = refusedKey{kind: k.kind, others: true} // of which there are no more than kinds
	}
	r.since[k] += n
}

// Totals returns how often each kind was refused since the start.
func (r *Refusals) Totals() map[Refusal]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[Refusal]uint64{}
	for _, k := range AllRefusals() {
		out[k] = r.totals[k]
	}
	return out
}

// Take returns what was refused since it was called last, in order.
func (r *Refusals) Take() []Refused {
	r.mu.Lock()
	since := r.since
	r.since = nil
	r.mu.Unlock()
	out := make([]Refused, 0, len(since))
	for k, n := range since {
		out = append(out, Refused{Kind: k.kind, From: k.from, Others: k.others, Count: n})
	}
	slices.SortFunc(out, func(a, b Refused) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.From.String(), b.From.String()), cmp.Compare(a.Count, b.Count))
	})
	return out
}

// Return gives back what was taken and could not be recorded: the next Take
// returns it with what has come since.
func (r *Refusals) Return(taken []Refused) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range taken {
		r.addLocked(refusedKey{t.Kind, t.From, t.Others}, t.Count)
	}
}

// network returns the network that an address is told apart by.
func network(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
