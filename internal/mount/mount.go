// Package mount keeps which engine answers at which path.
//
// The table is one row of the core space, so that two mounts that would stand
// in each other's way cannot both be made:
//
//	scope "m", row "table": JSON
//	  {"format":1,"mounts":[{"id":…,"path":"secret/","kind":"kv",…}, …]}
//	scope "m", row "moves": JSON, the last [MaxMoves], oldest first
//	  {"format":1,"moves":[{"id":…,"from":"a/","to":"b/"}, …]}
package mount

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/wire"
)

// Scope is the scope of the table in the core space.
const Scope = "m"

// The bounds of the table, which is one row, and of what is said of a mount.
const (
	MaxMounts      = 1000
	MaxDescription = 1024 // bytes
	MaxOptions     = 64
	MaxOption      = 512 // bytes of a name or a value
	MaxMoves       = 64  // that are remembered

	maxTable = 900 << 10 // bytes of the row, which grows when it is sealed
)

const (
	row      = "table"
	rowMoves = "moves"
	format   = 1
)

// Class says what a mount is for, as its path does: "auth/…" is an auth
// method, "sys/" the system, everything else a secret engine.
type Class string

// The classes of mounts.
const (
	Secrets Class = "secret"
	Methods Class = "auth"
	System  Class = "system"
)

// Config is what an operator can tune of a mount. Zero means the system's default.
type Config struct {
	DefaultTTL        wire.Duration `json:"default_lease_ttl"`
	MaxTTL            wire.Duration `json:"max_lease_ttl"`
	ForceNoCache      bool          `json:"force_no_cache"`
	ListingVisibility string        `json:"listing_visibility,omitzero"` // "", "hidden" or "unauth"
	ListFilter        bool          `json:"list_filter,omitzero"`        // lists show only what the caller may see
}

// Entry is one mount. Its zero State is open.
type Entry struct {
	ID          string            `json:"id"` // of its space: 32 hex digits; stays when the mount moves
	Path        name.Path         `json:"path"`
	Kind        string            `json:"kind"`
	Accessor    string            `json:"accessor"`
	UUID        string            `json:"uuid"`
	Description string            `json:"description,omitzero"`
	Options     map[string]string `json:"options,omitempty"`
	Config      Config            `json:"config"`
	Local       bool              `json:"local,omitzero"`
	SealWrap    bool              `json:"seal_wrap,omitzero"`
	External    bool              `json:"external_entropy_access,omitzero"`
	Fixed       bool              `json:"fixed,omitzero"`   // part of the server: cannot be moved or removed
	Closing     bool              `json:"closing,omitzero"` // being removed: answers nothing
}

// Class returns what e is for.
func (e *Entry) Class() Class {
	switch {
	case strings.HasPrefix(string(e.Path), "auth/"):
		return Methods
	case e.Path == "sys/":
		return System
	}
	return Secrets
}

// NewEntry returns an entry with fresh ids for a mount of kind at path.
func NewEntry(path name.Path, kind string) Entry {
	id := barrier.NewSpaceID()
	accessor := make([]byte, 4)
	_, _ = rand.Read(accessor) // never fails
	prefix := kind
	if strings.HasPrefix(string(path), "auth/") {
		prefix = "auth_" + kind
	}
	u := id.String()
	return Entry{
		ID: u, Path: path, Kind: kind,
		Accessor: prefix + "_" + hex.EncodeToString(accessor),
		UUID:     fmt.Sprintf("%s-%s-%s-%s-%s", u[:8], u[8:12], u[12:16], u[16:20], u[20:]),
	}
}

type table struct {
	Format int     `json:"format"`
	Mounts []Entry `json:"mounts"`
}

