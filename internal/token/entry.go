package token

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
)

// Kind is the kind of a token, as clients call it.
type Kind string

// The kinds of tokens.
const (
	Service Kind = "service" // kept in the store
	Batch   Kind = "batch"   // kept by its holder, encrypted
)

// state is what has become of a token that is still in the store.
type state byte

const (
	live     state = iota
	spent          // its last use was taken; it goes when that is done
	released       // revoked without its children, which are being made orphans
)

// Entry is what is known of a token. It does not hold the token itself. What
// Find returns is shared: nobody changes it.
type Entry struct {
	ID          string // keyed hash of the token, or random for an id that root gave; in hex. Empty for a batch token
	Kind        Kind
	Accessor    string // empty for a batch token
	DisplayName string // "token-ci"
	Path        string // that made it: "auth/token/create"
	Role        name.Name
	Policies    []name.Name // in order, each once
	EntityID    string
	Meta        map[string]string // nil for none
	Parent      string            // id; empty for an orphan
	Depth       int               // ancestors that were alive when it was made
	Created     time.Time
	Renewed     time.Time     // zero until it is
	Expires     time.Time     // zero for never, which only root tokens may be
	TTL         time.Duration // as it was when created
	Granted     time.Duration // by the last renewal, else TTL
	Period      time.Duration // in effect when it was made
	ExplicitMax time.Duration // in effect when it was made
	Renewable   bool
	NumUses     int // that are left; 0 for no limit
	BoundCIDRs  []netip.Prefix

	askedPeriod, askedMax time.Duration // by the creating call, its role aside
	state                 state
	wrap                  bool      // a wrapping token, whose answer lies beside it
	alias                 string    // keyed hash of an id that root gave, under which it is found
	due                   time.Time // of the earliest row in the queue
}

// Root reports whether the token holds the policy root.
func (e *Entry) Root() bool { return slices.Contains(e.Policies, name.Root) }

// Caller returns the token as operations see it.
func (e *Entry) Caller() op.Caller {
	c := op.Caller{
		TokenID: e.ID, Accessor: e.Accessor, DisplayName: e.DisplayName, Policies: e.Policies,
		EntityID: e.EntityID, Kind: string(e.Kind), Root: e.Root(),
	}
	if e.Kind == Service {
		c.Cubby = e.ID
	}
	return c
}

