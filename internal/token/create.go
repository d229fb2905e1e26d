package token

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// Issuer is the space of tokens as a store whose transactions can create
// tokens: each Update has an identity of its own, which stays the same when
// its function is run again, and wakes the queue when it was kept.
type Issuer struct {
	storage.Store
	s *Store
}

// Issuer returns the store for operations that create, change or end tokens.
func (s *Store) Issuer() *Issuer { return &Issuer{s.space, s} }

// identity is what a token that is about to be created will be known by.
type identity struct {
	service, wrapping string // texts, of which at most one is used
	accessor          string
}

// issuing is a transaction with the identity of the token that it may create.
type issuing struct {
	storage.Tx
	id identity
}

// Update implements [storage.Store].
func (i *Issuer) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	id := identity{newText(prefixService), newText(prefixWrapping), newAccessor()}
	at := i.s.hash(id.service)
	locks.Own = append(slices.Clone(locks.Own), tokenScope(at))
	locks.Join = append(slices.Clone(locks.Join), i.s.accessorKey(id.accessor).Scope, i.s.queue.Scope(at))
	err := i.Store.Update(ctx, locks, func(tx storage.Tx) error { return fn(&issuing{tx, id}) })
	if err == nil {
		i.s.queue.Wake()
	}
	return err
}

func minted(tx storage.Tx) identity {
	t, ok := tx.(*issuing)
	if !ok {
		panic("token: internal error: the transaction is not an Issuer's")
	}
	return t.id
}

// Request asks for a token for the caller of an operation.
type Request struct {
	ID          secret.Text // text that the token is to have; for root
	Policies    []name.Name
	Meta        map[string]string
	NoParent    bool
	NoDefault   bool // leaves out the policy default
	TTL         time.Duration
	ExplicitMax time.Duration
	Period      time.Duration
	DisplayName string
	NumUses     int
	Renewable   *bool // nil is true
	Kind        string
	EntityAlias string
	Role        name.Name // under which it is created; empty for none
	Orphan      bool      // asked of the operation that makes orphans
	Path        string    // of the operation, under its mount: "create"
	Sudo        bool      // the caller has sudo on the operation's path
	Bounds      Bounds    // of the mount
}

// CreateLocks returns what is known of the scopes that [Store.Create] touches.
func (s *Store) CreateLocks(caller op.Caller, role name.Name) storage.Locks {
	l := storage.Locks{}
	if caller.Kind == string(Service) {
		l.Join = append(l.Join, tokenScope(caller.TokenID), childrenScope(caller.TokenID))
	}
	if role != "" {
		l.Join = append(l.Join, tableRole)
	}
	return l
}

// parentOf returns the token that creates another, as it stands.
func parentOf(tx storage.Tx, caller op.Caller, now time.Time) (*Entry, error) {
	if caller.Kind == string(Batch) {
		return nil, fault.New(fault.Invalid, "batch tokens cannot create more tokens")
	}
	parent, err := read(tx, caller.TokenID)
	if errors.Is(err, errNone) {
		return nil, denied()
	}
	if err != nil {
		return nil, err
	}
	if parent.NumUses > 0 || parent.state == spent {
		return nil, fault.New(fault.Invalid, "restricted use token cannot generate child tokens")
	}
	if parent.state != live || !parent.Expires.IsZero() && !now.Before(parent.Expires) {
		return nil, denied()
	}
	return parent, nil
}

// Create makes a token as the caller of c asks, in a transaction of an
// [Issuer], and puts it into the reply. What is not allowed is a fault.
func (s *Store) Create(tx storage.Tx, c *op.Call, ask Request) error {
	now := s.now(c.Time)
	parent, err := parentOf(tx, c.Caller, now)
	if err != nil {
		return err
	}
	var role *Role
	if ask.Role != "" {
		if role, err = s.RoleTx(tx, ask.Role); err != nil {
			return err
		}
		if role == nil {
			return fault.New(fault.Invalid, "unknown role %s", ask.Role)
		}
	}
	e, err := s.draft(c, parent, role, ask, now)
	if err != nil {
		return err
	}
	if err := s.lifetime(c, e, role, ask, now); err != nil {
		return err
	}
	text, err := s.insert(tx, e, ask.ID, now)
	if err != nil {
		return err
	}
	grant := e.grant(now)
	grant.ClientToken = text
	c.Reply.Auth = &grant
	return nil
}

