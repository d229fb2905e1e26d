package token

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/wire"
)

// The kinds that a [Role] may give. Where a default is named, the creating
// call may choose another.
const (
	DefaultService = "default-service"
	DefaultBatch   = "default-batch"
)

// Role constrains the tokens that are created under its name.
type Role struct {
	Name            name.Name     `json:"name"`
	Allowed         []name.Name   `json:"allowed,omitempty"`         // policies; none leaves the parent's
	Disallowed      []name.Name   `json:"disallowed,omitempty"`      // policies
	AllowedGlob     []string      `json:"allowed_glob,omitempty"`    // each with '*' for any text
	DisallowedGlob  []string      `json:"disallowed_glob,omitempty"` // each with '*' for any text
	Orphan          bool          `json:"orphan,omitempty"`
	Renewable       bool          `json:"renewable"`
	Period          wire.Duration `json:"period"`
	ExplicitMax     wire.Duration `json:"explicit_max"`
	PathSuffix      string        `json:"path_suffix,omitempty"`
	EntityAliases   []string      `json:"entity_aliases,omitempty"`
	BoundCIDRs      []string      `json:"bound_cidrs,omitempty"`
	Kind            string        `json:"kind"` // [DefaultService], [DefaultBatch], or "service" or "batch"
	NumUses         int           `json:"num_uses,omitempty"`
	NoDefaultPolicy bool          `json:"no_default_policy,omitempty"`
}

const (
	maxRoles = 10_000
	maxGlob  = 256 // bytes
	maxItems = 100 // of a list in a role
)

// Validate reports what is wrong with r, as a fault of kind Invalid.
func (r *Role) Validate() error {
	for _, list := range [][]name.Name{r.Allowed, r.Disallowed} {
		if len(list) > maxItems {
			return fault.New(fault.Invalid, "a role has at most %d policies in a list", maxItems)
		}
		if slices.Contains(list, name.Root) {
			return fault.New(fault.Invalid, "the root policy cannot be assigned")
		}
	}
	for _, list := range [][]string{r.AllowedGlob, r.DisallowedGlob, r.EntityAliases} {
		if len(list) > maxItems {
			return fault.New(fault.Invalid, "a role has at most %d items in a list", maxItems)
		}
		for _, g := range list {
			if len(g) > maxGlob || name.CheckText(g) != nil {
				return fault.New(fault.Invalid, "a pattern in a role is plain text of at most %d bytes", maxGlob)
			}
		}
	}
	if len(r.PathSuffix) > name.MaxName || strings.ContainsFunc(r.PathSuffix, func(c rune) bool {
		return c > 0x7f || !isDigit(byte(c)) && !strings.ContainsRune("_-.", c) //nolint:gosec // is ASCII
	}) {
		return fault.New(fault.Invalid, "given role path suffix contains invalid characters; must match letters, digits, '_', '-' and '.'")
	}
	if _, err := parseCIDRs(r.BoundCIDRs); err != nil {
		return err
	}
	if r.NumUses < 0 {
		return fault.New(fault.Invalid, "'token_num_uses' cannot be negative")
	}
	switch r.Kind {
	case "":
		r.Kind = DefaultService
	case DefaultService, DefaultBatch, string(Service), string(Batch):
	default:
		return fault.New(fault.Invalid, "invalid 'token_type' value")
	}
	if r.Kind == string(Batch) {
		switch {
		case !r.Orphan:
			return fault.New(fault.Invalid, "'token_type' cannot be \"batch\" when role is set to generate non-orphan tokens")
		case r.Renewable:
			return fault.New(fault.Invalid, "'token_type' cannot be \"batch\" when role is set to generate renewable tokens")
		case r.Period != 0:
			return fault.New(fault.Invalid, "'token_type' cannot be \"batch\" when role is set to generate periodic tokens")
		case r.ExplicitMax != 0:
			return fault.New(fault.Invalid, "'token_type' cannot be \"batch\" when role is set to generate tokens with an explicit max TTL")
		case r.NumUses != 0:
			return fault.New(fault.Invalid, "'token_type' cannot be \"batch\" when role is set to generate tokens with limited use count")
		}
	}
	return nil
}

