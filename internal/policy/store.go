package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/directory"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/fence"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/storage"
)

// MaxPolicies bounds how many policies a Store keeps.
const MaxPolicies = 10_000

// How many ACLs and parsed policies are kept ready.
const (
	maxACLs   = 2048
	maxParsed = 2048
)

// A policy is kept in the scope "p"+name of the core space, in the row
//
//	"h"  format 1 | text
//
// and its name in the directory "policies/".
const (
	row     = "h"
	format1 = 1
	names   = "policies/"
)

// Default is the policy that every token holds unless it was made without.
const Default name.Name = "default"

// Store keeps policies by their names. Make it with [NewStore].
type Store struct {
	config Config
	core   *barrier.Space
	acls   *fence.Cache[string, *ACL]

	// mu guards parsed, the rules of texts. What is in it follows from the
	// text alone and is never wrong, only unused.
	mu     sync.Mutex
	parsed map[name.Name]*Policy
}

// Config bounds the policies of a server. Its zero value is good.
type Config struct {
	MaxBytes int // of a policy's text that is put or asked about; 0 is 64 KiB
}

// NewStore returns the policies in the core space of a barrier.
func NewStore(core *barrier.Space, f *fence.Fence, config Config) *Store {
	if config.MaxBytes <= 0 {
		config.MaxBytes = 64 << 10
	}
	return &Store{config: config, core: core, acls: fence.NewCache[string, *ACL](f, maxACLs), parsed: map[name.Name]*Policy{}}
}

func scope(n name.Name) string { return "p" + string(n) }

// Locks returns what a transaction owns that calls [Store.Put] or [Store.Delete] for n.
func (s *Store) Locks(n name.Name) storage.Locks {
	return storage.Locks{Own: []string{scope(n), directory.Scope(names)}}
}

// ACL returns what the policies of the given names allow together. A name
// under which there is no policy gives nothing. It is answered from a cache
// that forgets what has changed; m is when the request came.
func (s *Store) ACL(ctx context.Context, m fence.Moment, held []name.Name) (*ACL, error) {
	for i := 1; i < len(held); i++ {
		if held[i-1] >= held[i] {
			held = slices.Compact(slices.Sorted(slices.Values(held)))
			break
		}
	}
	of := key(held)
	if a, ok := s.acls.Hit(m, of); ok {
		return a, nil
	}
	return s.acls.Get(ctx, m, of, func(r storage.Reader) (*ACL, error) {
		core := s.core.Over(r)
		policies := make([]*Policy, 0, len(held))
		for _, n := range held {
			if n == name.Root {
				policies = append(policies, &Policy{Name: name.Root})
				continue
			}
			p, err := s.read(core, n)
			if fault.Is(err, fault.NotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			policies = append(policies, p)
		}
		return Compile(policies...), nil
	})
}

// key is a text for each list of names, and no other has the same: before each
// name stands its length, which is a byte as no name is longer than 128.
func key(held []name.Name) string {
	var b [512]byte
	k := b[:0]
	for _, n := range held {
		k = append(append(k, byte(len(n))), n...) //nolint:gosec // at most name.MaxName
	}
	return string(k)
}

// Get returns the policy of the given name, as r sees the core space. That of
// root has no text. The error is [fault.NotFound] where there is none.
func (s *Store) Get(r storage.Reader, n name.Name) (*Policy, error) {
	if n == name.Root {
		return &Policy{Name: name.Root}, nil
	}
	return s.read(r, n)
}

func (s *Store) read(r storage.Reader, n name.Name) (*Policy, error) {
	b, err := r.Get(storage.Key{Scope: scope(n), Row: row})
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, fault.New(fault.NotFound, "")
	case err != nil:
		return nil, fmt.Errorf("reading a policy: %w", err)
	case len(b) == 0:
		return nil, fmt.Errorf("reading a policy: empty row: %w", storage.ErrCorrupt)
	case b[0] != format1:
		return nil, fmt.Errorf("reading a policy of format %d: %w", b[0], storage.ErrNewer)
	}
	text := string(b[1:])
	s.mu.Lock()
	p := s.parsed[n]
	s.mu.Unlock()
	if p != nil && p.Text == text {
		return p, nil
	}
	if p, err = Parse(text); err != nil {
		return nil, fmt.Errorf("reading a policy: %w: %s", storage.ErrCorrupt, fault.Public(err))
	}
	p.Name = n
	s.mu.Lock()
	if len(s.parsed) >= maxParsed {
		clear(s.parsed)
	}
	s.parsed[n] = p
	s.mu.Unlock()
	return p, nil
}

// Exists reports whether there is a policy of the given name, as r sees the
// core space. There is always one of the name root.
func (s *Store) Exists(r storage.Reader, n name.Name) (bool, error) {
	if n == name.Root {
		return true, nil
	}
	_, err := r.Get(storage.Key{Scope: scope(n), Row: row})
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for a policy: %w", err)
	}
	return true, nil
}

// Missing returns those of held under which there is no policy, as r sees the
// core space.
func (s *Store) Missing(r storage.Reader, held []name.Name) ([]name.Name, error) {
	var out []name.Name
	for _, n := range held {
		there, err := s.Exists(r, n)
		if err != nil {
			return nil, err
		}
		if !there {
			out = append(out, n)
		}
	}
	return out, nil
}

