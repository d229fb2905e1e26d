package token

import (
	"encoding/hex"
	"errors"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/storage"
)

// CubbyScope returns the scope of the space of tokens in which the cubbyhole
// of the token id is kept. What is in it goes with the token.
func CubbyScope(id string) string { return tableCubby + id }

// CubbyLocks returns the scopes of a transaction that changes the cubbyhole of
// the token id.
func CubbyLocks(id string) storage.Locks {
	return storage.Locks{Own: []string{CubbyScope(id)}, Join: []string{tokenScope(id)}}
}

// CubbyRow returns a keyed hash of a path in the cubbyhole of the token id,
// for a row.
func (s *Store) CubbyRow(id, path string) string {
	sum := s.barrier.MAC(barrier.ForTokens, []byte("cubbyhole"), []byte(id), []byte(path))
	return hex.EncodeToString(sum[:16])
}

// Check reports a fault of kind Unauthenticated where the token id has ended,
// so that nothing is put into a cubbyhole that is being removed.
func (s *Store) Check(r storage.Reader, id string) error {
	e, err := read(r, id)
	if errors.Is(err, errNone) || err == nil && e.state == released {
		return denied()
	}
	return err
}
