// Package passphrase seals the root key under a passphrase that a person types.
//
// The passphrase is stretched by Argon2id, or by PBKDF2 where the program runs
// in FIPS 140 mode. Its parameters are the stanza's arguments.
package passphrase

import (
	"context"
	"crypto/fips140"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/crypto/argon2"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
)

// Kind names the stanzas of this package.
const Kind = "passphrase"

// The parameters of new stanzas:
// https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html
const (
	argonName    = "argon2id"
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1
	pbkdf2Name   = "pbkdf2-hmac-sha256"
	pbkdf2Rounds = 600_000
	saltSize     = 16
)

// The bounds of parameters that are read: a stanza that was tampered with can
// make a server slow, and not more.
const (
	maxMemory  = 1 << 20 // KiB
	maxTime    = 64
	maxThreads = 16
	maxRounds  = 100_000_000
)

// Config says where the passphrase comes from.
type Config struct {
	// Passphrase asks for it. It is called each time that it is needed.
	Passphrase func(context.Context) (secret.Text, error)
}

// Sealer is a [seal.Sealer]. Make it with [New].
type Sealer struct {
	ask func(context.Context) (secret.Text, error)
}

var _ seal.Sealer = (*Sealer)(nil)

// New returns a Sealer.
func New(c Config) *Sealer { return &Sealer{c.Passphrase} }

func (s *Sealer) passphrase(ctx context.Context) (secret.Text, error) {
	if s.ask == nil {
		return secret.Text{}, errors.New("no passphrase at hand")
	}
	p, err := s.ask(ctx)
	if err != nil {
		return secret.Text{}, fmt.Errorf("asking for the passphrase: %w", err)
	}
	if p.Empty() {
		return secret.Text{}, errors.New("the passphrase is empty")
	}
	return p, nil
}

// Seal implements [seal.Sealer].
func (s *Sealer) Seal(ctx context.Context, root secret.Bytes, binding []byte) (seal.Stanza, error) {
	p, err := s.passphrase(ctx)
	if err != nil {
		return seal.Stanza{}, err
	}
	salt := make([]byte, saltSize)
	rand.Read(salt)
	args := []string{argonName, strconv.Itoa(argonMemory), strconv.Itoa(argonTime), strconv.Itoa(argonThreads), hex.EncodeToString(salt)}
	if fips140.Enabled() {
		args = []string{pbkdf2Name, strconv.Itoa(pbkdf2Rounds), hex.EncodeToString(salt)}
	}
	key, err := stretch(p, args)
	if err != nil {
		return seal.Stanza{}, err
	}
	defer key.Wipe()
	return seal.Wrap(Kind, args, nil, key, root, binding)
}

// Unseal implements [seal.Sealer].
func (s *Sealer) Unseal(ctx context.Context, stanzas []seal.Stanza, binding []byte) (secret.Bytes, error) {
	var p secret.Text
	return seal.Each(Kind, stanzas, func(st seal.Stanza) (_ secret.Bytes, err error) {
		if p.Empty() {
			if p, err = s.passphrase(ctx); err != nil {
				return secret.Bytes{}, err
			}
		}
		key, err := stretch(p, st.Args)
		if err != nil {
			return secret.Bytes{}, err
		}
		defer key.Wipe()
		root, err := st.Unwrap(0, key, binding)
		if err != nil {
			return secret.Bytes{}, fmt.Errorf("opening the root key with the passphrase: %w", err)
		}
		return root, nil
	})
}

// stretch makes a key of a passphrase by the parameters in args.
func stretch(p secret.Text, args []string) (secret.Bytes, error) {
	damaged := fmt.Errorf("parameters of the passphrase: %w", seal.ErrDamaged)
	number := func(at int, most uint32) uint32 {
		n, err := strconv.ParseUint(args[at], 10, 32)
		if err != nil || n > uint64(most) {
			return 0
		}
		return uint32(n)
	}
	if len(args) < 2 {
		return secret.Bytes{}, damaged
	}
	salt, err := hex.DecodeString(args[len(args)-1])
	if err != nil || len(salt) != saltSize {
		return secret.Bytes{}, damaged
	}
	switch {
	case args[0] == argonName && len(args) == 5:
		memory, time, threads := number(1, maxMemory), number(2, maxTime), number(3, maxThreads)
		if memory < 8 || time == 0 || threads == 0 {
			return secret.Bytes{}, damaged
		}
		if fips140.Enabled() {
			return secret.Bytes{}, errors.New("the passphrase was set outside of FIPS 140 mode, by Argon2id: open the store by another slot and set it anew")
		}
		return secret.NewBytes(argon2.IDKey([]byte(p.Reveal()), salt, time, memory, uint8(threads), aead.KeySize)), nil //nolint:gosec // G115: at most maxThreads
	case args[0] == pbkdf2Name && len(args) == 3:
		rounds := number(1, maxRounds)
		if rounds == 0 {
			return secret.Bytes{}, damaged
		}
		key, err := pbkdf2.Key(sha256.New, p.Reveal(), salt, int(rounds), aead.KeySize)
		if err != nil {
			return secret.Bytes{}, fmt.Errorf("stretching the passphrase: %w", err)
		}
		return secret.NewBytes(key), nil
	}
	return secret.Bytes{}, damaged
}
