// Package age seals the root key to people who hold age identities
// (https://age-encryption.org): a recovery slot that is opened with a file
// from a safe, and needs no secret on the server.
package age

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	filippo "filippo.io/age"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
)

// Kind names the stanzas of this package.
const Kind = "age"

// Config says who can open, and with what.
type Config struct {
	// Recipients are "age1…" or "age1pq1…", any one of whom can open. They are
	// needed for sealing, and become the stanza's arguments.
	Recipients []string

	// IdentityFile holds identities, one a line, and is needed for opening. No
	// one but its owner may read it.
	IdentityFile string
}

// Sealer is a [seal.Sealer]. Make it with [New].
type Sealer struct{ c Config }

var _ seal.Sealer = (*Sealer)(nil)

// New returns a Sealer.
func New(c Config) *Sealer { return &Sealer{c} }

// The bounds of what is read.
const (
	maxIdentities = 64 << 10
	maxSealed     = 60 << 10
)

// Seal implements [seal.Sealer]. The body begins with the length, in two
// bytes, of an age file that holds the slot's key, and that file.
func (s *Sealer) Seal(_ context.Context, root secret.Bytes, binding []byte) (seal.Stanza, error) {
	if len(s.c.Recipients) == 0 {
		return seal.Stanza{}, errors.New("no age recipients to seal to")
	}
	recipients, err := filippo.ParseRecipients(strings.NewReader(strings.Join(s.c.Recipients, "\n")))
	if err != nil {
		return seal.Stanza{}, fmt.Errorf("reading the age recipients: %w", err)
	}
	key := secret.NewBytes(aead.NewKey())
	defer key.Wipe()
	var file bytes.Buffer
	w, err := filippo.Encrypt(&file, recipients...)
	if err != nil {
		return seal.Stanza{}, fmt.Errorf("sealing to the age recipients: %w", err)
	}
	err = key.Use(func(plain []byte) error {
		_, err := w.Write(plain)
		return err
	})
	if err := errors.Join(err, w.Close()); err != nil {
		return seal.Stanza{}, fmt.Errorf("sealing to the age recipients: %w", err)
	}
	if file.Len() > maxSealed {
		return seal.Stanza{}, fmt.Errorf("%d age recipients are too many", len(recipients))
	}
	extra := append(binary.BigEndian.AppendUint16(nil, uint16(file.Len())), file.Bytes()...) //nolint:gosec // G115: at most maxSealed
	return seal.Wrap(Kind, s.c.Recipients, extra, key, root, binding)
}

// Unseal implements [seal.Sealer]. Without an identity file no stanza is its own.
func (s *Sealer) Unseal(_ context.Context, stanzas []seal.Stanza, binding []byte) (secret.Bytes, error) {
	if s.c.IdentityFile == "" {
		return secret.Bytes{}, fmt.Errorf("no age identity file at hand: %w", seal.ErrNotMine)
	}
	var identities []filippo.Identity
	return seal.Each(Kind, stanzas, func(st seal.Stanza) (_ secret.Bytes, err error) {
		if identities == nil {
			if identities, err = s.identities(); err != nil {
				return secret.Bytes{}, err
			}
		}
		root, err := open(st, identities, binding)
		if err != nil {
			return secret.Bytes{}, fmt.Errorf("opening the root key with %s: %w", s.c.IdentityFile, err)
		}
		return root, nil
	})
}

func (s *Sealer) identities() (found []filippo.Identity, err error) {
	file, err := seal.ReadPrivate(s.c.IdentityFile, maxIdentities)
	if err != nil {
		return nil, fmt.Errorf("reading the age identities: %w", err)
	}
	defer file.Wipe()
	err = file.Use(func(plain []byte) error {
		found, err = filippo.ParseIdentities(bytes.NewReader(plain))
		return err
	})
	if err != nil {
		// What age says of a line may hold the line.
		return nil, fmt.Errorf("%s holds no age identities: %w", s.c.IdentityFile, seal.ErrDamaged)
	}
	return found, nil
}

func open(st seal.Stanza, identities []filippo.Identity, binding []byte) (secret.Bytes, error) {
	if len(st.Body) < 2 {
		return secret.Bytes{}, seal.ErrDamaged
	}
	end := 2 + int(binary.BigEndian.Uint16(st.Body))
	if end > len(st.Body) {
		return secret.Bytes{}, seal.ErrDamaged
	}
	r, err := filippo.Decrypt(bytes.NewReader(st.Body[2:end]), identities...)
	if _, ok := errors.AsType[*filippo.NoIdentityMatchError](err); ok {
		return secret.Bytes{}, seal.ErrWrongKey
	}
	if err != nil {
		return secret.Bytes{}, seal.ErrDamaged
	}
	plain, err := io.ReadAll(io.LimitReader(r, aead.KeySize+1))
	key := secret.NewBytes(plain)
	defer key.Wipe()
	if err != nil || len(plain) != aead.KeySize {
		return secret.Bytes{}, seal.ErrDamaged
	}
	return st.Unwrap(end, key, binding)
}