// draft decides all but the times of a token.
func (s *Store) draft(c *op.Call, parent *Entry, role *Role, ask Request, now time.Time) (*Entry, error) {
	e := &Entry{
		Parent: parent.ID, Path: "auth/token/" + ask.Path, DisplayName: "token", NumUses: ask.NumUses, Meta: ask.Meta,
		Created: now.Truncate(time.Second), Renewable: ask.Renewable == nil || *ask.Renewable,
	}
	if err := s.config.checkMeta(ask.Meta); err != nil {
		return nil, err
	}
	if ask.NumUses < 0 {
		return nil, fault.New(fault.Invalid, "number of uses cannot be negative")
	}
	if ask.EntityAlias != "" {
		if role == nil {
			return nil, fault.New(fault.Invalid, "'entity_alias' is only allowed in combination with token role")
		}
		return nil, fault.New(fault.Invalid, "invalid 'entity_alias' value")
	}
	if err := kind(e, role, ask); err != nil {
		return nil, err
	}
	if role != nil {
		e.Role = role.Name
		e.Renewable = e.Renewable && role.Renewable
		if role.NumUses > 0 && (e.NumUses == 0 || role.NumUses < e.NumUses) && e.Kind != Batch {
			e.NumUses = role.NumUses
		}
		if role.PathSuffix != "" {
			e.Path += "/" + role.PathSuffix
		}
	}
	if ask.DisplayName != "" {
		if len(ask.DisplayName) > 256 {
			return nil, fault.New(fault.Invalid, "a display name has at most 256 bytes")
		}
		e.DisplayName = strings.TrimSuffix(notDisplayed.ReplaceAllString("token-"+ask.DisplayName, "-"), "-")
	}
	if !ask.ID.Empty() {
		if !c.Caller.Root {
			return nil, fault.New(fault.Invalid, "root or sudo privileges required to specify token id")
		}
		if err := checkCustom(ask.ID.Reveal()); err != nil {
			return nil, err
		}
	}
	var err error
	if e.Policies, err = s.config.policies(parent, role, ask); err != nil {
		return nil, err
	}
	if e.Root() && e.Kind == Batch {
		return nil, fault.New(fault.Invalid, "batch tokens cannot be root tokens")
	}
	switch {
	case role != nil:
		if role.Orphan {
			e.Parent = ""
		}
	case ask.NoParent && !ask.Orphan:
		if !ask.Sudo {
			return nil, fault.New(fault.Invalid, "root or sudo privileges required to create orphan token")
		}
		e.Parent = ""
	case ask.Orphan:
		e.Parent = ""
	}
	if e.Parent != "" {
		e.EntityID = parent.EntityID
		if e.Depth = parent.Depth + 1; e.Depth > maxDepth {
			return nil, fault.New(fault.Invalid, "a token has at most %d ancestors", maxDepth)
		}
	}
	e.BoundCIDRs = parent.BoundCIDRs
	if role != nil && len(role.BoundCIDRs) > 0 {
		bound, err := parseCIDRs(role.BoundCIDRs)
		if err != nil {
			return nil, err
		}
		if e.BoundCIDRs = narrow(bound, parent.BoundCIDRs); len(e.BoundCIDRs) == 0 {
			return nil, fault.New(fault.Invalid, "the role's networks and those of the parent token have nothing in common")
		}
	}
	return e, nil
}

// notDisplayed is what display names have a dash for.
var notDisplayed = regexp.MustCompile("[^a-zA-Z0-9-]")

func (c *Config) checkMeta(m map[string]string) error {
	if len(m) > c.MetadataItems {
		return fault.New(fault.Invalid, "metadata has at most %d entries", c.MetadataItems)
	}
	for k, v := range m {
		if most := c.MetadataBytes; k == "" || len(k) > most || len(v) > most {
			return fault.New(fault.Invalid, "metadata has keys and values of at most %d bytes", most)
		}
	}
	return nil
}

func checkCustom(id string) error {
	if ours(id) {
		return fault.New(fault.Invalid, "a token id cannot have a prefix of the server's own")
	}
	if classify(id) != custom {
		return fault.New(fault.Invalid, "a token id has 1 to %d visible ASCII characters and no '.'", maxCustom)
	}
	return nil
}

