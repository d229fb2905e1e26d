package token

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/fence"
	"rotunda.dev/rotunda/internal/secret"
)

// batchUse binds what is encrypted to what it is.
func batchUse() aead.AAD { return aead.For("batch token") }

// sealBatch returns the text of a batch token, which holds all that is known of it.
func (s *Store) sealBatch(e *Entry) (secret.Text, error) {
	sealed := s.batch.Seal(nil, e.encode(), batchUse())
	if len(sealed) > maxSealed {
		return secret.Text{}, fault.New(fault.Invalid, "a batch token with so many policies, networks and metadata would be too long")
	}
	return secret.New(prefixBatch + base64.RawURLEncoding.EncodeToString(sealed)), nil
}

// openBatch reads what sealBatch wrote, or returns errNone.
func (s *Store) openBatch(text string) (*Entry, error) {
	if classify(text) != batch {
		return nil, errNone
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text[len(prefixBatch):])
	if err != nil {
		return nil, errNone
	}
	plain, err := s.batch.Open(nil, sealed, batchUse())
	if err != nil {
		return nil, errNone
	}
	e, err := decode(plain)
	if err != nil {
		return nil, fmt.Errorf("reading a batch token: %w", err)
	}
	if e.Kind != Batch || e.Expires.IsZero() {
		return nil, errNone
	}
	return e, nil
}

func (s *Store) findBatch(ctx context.Context, m fence.Moment, now time.Time, text string) (*Entry, error) {
	e, err := s.openBatch(text)
	if err != nil || !now.Before(e.Expires) {
		return nil, denied()
	}
	floor, err := s.floor(ctx, m)
	if err != nil {
		return nil, err
	}
	if !e.Created.After(floor) {
		return nil, denied()
	}
	if e.Parent != "" {
		l, err := s.line(ctx, m, lookup{key: e.Parent})
		if err != nil {
			return nil, err
		}
		if !l.alive(now) || l.entry.state != live {
			return nil, denied()
		}
	}
	return e, nil
}
