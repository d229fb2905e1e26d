package seal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/secret"
)

// Wrap returns the stanza of a Sealer that has a key for root. Its body is
// extra and then a box of root (package aead), which is bound to kind, args,
// extra and binding, and commits to key: who tries several keys learns which
// one was the right one.
func Wrap(kind string, args []string, extra []byte, key, root secret.Bytes, binding []byte) (Stanza, error) {
	if root.Len() != aead.KeySize {
		return Stanza{}, fmt.Errorf("seal: a root key has %d bytes, not %d", aead.KeySize, root.Len())
	}
	s := Stanza{Kind: kind, Args: args}
	err := root.Use(func(plain []byte) error {
		box := aead.NewBox(key).Seal(plain, s.aad(extra, binding))
		s.Body = append(append(make([]byte, 0, len(extra)+len(box)), extra...), box...)
		return nil
	})
	return s, err
}

// Unwrap returns what [Wrap] was given with an extra of that many bytes. An
// error wraps [ErrWrongKey] or [ErrDamaged].
func (s Stanza) Unwrap(extra int, key secret.Bytes, binding []byte) (secret.Bytes, error) {
	if extra < 0 || extra > len(s.Body) {
		return secret.Bytes{}, ErrDamaged
	}
	plain, err := aead.NewBox(key).Open(s.Body[extra:], s.aad(s.Body[:extra], binding))
	switch {
	case errors.Is(err, aead.ErrWrongKey):
		return secret.Bytes{}, ErrWrongKey
	case err != nil || len(plain) != aead.KeySize:
		return secret.Bytes{}, ErrDamaged
	}
	return secret.NewBytes(plain), nil
}

func (s Stanza) aad(extra, binding []byte) aead.AAD {
	a := aead.For("seal slot").Add(aead.FieldBinding, binding).Str(aead.FieldSlot, s.Kind)
	for _, arg := range s.Args {
		a = a.Str(aead.FieldSlot, arg)
	}
	return a.Add(aead.FieldSlot, extra)
}

// Each calls open with the stanzas of kind until one opens. Without such a
// stanza it returns [ErrNotMine]; where none opens, the first error, but one
// that says more than [ErrWrongKey] before one that does not.
func Each(kind string, stanzas []Stanza, open func(Stanza) (secret.Bytes, error)) (secret.Bytes, error) {
	first := ErrNotMine
	for _, s := range stanzas {
		if s.Kind != kind {
			continue
		}
		root, err := open(s)
		if err == nil {
			return root, nil
		}
		if errors.Is(first, ErrNotMine) || errors.Is(first, ErrWrongKey) && !errors.Is(err, ErrWrongKey) {
			first = err
		}
	}
	return secret.Bytes{}, first
}

// ReadPrivate returns the content of a regular file of at most limit bytes
// that nobody but its owner may read or write. The caller wipes it.
func ReadPrivate(path string, limit int) (secret.Bytes, error) {
	f, err := os.Open(path) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return secret.Bytes{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return secret.Bytes{}, err
	}
	if !info.Mode().IsRegular() {
		return secret.Bytes{}, fmt.Errorf("%s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" { // whose files have no such mode
		return secret.Bytes{}, fmt.Errorf("%s has mode %04o: others than its owner may use it; chmod it to 0600", path, mode)
	}
	b := make([]byte, limit+1)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(b)
		return secret.Bytes{}, fmt.Errorf("reading %s: %w", path, err)
	}
	if n > limit {
		clear(b)
		return secret.Bytes{}, fmt.Errorf("%s has more than %d bytes: %w", path, limit, ErrDamaged)
	}
	return secret.NewBytes(b[:n]), nil
}