// kind settles whether a token is a service or a batch token.
func kind(e *Entry, role *Role, ask Request) error {
	asked := ask.Kind
	if role != nil {
		switch role.Kind {
		case string(Service), string(Batch):
			asked = role.Kind
		case DefaultBatch:
			if asked == "" {
				asked = string(Batch)
			}
		}
	}
	switch asked {
	case "", string(Service):
		e.Kind = Service
		return nil
	case string(Batch):
	default:
		return fault.New(fault.Invalid, "invalid 'token_type' value")
	}
	e.Kind, e.Renewable = Batch, false
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"id", !ask.ID.Empty()},
		{"explicit_max_ttl", ask.ExplicitMax != 0},
		{"num_uses", ask.NumUses != 0},
		{"period", ask.Period != 0},
	} {
		if f.set {
			return fault.New(fault.Invalid, "batch tokens cannot have %q set", f.name)
		}
	}
	return nil
}

const defaultPolicy name.Name = "default"

// policies decides which policies a token has. A token that is created without
// a role that says otherwise has no more than its parent, unless the caller
// has sudo; and root comes from a holder of root only.
func (c *Config) policies(parent *Entry, role *Role, ask Request) ([]name.Name, error) {
	if len(ask.Policies) > c.Policies {
		return nil, c.tooMany()
	}
	noDefault := ask.NoDefault || role != nil && role.NoDefaultPolicy
	var out []name.Name
	switch {
	case role != nil && len(role.Allowed)+len(role.Disallowed)+len(role.AllowedGlob)+len(role.DisallowedGlob) > 0:
		var err error
		if out, err = role.policies(parent, ask, noDefault); err != nil {
			return nil, err
		}
	case len(ask.Policies) == 0:
		out = sorted(parent.Policies, false)
	case !ask.Sudo:
		out = sorted(ask.Policies, false)
		for _, p := range out {
			if !slices.Contains(parent.Policies, p) {
				return nil, fault.New(fault.Invalid, "child policies must be subset of parent")
			}
		}
		out = sorted(out, !noDefault && slices.Contains(parent.Policies, defaultPolicy))
	default:
		out = sorted(ask.Policies, !noDefault)
	}
	if noDefault {
		out = slices.DeleteFunc(out, func(p name.Name) bool { return p == defaultPolicy })
	}
	if c.exceeded(out) {
		return nil, c.tooMany()
	}
	if slices.Contains(out, wrappingPolicy) {
		return nil, fault.New(fault.Invalid, "cannot assign policy %q", wrappingPolicy)
	}
	if slices.Contains(out, name.Root) && !parent.Root() {
		return nil, fault.New(fault.Invalid, "root tokens may not be created without parent token being root")
	}
	return out, nil
}

func (c *Config) tooMany() error {
	return fault.New(fault.Invalid, "a token has at most %d policies", c.Policies)
}

// exceeded reports whether the policies, each of which is in the list once, are
// too many for a token.
func (c *Config) exceeded(list []name.Name) bool {
	return len(list) > c.Policies+1 || len(list) > c.Policies && !slices.Contains(list, defaultPolicy)
}

// sorted returns the policies in order, each once, with default where it is
// asked. Beside root nothing counts, so root stands alone.
func sorted(list []name.Name, withDefault bool) []name.Name {
	out := slices.Clone(list)
	if slices.Contains(out, name.Root) {
		return []name.Name{name.Root}
	}
	if withDefault {
		out = append(out, defaultPolicy)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (r *Role) policies(parent *Entry, ask Request, noDefault bool) ([]name.Name, error) {
	withDefault := !noDefault && !slices.Contains(r.Disallowed, defaultPolicy) && !matchesAny(r.DisallowedGlob, defaultPolicy)
	var out []name.Name
	if len(ask.Policies) > 0 {
		out = sorted(ask.Policies, withDefault)
	}
	if len(r.Allowed)+len(r.AllowedGlob) > 0 {
		allowed := sorted(r.Allowed, withDefault)
		if len(out) == 0 {
			out = allowed
		}
		for _, p := range out {
			if !slices.Contains(allowed, p) && !matchesAny(r.AllowedGlob, p) {
				return nil, fault.New(fault.Invalid, "token policies (%q) must be subset of the role's allowed policies (%q) or glob policies (%q)", out, allowed, r.AllowedGlob)
			}
		}
	} else if len(out) == 0 {
		out = sorted(parent.Policies, withDefault)
	}
	for _, p := range out {
		if slices.Contains(r.Disallowed, p) || matchesAny(r.DisallowedGlob, p) {
			return nil, fault.New(fault.Invalid, "token policy %q is disallowed by this role", p)
		}
	}
	return out, nil
}

func matchesAny(globs []string, n name.Name) bool {
	return slices.ContainsFunc(globs, func(g string) bool { return matches(strings.ToLower(g), string(n)) })
}

// matches reports whether s is glob with any text in the place of each '*'.
func matches(glob, s string) bool {
	head, rest, found := strings.Cut(glob, "*")
	if !found {
		return glob == s
	}
	s, ok := strings.CutPrefix(s, head)
	if !ok {
		return false
	}
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], after
	}
}

