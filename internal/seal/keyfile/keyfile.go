// Package keyfile seals the root key under a key that is kept in a file, apart
// from the data: a server that can read the file unseals by itself.
//
// The file is 32 random bytes, and nobody but its owner may read it.
package keyfile

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/durable"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
)

// Kind names the stanzas of this package.
const Kind = "keyfile"

// Config says where the key is.
type Config struct {
	Path string // required
}

// Sealer is a [seal.Sealer]. Make it with [New].
type Sealer struct{ path string }

var _ seal.Sealer = (*Sealer)(nil)

// New returns a Sealer that reads the key file each time that it needs it.
func New(c Config) *Sealer { return &Sealer{c.Path} }

// Create makes a key file, durable when it returns nil. It never replaces a
// file: an error then wraps [os.ErrExist].
func Create(path string) (err error) {
	key := aead.NewKey()
	defer clear(key)
	f, err := os.CreateTemp(filepath.Dir(path), draft(path)+"*") // for its owner only
	if err != nil {
		return fmt.Errorf("creating the key file: %w", err)
	}
	_, err = f.Write(key)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing the key file: %w", errors.Join(err, os.Remove(f.Name())))
	}
	// It gets its name when it is complete, so no crash leaves half a key.
	err = os.Link(f.Name(), path)
	if _, looked := os.Lstat(path); looked == nil && errors.Is(err, fs.ErrNotExist) {
		err = fs.ErrExist // another made it at the same moment, and has swept
	}
	if err != nil {
		err = fmt.Errorf("creating the key file: %w", err)
	}
	if swept := errors.Join(sweep(path), durable.SyncDir(filepath.Dir(path))); swept != nil {
		err = errors.Join(err, fmt.Errorf("writing the key file: %w", swept))
	}
	return err
}

// draft is how the names of key files begin that are being made.
func draft(path string) string { return "." + filepath.Base(path) + ".new-" }

// sweep removes what a crash has left of making the file, copies of its key among it.
func sweep(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), draft(path)) {
			continue
		}
		if err := os.Remove(filepath.Join(filepath.Dir(path), e.Name())); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *Sealer) read() (key secret.Bytes, id string, err error) {
	key, err = seal.ReadPrivate(s.path, aead.KeySize)
	if err != nil {
		return secret.Bytes{}, "", fmt.Errorf("reading the key file: %w", err)
	}
	if key.Len() != aead.KeySize {
		key.Wipe()
		return secret.Bytes{}, "", fmt.Errorf("%s is not a key file: it has not %d bytes: %w", s.path, aead.KeySize, seal.ErrDamaged)
	}
	return key, hex.EncodeToString(aead.Expand(key, "rotunda key file id", 8)), nil
}

// Seal implements [seal.Sealer]. The stanza's argument is the key's id, which tells nothing of the key.
func (s *Sealer) Seal(_ context.Context, root secret.Bytes, binding []byte) (seal.Stanza, error) {
	key, id, err := s.read()
	if err != nil {
		return seal.Stanza{}, err
	}
	defer key.Wipe()
	return seal.Wrap(Kind, []string{id}, nil, key, root, binding)
}

// Unseal implements [seal.Sealer].
func (s *Sealer) Unseal(_ context.Context, stanzas []seal.Stanza, binding []byte) (secret.Bytes, error) {
	var (
		key secret.Bytes
		id  string
	)
	defer func() { key.Wipe() }()
	return seal.Each(Kind, stanzas, func(st seal.Stanza) (root secret.Bytes, err error) {
		if key.Len() == 0 {
			if key, id, err = s.read(); err != nil {
				return secret.Bytes{}, err
			}
		}
		root, err = st.Unwrap(0, key, binding)
		switch {
		case errors.Is(err, seal.ErrWrongKey) && len(st.Args) == 1:
			return secret.Bytes{}, fmt.Errorf("the store is sealed by key %s, and %s holds key %s: %w", st.Args[0], s.path, id, err)
		case err != nil:
			return secret.Bytes{}, fmt.Errorf("opening the root key with %s: %w", s.path, err)
		}
		return root, nil
	})
}