// List returns up to limit names of policies beyond after, in order, and
// whether there are more, as r sees the core space. A limit of 0 is none.
// Root, which is not kept, is among them.
func (s *Store) List(r storage.Reader, after name.Name, limit int) (out []name.Name, more bool, err error) {
	kept, more, err := directory.List(r, names, string(after), limit)
	if err != nil {
		return nil, false, fmt.Errorf("listing policies: %w", err)
	}
	for _, n := range kept {
		out = append(out, name.Name(n))
	}
	if name.Root > after && (!more || name.Root < out[len(out)-1]) {
		at, _ := slices.BinarySearch(out, name.Root)
		out = slices.Insert(out, at, name.Root)
		if limit > 0 && len(out) > limit {
			out, more = out[:limit], true
		}
	}
	return out, more, nil
}

// Parse is the function of that name, for a text that is no longer than a
// policy may be here.
func (s *Store) Parse(text string) (*Policy, error) {
	if most := s.config.MaxBytes; len(text) > most {
		return nil, fault.New(fault.Invalid, "a policy has at most %d bytes", most)
	}
	return Parse(text)
}

// Put keeps text as the policy of the given name in a transaction of the core
// space, which owns what [Store.Locks] says. The error is [fault.Invalid] for
// root and for a text that does not parse.
func (s *Store) Put(tx storage.Tx, n name.Name, text string) (p *Policy, err error) {
	if n == name.Root {
		return nil, fault.New(fault.Invalid, "cannot update %q policy", n)
	}
	if p, err = s.Parse(text); err != nil {
		return nil, err
	}
	return p, s.put(tx, n, p)
}

func (s *Store) put(tx storage.Tx, n name.Name, p *Policy) error {
	p.Name = n
	added, err := directory.Add(tx, names, string(n))
	if err != nil {
		return fmt.Errorf("adding a policy's name: %w", err)
	}
	if added {
		count, err := directory.Count(tx, names)
		if err != nil {
			return fmt.Errorf("counting policies: %w", err)
		}
		if count > MaxPolicies {
			return fault.New(fault.Limited, "there are %d policies, which is the most there can be", MaxPolicies)
		}
	}
	tx.Put(storage.Key{Scope: scope(n), Row: row}, append([]byte{format1}, p.Text...))
	return nil
}

// Delete removes the policy of the given name in a transaction of the core
// space, which owns what [Store.Locks] says. Deleting none is not an error;
// deleting root or default is [fault.Invalid].
func (s *Store) Delete(tx storage.Tx, n name.Name) error {
	if n == name.Root || n == Default {
		return fault.New(fault.Invalid, "cannot delete %q policy", n)
	}
	if _, _, err := directory.Remove(tx, names, string(n)); err != nil {
		return fmt.Errorf("removing a policy's name: %w", err)
	}
	tx.Delete(storage.Key{Scope: scope(n), Row: row})
	return nil
}

// EnsureDefaults puts the policy default where there is none.
func (s *Store) EnsureDefaults(ctx context.Context) error {
	err := s.core.Update(ctx, s.Locks(Default), func(tx storage.Tx) error {
		there, err := s.Exists(tx, Default)
		if err != nil || there {
			return err
		}
		p, err := Parse(DefaultText) // which no bound keeps out
		if err != nil {
			return err
		}
		return s.put(tx, Default, p)
	})
	if err != nil {
		return fmt.Errorf("putting the default policy: %w", err)
	}
	return nil
}

// DefaultText is the text of the policy default as a server starts with it.
const DefaultText = `# What every token may do unless it was made without the policy "default".
# This text can be changed; the policy cannot be deleted.

# Look at, renew and give back one's own token.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }

# Ask what one may do, and why something is denied.
path "sys/capabilities-self"         { capabilities = ["update"] }
path "sys/policy-explain"            { capabilities = ["update"] }
path "sys/internal/ui/resultant-acl" { capabilities = ["read"] }

# Read one's own identity.
path "identity/entity/id/{{identity.entity.id}}"     { capabilities = ["read"] }
path "identity/entity/name/{{identity.entity.name}}" { capabilities = ["read"] }

# Follow leases whose ids one knows.
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/renew"  { capabilities = ["update"] }
path "sys/renew"         { capabilities = ["update"] }
path "sys/renew/*"       { capabilities = ["update"] }

# Keep things in one's own cubbyhole, which goes with the token.
path "cubbyhole/*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }

# Wrap something, and look into and take out what one has the token of.
path "sys/wrapping/wrap"   { capabilities = ["update"] }
path "sys/wrapping/lookup" { capabilities = ["update"] }
path "sys/wrapping/unwrap" { capabilities = ["update"] }

# Hash, which needs no secret of the server.
path "sys/tools/hash"   { capabilities = ["update"] }
path "sys/tools/hash/*" { capabilities = ["update"] }

# Sign in elsewhere by this server.
path "identity/oidc/provider/+/authorize" { capabilities = ["read", "update"] }
`