// parseCIDRs reads networks and addresses, which are networks of one.
func parseCIDRs(list []string) ([]netip.Prefix, error) {
	if len(list) > maxItems {
		return nil, fault.New(fault.Invalid, "at most %d networks can be bound", maxItems)
	}
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(s); err == nil && a.Zone() == "" {
				p, err = a.Unmap().Prefix(a.Unmap().BitLen())
			}
		}
		if err != nil || !p.IsValid() || p.Addr().Is4In6() { // a zone may hold anything, even "/0"
			return nil, fault.New(fault.Invalid, "a bound network is an address or a CIDR such as 10.0.0.0/8")
		}
		if p = p.Masked(); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out, nil
}

// narrow returns those of inner that lie in outer, cut down to it. It never
// returns an address that is not in both; no outer is everywhere.
func narrow(inner, outer []netip.Prefix) []netip.Prefix {
	if len(outer) == 0 || len(inner) == 0 {
		return append(slices.Clone(inner), outer...) // one of them is empty
	}
	var out []netip.Prefix
	for _, a := range inner {
		for _, b := range outer {
			if !a.Overlaps(b) {
				continue
			}
			p := a
			if b.Bits() > a.Bits() {
				p = b
			}
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

func (s *Store) roleKey(n name.Name) storage.Key {
	sum := s.barrier.MAC(barrier.ForTokens, []byte("role"), []byte(n))
	return storage.Key{Scope: tableRole, Row: hex.EncodeToString(sum[:20])}
}

// RoleLocks returns the scopes that a transaction on roles owns.
func RoleLocks() storage.Locks { return storage.Locks{Own: []string{tableRole}} }

// RoleTx returns the role n, nil if there is none.
func (s *Store) RoleTx(r storage.Reader, n name.Name) (*Role, error) {
	b, err := r.Get(s.roleKey(n))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil //nolint:nilnil // is what Go reads like for a map
	}
	if err != nil {
		return nil, err
	}
	var role Role
	if err := json.Unmarshal(b, &role); err != nil {
		return nil, fmt.Errorf("reading a role: %w", err)
	}
	return &role, nil
}

// PutRole keeps a role, in a transaction that owns [RoleLocks].
func (s *Store) PutRole(tx storage.Tx, role *Role) error {
	if err := role.Validate(); err != nil {
		return err
	}
	role.Period = wire.Duration(seconds(time.Duration(role.Period)))
	role.ExplicitMax = wire.Duration(seconds(time.Duration(role.ExplicitMax)))
	b, err := json.Marshal(role)
	if err != nil {
		return fmt.Errorf("encoding a role: %w", err)
	}
	tx.Put(s.roleKey(role.Name), b)
	return nil
}

// DeleteRole removes a role, in a transaction that owns [RoleLocks].
func (s *Store) DeleteRole(tx storage.Tx, n name.Name) { tx.Delete(s.roleKey(n)) }

// Role returns the role n, or a fault of kind NotFound.
func (s *Store) Role(ctx context.Context, n name.Name) (role *Role, err error) {
	err = s.space.View(ctx, func(r storage.Reader) (err error) {
		role, err = s.RoleTx(r, n)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading a role: %w", err)
	}
	if role == nil {
		return nil, fault.New(fault.NotFound, "")
	}
	return role, nil
}

// Roles returns the names of all roles, in order.
func (s *Store) Roles(ctx context.Context) ([]name.Name, error) {
	var names []name.Name
	err := s.space.View(ctx, func(r storage.Reader) error {
		for after, more := "", true; more && len(names) < maxRoles; {
			var items []storage.Item
			var err error
			if items, more, err = r.Scan(tableRole, after, "", 500); err != nil {
				return err
			}
			for _, item := range items {
				var role Role
				if err := json.Unmarshal(item.Value, &role); err != nil {
					return fmt.Errorf("reading a role: %w", err)
				}
				names, after = append(names, role.Name), item.Row
			}
		}
		return nil
	})
	slices.Sort(names)
	return names, err
}