// lifetime decides the times of a token.
func (s *Store) lifetime(c *op.Call, e *Entry, role *Role, ask Request, now time.Time) error {
	if ask.ExplicitMax < 0 || ask.Period < 0 || ask.TTL < 0 {
		return fault.New(fault.Invalid, "durations must be positive")
	}
	if ask.Period > 0 && !ask.Sudo {
		return fault.New(fault.Invalid, "root or sudo privileges required to create periodic token")
	}
	e.askedPeriod, e.askedMax = seconds(ask.Period), seconds(ask.ExplicitMax)
	e.Period, e.ExplicitMax = e.askedPeriod, e.askedMax
	if role != nil && e.Kind != Batch {
		if role.ExplicitMax > 0 {
			e.ExplicitMax = lesser(e.askedMax, time.Duration(role.ExplicitMax))
			if e.askedMax > 0 {
				c.Warn("Explicit max TTL specified both during creation call and in role; using the lesser value of %d seconds", int64(e.ExplicitMax/time.Second))
			}
		}
		if role.Period > 0 {
			e.Period = lesser(e.askedPeriod, time.Duration(role.Period))
			if e.askedPeriod > 0 {
				c.Warn("Period specified both during creation call and in role; using the lesser value of %d seconds", int64(e.Period/time.Second))
			}
		}
	}
	usual := ask.TTL
	if e.Root() {
		// A root token that does not end is made by initializing a server, and
		// in no other way.
		e.askedMax = lesser(e.askedMax, s.config.RootTTL)
		e.ExplicitMax = lesser(e.ExplicitMax, s.config.RootTTL)
		if usual == 0 {
			usual = e.ExplicitMax
			if ask.ExplicitMax == 0 {
				c.Warn("A root token lives %s; only that of the server's initialization does not expire", s.config.RootTTL)
			}
		}
	}
	ttl, warnings, err := s.config.within(ask.Bounds).grant(span{usual: usual, period: e.Period, explicitMax: e.ExplicitMax, start: e.Created}, now)
	if err != nil {
		return err
	}
	c.Reply.Warnings = append(c.Reply.Warnings, warnings...)
	e.TTL, e.Granted, e.Expires = ttl, ttl, e.Created.Add(ttl)
	return nil
}

// insert writes a token and what finds it, and returns its text.
func (s *Store) insert(tx storage.Tx, e *Entry, id secret.Text, now time.Time) (secret.Text, error) {
	if e.Kind == Batch {
		return s.sealBatch(e)
	}
	mint := minted(tx)
	text := mint.service
	if e.wrap {
		text = mint.wrapping
	}
	e.ID, e.Accessor, e.due = s.hash(text), mint.accessor, e.Expires
	if !id.Empty() {
		text = id.Reveal()
		e.alias = s.hash(text)
		if err := s.alias(tx, e, now); err != nil {
			return secret.Text{}, err
		}
	}
	tx.Insert(storage.Key{Scope: tokenScope(e.ID), Row: rowEntry}, e.encode())
	tx.Insert(s.accessorKey(e.Accessor), []byte(e.ID+e.Accessor))
	if e.Parent != "" {
		tx.Insert(storage.Key{Scope: childrenScope(e.Parent), Row: e.ID}, []byte{})
	}
	if !e.Expires.IsZero() {
		s.queue.Add(tx, e.Expires, e.ID)
	}
	return secret.New(text), nil
}

