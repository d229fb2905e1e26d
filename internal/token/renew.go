package token

import (
	"errors"
	"time"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// Renew prolongs the life of the token id by increment, or as it was granted
// last where that is 0, within the bounds of the mount, and puts it into the reply of c; the text, which may
// be empty, is answered as it is. It runs in a transaction of [Store.Space].
func (s *Store) Renew(tx storage.Tx, c *op.Call, id string, text secret.Text, increment time.Duration, bounds Bounds) error {
	now := s.now(c.Time)
	e, err := s.renewable(tx, c, id, now)
	if err != nil {
		return err
	}
	if !e.Renewable || e.Expires.IsZero() {
		return fault.New(fault.Invalid, "lease is not renewable")
	}
	period, explicit := e.Period, e.ExplicitMax
	if e.Role != "" {
		role, err := s.RoleTx(tx, e.Role)
		if err != nil {
			return err
		}
		if role == nil {
			return fault.New(fault.Invalid, "original token role %q could not be found, not renewing", e.Role)
		}
		period, explicit = lesser(e.askedPeriod, time.Duration(role.Period)), lesser(e.askedMax, time.Duration(role.ExplicitMax))
	}
	ttl, warnings, err := s.config.within(bounds).grant(span{increment: increment, usual: e.Granted, period: period, explicitMax: explicit, start: e.Created}, now)
	if err != nil {
		return err
	}
	e.Granted, e.Renewed, e.Expires = ttl, now, now.Truncate(time.Second).Add(ttl)
	if e.Expires.Before(e.due) {
		s.queue.Add(tx, e.Expires, e.ID)
		e.due = e.Expires
	}
	write(tx, e)
	c.Reply.Warnings = append(c.Reply.Warnings, warnings...)
	grant := e.grant(now)
	grant.ClientToken = text
	c.Reply.Auth = &grant
	return nil
}

// renewable returns the valid token id. That of the caller itself was found
// valid with its ancestors when the request came, so they are left alone.
func (s *Store) renewable(tx storage.Tx, c *op.Call, id string, now time.Time) (*Entry, error) {
	if id != c.Caller.TokenID {
		return s.valid(tx, id, now)
	}
	e, err := read(tx, id)
	if errors.Is(err, errNone) || err == nil && (e.state == released || !e.Expires.IsZero() && !now.Before(e.Expires)) {
		return nil, denied()
	}
	return e, err
}

// valid returns the token id if it and its ancestors are valid at now, and a
// fault of kind Unauthenticated if not. One that has no use left is not, but to
// the request that took the last.
func (s *Store) valid(r storage.Reader, id string, now time.Time) (*Entry, error) {
	e, err := s.standing(r, id, now)
	if err == nil && e.state == spent {
		return nil, denied()
	}
	return e, err
}

// standing is [Store.valid] for the request that uses the token.
func (s *Store) standing(r storage.Reader, id string, now time.Time) (*Entry, error) {
	l, err := s.readLine(r, lookup{key: id})
	if errors.Is(err, errNone) {
		return nil, denied()
	}
	if err != nil {
		return nil, err
	}
	if !l.alive(now) || l.entry.state == released {
		return nil, denied()
	}
	return l.entry, nil
}