// Read returns the mounts, in the order of their paths. r reads the core space.
func Read(r storage.Reader) ([]Entry, error) {
	b, err := r.Get(storage.Key{Scope: Scope, Row: row})
	if errors.Is(err, storage.ErrNotFound) {
		return []Entry{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	var t table
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, fmt.Errorf("decoding the mount table: %w: %w", storage.ErrCorrupt, err)
	}
	if t.Format != format {
		return nil, fmt.Errorf("decoding the mount table: format %d: %w", t.Format, storage.ErrNewer)
	}
	return t.Mounts, nil
}

func write(tx storage.Tx, mounts []Entry) error {
	slices.SortFunc(mounts, func(a, b Entry) int { return strings.Compare(string(a.Path), string(b.Path)) })
	b, err := json.Marshal(table{Format: format, Mounts: mounts}, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("encoding the mount table: %w", err)
	}
	if len(b) > maxTable {
		return fault.New(fault.Invalid, "the table of mounts is full")
	}
	tx.Put(storage.Key{Scope: Scope, Row: row}, b)
	return nil
}

// Add makes e a mount. The error is a fault of kind Invalid where its path is
// taken, lies in another mount or holds one.
func Add(tx storage.Tx, e Entry) error {
	mounts, err := Read(tx)
	if err != nil {
		return err
	}
	if len(mounts) >= MaxMounts {
		return fault.New(fault.Invalid, "there can be at most %d mounts", MaxMounts)
	}
	if err := free(mounts, e.Path, ""); err != nil {
		return err
	}
	if err := e.check(); err != nil {
		return err
	}
	return write(tx, append(mounts, e))
}

// Check reports a mount that [Add] would refuse as things stand, so that
// nothing need be made for one that cannot be.
func Check(r storage.Reader, e *Entry) error {
	mounts, err := Read(r)
	if err != nil {
		return err
	}
	return errors.Join(e.check(), free(mounts, e.Path, ""))
}

// Change calls fn with the mount at path, which must not be closing, and keeps
// what fn made of it. The error is a fault of kind NotFound where there is none.
func Change(tx storage.Tx, path name.Path, fn func(*Entry) error) error {
	mounts, err := Read(tx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(mounts, func(e Entry) bool { return e.Path == path && !e.Closing })
	if i < 0 {
		return fault.New(fault.NotFound, "no matching mount")
	}
	if err := fn(&mounts[i]); err != nil {
		return err
	}
	if err := mounts[i].check(); err != nil {
		return err
	}
	return write(tx, mounts)
}

// check holds what is said of a mount to its bounds.
func (e *Entry) check() error {
	if len(e.Description) > MaxDescription {
		return fault.New(fault.Invalid, "the description of a mount has at most %d bytes", MaxDescription)
	}
	if len(e.Options) > MaxOptions {
		return fault.New(fault.Invalid, "a mount has at most %d options", MaxOptions)
	}
	for k, v := range e.Options {
		if len(k) > MaxOption || len(v) > MaxOption {
			return fault.New(fault.Invalid, "an option of a mount has at most %d bytes", MaxOption)
		}
	}
	return nil
}

// Moved is a move that was made.
type Moved struct {
	ID   string    `json:"id"`
	From name.Path `json:"from"`
	To   name.Path `json:"to"`
}

type moves struct {
	Format int     `json:"format"`
	Moves  []Moved `json:"moves"`
}

// Moves returns the last moves, oldest first. r reads the core space.
func Moves(r storage.Reader) ([]Moved, error) {
	b, err := r.Get(storage.Key{Scope: Scope, Row: rowMoves})
	if errors.Is(err, storage.ErrNotFound) {
		return []Moved{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the moves of mounts: %w", err)
	}
	var m moves
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("decoding the moves of mounts: %w: %w", storage.ErrCorrupt, err)
	}
	if m.Format != format {
		return nil, fmt.Errorf("decoding the moves of mounts: format %d: %w", m.Format, storage.ErrNewer)
	}
	return m.Moves, nil
}

// remember keeps a move among the last ones, for who asks what became of it.
func remember(tx storage.Tx, moved Moved) error {
	all, err := Moves(tx)
	if err != nil {
		return err
	}
	all = append(all, moved)
	b, err := json.Marshal(moves{Format: format, Moves: all[max(0, len(all)-MaxMoves):]})
	if err != nil {
		return fmt.Errorf("encoding the moves of mounts: %w", err)
	}
	tx.Put(storage.Key{Scope: Scope, Row: rowMoves}, b)
	return nil
}

// Move gives the mount at from the path to, and remembers the move under id.
// The path that it had is free with the same transaction.
func Move(tx storage.Tx, id string, from, to name.Path) error {
	mounts, err := Read(tx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(mounts, func(e Entry) bool { return e.Path == from && !e.Closing })
	if i < 0 {
		return fault.New(fault.Invalid, "no matching mount at %q", string(from))
	}
	if mounts[i].Fixed {
		return fault.New(fault.Invalid, "cannot remount %q", string(from))
	}
	if from == to {
		return fault.New(fault.Invalid, "path is already in use at %s", to)
	}
	moved := mounts[i]
	moved.Path = to
	if moved.Class() != mounts[i].Class() {
		return fault.New(fault.Invalid, "cannot move a mount from %q to %q: a secret engine stays one, and an auth method too", string(from), string(to))
	}
	if err := free(mounts, to, moved.ID); err != nil {
		return err
	}
	mounts[i] = moved
	if err := write(tx, mounts); err != nil {
		return err
	}
	return remember(tx, Moved{id, from, to})
}

// Close marks the mount at path as being removed and returns it. It answers
// nothing from then on, and its path is free once [Remove] has been called.
func Close(tx storage.Tx, path name.Path) (Entry, error) {
	var closed Entry
	err := Change(tx, path, func(e *Entry) error {
		if e.Fixed {
			return fault.New(fault.Invalid, "cannot unmount %q", string(path))
		}
		e.Closing = true
		closed = *e
		return nil
	})
	return closed, err
}

// Remove forgets the closing mount with the given id. Removing what is not
// there is not an error.
func Remove(tx storage.Tx, id string) error {
	mounts, err := Read(tx)
	if err != nil {
		return err
	}
	kept := slices.DeleteFunc(mounts, func(e Entry) bool { return e.ID == id && e.Closing })
	return write(tx, kept)
}

// reserved are the first segments that no mount of a secret engine may have.
var reserved = []string{"sys/", "auth/", "cubbyhole/", "identity/", "audit/"}

// CheckPath reports a path that no secret engine may be mounted at, as a fault
// of kind Invalid.
func CheckPath(path name.Path) error {
	for _, r := range reserved {
		if strings.HasPrefix(string(path), r) {
			return fault.New(fault.Invalid, "path %q is reserved", string(path))
		}
	}
	return nil
}

func free(mounts []Entry, path name.Path, except string) error {
	for _, e := range mounts {
		switch {
		case e.ID == except:
		case e.Path == path && e.Closing:
			return fault.New(fault.Invalid, "path %s is being removed; try again in a moment", path)
		case e.Path == path:
			return fault.New(fault.Invalid, "path is already in use at %s", path)
		case strings.HasPrefix(string(path), string(e.Path)), strings.HasPrefix(string(e.Path), string(path)):
			return fault.New(fault.Invalid, "path is already in use at %s", e.Path)
		}
	}
	return nil
}