// alias makes e the token of a text that root chose, unless another valid one is.
func (s *Store) alias(tx storage.Tx, e *Entry, now time.Time) error {
	key := storage.Key{Scope: tableAlias + e.alias, Row: rowEntry}
	old, err := tx.Get(key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if err == nil {
		at, err := read(tx, string(old))
		if err != nil && !errors.Is(err, errNone) {
			return err
		}
		if err == nil && (at.Expires.IsZero() || now.Before(at.Expires)) {
			return fault.New(fault.Invalid, "cannot create a token with a duplicate ID")
		}
	}
	tx.Put(key, []byte(e.ID))
	return nil
}

// Spec is a token that the server itself gives: to who has logged in, or to
// the owner of a store that was just made. Nothing about it is asked but
// whether it is sound.
type Spec struct {
	DisplayName string
	Path        string // that gave it: "auth/userpass/login/bob"
	Policies    []name.Name
	EntityID    string
	Meta        map[string]string
	TTL         time.Duration // 0 for the usual one
	MaxTTL      time.Duration // 0 for the system's
	Period      time.Duration
	ExplicitMax time.Duration
	NumUses     int
	Batch       bool
	Fixed       bool // cannot be renewed
	BoundCIDRs  []string

	// Forever makes a root token that does not expire, as the one of a
	// server's initialization.
	Forever bool
}

// Issue gives a token of its own, without a parent.
func (s *Store) Issue(ctx context.Context, now time.Time, spec Spec) (op.Grant, error) {
	var grant op.Grant
	err := s.Issuer().Update(ctx, storage.Locks{}, func(tx storage.Tx) (err error) {
		grant, err = s.IssueTx(tx, now, spec)
		return err
	})
	return grant, err
}

// IssueTx is [Store.Issue] in a transaction of an [Issuer].
func (s *Store) IssueTx(tx storage.Tx, now time.Time, spec Spec) (op.Grant, error) {
	now = s.now(now)
	e := &Entry{
		Kind: Service, DisplayName: spec.DisplayName, Path: spec.Path, Policies: sorted(spec.Policies, false), EntityID: spec.EntityID,
		Meta: spec.Meta, Created: now.Truncate(time.Second), NumUses: spec.NumUses, Renewable: !spec.Fixed && !spec.Batch,
		Period: seconds(spec.Period), ExplicitMax: lesser(seconds(spec.ExplicitMax), seconds(spec.MaxTTL)),
	}
	if spec.Batch {
		e.Kind = Batch
	}
	if err := s.config.checkMeta(spec.Meta); err != nil {
		return op.Grant{}, err
	}
	var err error
	if e.BoundCIDRs, err = parseCIDRs(spec.BoundCIDRs); err != nil {
		return op.Grant{}, err
	}
	switch {
	case s.config.exceeded(e.Policies), spec.NumUses < 0, spec.Batch && (spec.NumUses > 0 || e.Period > 0 || e.Root()):
		return op.Grant{}, fault.New(fault.Invalid, "a token cannot be as it is asked")
	case spec.Forever && (!e.Root() || e.NumUses > 0):
		return op.Grant{}, errors.New("token: only a root token can live forever")
	case spec.Forever:
		e.Renewable = false
	default:
		ttl, _, err := s.config.grant(span{usual: spec.TTL, period: e.Period, explicitMax: e.ExplicitMax, start: e.Created}, now)
		if err != nil {
			return op.Grant{}, err
		}
		e.TTL, e.Granted, e.Expires = ttl, ttl, e.Created.Add(ttl)
	}
	e.askedPeriod, e.askedMax = e.Period, e.ExplicitMax
	text, err := s.insert(tx, e, secret.Text{}, now)
	if err != nil {
		return op.Grant{}, fmt.Errorf("issuing a token: %w", err)
	}
	grant := e.grant(now)
	grant.ClientToken = text
	return grant, nil
}

// accessorKey is where the token of an accessor is found.
func (s *Store) accessorKey(accessor string) storage.Key {
	sum := s.barrier.MAC(barrier.ForTokens, []byte("accessor"), []byte(accessor))
	return storage.Key{Scope: accessorScope(sum[0] % buckets), Row: hex.EncodeToString(sum[:16])}
}

func accessorScope(bucket byte) string { return tableAccessor + string(rune(bucket)) }