// AllowsFrom reports whether the token may be used from addr.
func (e *Entry) AllowsFrom(addr netip.Addr) bool {
	if len(e.BoundCIDRs) == 0 {
		return true
	}
	addr = addr.Unmap().WithZone("")
	return addr.IsValid() && slices.ContainsFunc(e.BoundCIDRs, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Left returns how long the token lives after now: 0 for one that never
// expires, and at least a second otherwise, so that no client reads the end as
// no end.
func (e *Entry) Left(now time.Time) time.Duration {
	if e.Expires.IsZero() {
		return 0
	}
	return max(e.Expires.Sub(now.Truncate(time.Second)).Truncate(time.Second), time.Second)
}

// UsesLeft returns how often the token can be used as clients are told: 0 for
// no limit, and -1 while its last use runs.
func (e *Entry) UsesLeft() int {
	if e.state == spent {
		return -1
	}
	return e.NumUses
}

// grant returns the token as it is answered to whom it is given.
func (e *Entry) grant(now time.Time) op.Grant {
	return op.Grant{
		Accessor: e.Accessor, Policies: e.Policies, TokenPolicies: e.Policies, Metadata: e.Meta, TTL: e.Left(now),
		Renewable: e.Renewable, EntityID: e.EntityID, Kind: string(e.Kind), Orphan: e.Parent == "", NumUses: e.UsesLeft(),
	}
}

// entryFormat is the first byte of an encoded Entry. What follows is
//
//	flags | kind and state | text: id, accessor, display name, path, role, entity, parent, alias
//	| list of policies | list of meta: key, value, in the order of the keys | list of CIDRs
//	| number: depth, uses | time: created, renewed, expires, due | duration: TTL, granted, period, explicit maximum, asked period, asked maximum
//
// where text is a uvarint length and bytes, a list a uvarint count, a number a
// uvarint, a duration a uvarint of nanoseconds, and a time a uvarint of
// nanoseconds since 1970, 0 for none. Uvarints are as short as can be and
// nothing follows, so one Entry has one encoding.
const entryFormat = 1

const (
	flagRenewable = 1 << iota
	flagWrap
	flagMeta // Meta is not nil
	flagBatch
)

var errEntry = errors.New("token: malformed entry")

func (e *Entry) encode() []byte {
	b := make([]byte, 0, 256)
	var flags byte
	if e.Renewable {
		flags |= flagRenewable
	}
	if e.wrap {
		flags |= flagWrap
	}
	if e.Meta != nil {
		flags |= flagMeta
	}
	if e.Kind == Batch {
		flags |= flagBatch
	}
	b = append(b, entryFormat, flags, byte(e.state))
	for _, s := range []string{e.ID, e.Accessor, e.DisplayName, e.Path, string(e.Role), e.EntityID, e.Parent, e.alias} {
		b = appendText(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Policies)))
	for _, p := range e.Policies {
		b = appendText(b, string(p))
	}
	b = binary.AppendUvarint(b, uint64(len(e.Meta)))
	for _, k := range slices.Sorted(maps.Keys(e.Meta)) {
		b = appendText(appendText(b, k), e.Meta[k])
	}
	b = binary.AppendUvarint(b, uint64(len(e.BoundCIDRs)))
	for _, p := range e.BoundCIDRs {
		b = appendText(b, p.String())
	}
	for _, n := range []int{e.Depth, e.NumUses} {
		b = binary.AppendUvarint(b, uint64(n)) //nolint:gosec // neither is negative
	}
	for _, t := range []time.Time{e.Created, e.Renewed, e.Expires, e.due} {
		var n uint64
		if !t.IsZero() {
			n = uint64(t.UnixNano())
		}
		b = binary.AppendUvarint(b, n)
	}
	for _, d := range []time.Duration{e.TTL, e.Granted, e.Period, e.ExplicitMax, e.askedPeriod, e.askedMax} {
		b = binary.AppendUvarint(b, uint64(d)) //nolint:gosec // none is negative
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader takes an encoding apart; it remembers that something was wrong.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || size > 1 && r.b[size-1] == 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) text() string {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// count reads the length of a list, each item of which takes a byte at least.
func (r *reader) count() int {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n) //nolint:gosec // at most len(r.b)
}

func (r *reader) small() int64 {
	n := r.number()
	if n > 1<<63-1 {
		r.bad = true
		return 0
	}
	return int64(n)
}

func decode(b []byte) (*Entry, error) {
	r := &reader{b: b}
	e := &Entry{Kind: Service}
	if r.byte() != entryFormat {
		return nil, fmt.Errorf("reading the format of an entry: %w", errEntry)
	}
	flags := r.byte()
	if flags >= flagBatch<<1 {
		r.bad = true
	}
	e.Renewable, e.wrap = flags&flagRenewable != 0, flags&flagWrap != 0
	if flags&flagBatch != 0 {
		e.Kind = Batch
	}
	if e.state = state(r.byte()); e.state > released {
		r.bad = true
	}
	var role string
	for _, s := range []*string{&e.ID, &e.Accessor, &e.DisplayName, &e.Path, &role, &e.EntityID, &e.Parent, &e.alias} {
		*s = r.text()
	}
	e.Role = name.Name(role)
	for range r.count() {
		e.Policies = append(e.Policies, name.Name(r.text()))
	}
	if n := r.count(); flags&flagMeta != 0 {
		e.Meta = make(map[string]string, n)
		last := ""
		for i := range n {
			k := r.text()
			if i > 0 && k <= last {
				r.bad = true
			}
			last = k
			e.Meta[k] = r.text()
		}
	} else if n > 0 {
		r.bad = true
	}
	for range r.count() {
		s := r.text()
		p, err := netip.ParsePrefix(s)
		if err != nil || p.String() != s {
			r.bad = true
		}
		e.BoundCIDRs = append(e.BoundCIDRs, p)
	}
	for _, n := range []*int{&e.Depth, &e.NumUses} {
		*n = int(r.small())
	}
	for _, t := range []*time.Time{&e.Created, &e.Renewed, &e.Expires, &e.due} {
		if n := r.small(); n != 0 {
			*t = time.Unix(0, n).UTC()
		}
	}
	for _, d := range []*time.Duration{&e.TTL, &e.Granted, &e.Period, &e.ExplicitMax, &e.askedPeriod, &e.askedMax} {
		*d = time.Duration(r.small())
	}
	if r.bad || len(r.b) != 0 {
		return nil, errEntry
	}
	return e, nil
}
