// Package cubbyhole is the engine at cubbyhole/: a few secrets that belong to
// one token, seen by nobody else, not even by root, and gone with the token.
//
// A cubbyhole is one scope in the space of tokens:
//
//	"c"         be32: how many entries there are
//	"n" | hash  path of an entry
//	"v" | hash  what was written there, byte for byte
package cubbyhole

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/token"
)

// MaxEntries bounds the entries of a cubbyhole. How large each may be is
// bounded as the value of a secret is.
const MaxEntries = 256

// Kind returns the engine over the tokens of store, in whose space it keeps
// everything.
func Kind(store *token.Store) engine.Kind {
	return engine.Kind{
		Name: "cubbyhole", Does: "Keeps a few secrets for one token, and ends with it.", Fixed: true,
		Open: func(_ context.Context, env engine.Env) (engine.Instance, error) {
			return engine.Instance{Ops: ops(store, env.Limits.WithDefaults())}, nil
		},
	}
}

// PathIn names an entry.
type PathIn struct {
	Path string `path:"path" doc:"Path of the entry."`
}

// Validate reports a request that can never be right.
func (in PathIn) Validate() error {
	if in.Path == "" {
		return fault.New(fault.Invalid, "missing path")
	}
	return nil
}

// DirIn names a directory.
type DirIn struct {
	Path string `path:"path" doc:"Path of the directory; empty is the whole cubbyhole."`
}

// WriteIn is an entry.
type WriteIn struct {
	Path string      `path:"path" doc:"Path of the entry."`
	Data secret.JSON `body:"whole" doc:"A JSON object, kept byte for byte."`
}

// Validate reports a request that can never be right.
func (in WriteIn) Validate() error {
	if err := (PathIn{in.Path}).Validate(); err != nil {
		return err
	}
	b := jsontext.Value(in.Data.Reveal())
	switch {
	case in.Data.Empty(), b.Kind() == 'n':
		return fault.New(fault.Invalid, "missing data fields")
	case b.Kind() != '{':
		return fault.New(fault.Invalid, "data must be a JSON object")
	}
	return nil
}

// ListOut is names in a directory.
type ListOut struct {
	Keys []string `json:"keys" doc:"The names, in the order of their bytes."`
}

// Read reads an entry of the caller's cubbyhole.
var Read = op.Def[PathIn, secret.JSON]{
	Name: "cubbyhole.read", Verb: op.Read, Path: "{path...}", Does: "Read an entry of the caller's own cubbyhole.",
}

// Write writes an entry of the caller's cubbyhole.
var Write = op.Def[WriteIn, op.Empty]{
	Name: "cubbyhole.write", Verb: op.Upsert, Path: "{path...}", Does: "Write an entry of the caller's own cubbyhole.",
}

// Delete removes an entry of the caller's cubbyhole.
var Delete = op.Def[PathIn, op.Empty]{
	Name: "cubbyhole.delete", Verb: op.Delete, Path: "{path...}", Does: "Remove an entry of the caller's own cubbyhole.",
}

// List lists a directory of the caller's cubbyhole.
var List = op.Def[DirIn, ListOut]{
	Name: "cubbyhole.list", Verb: op.List, Path: "{path...}", Does: "List names in the caller's own cubbyhole.",
}

type cubbyholes struct {
	tokens *token.Store
	limits engine.Limits
}

func ops(store *token.Store, limits engine.Limits) []op.Op {
	h := &cubbyholes{store, limits}
	space := store.Space()
	return []op.Op{
		Read.With(h.read),
		Write.InTx(space, op.Work[WriteIn, op.Empty]{
			Locks: func(c *op.Call, _ WriteIn) storage.Locks { return locks(c) },
			Exists: func(r storage.Reader, c *op.Call, in WriteIn) (bool, error) {
				if err := owner(c); err != nil {
					return false, err
				}
				_, found, err := get(r, h.key(c, rowName, in.Path))
				return found, err
			},
			Do: h.write,
		}),
		Delete.InTx(space, op.Work[PathIn, op.Empty]{
			Locks: func(c *op.Call, _ PathIn) storage.Locks { return locks(c) },
			Do:    h.delete,
		}),
		List.With(h.list),
	}
}

func locks(c *op.Call) storage.Locks {
	if c.Caller.Cubby == "" {
		return storage.Locks{}
	}
	return token.CubbyLocks(c.Caller.Cubby)
}

// owner reports a caller whose token has no cubbyhole.
func owner(c *op.Call) error {
	if c.Caller.Cubby == "" {
		return fault.New(fault.Invalid, "cubbyhole operations are only supported by \"service\" type tokens")
	}
	return nil
}

const (
	rowCount = "c"
	rowName  = "n"
	rowValue = "v"
)

func (h *cubbyholes) key(c *op.Call, kind, path string) storage.Key {
	return storage.Key{Scope: token.CubbyScope(c.Caller.Cubby), Row: kind + h.tokens.CubbyRow(c.Caller.Cubby, path)}
}

func get(r storage.Reader, k storage.Key) (b []byte, found bool, err error) {
	b, err = r.Get(k)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, false, nil
	}
	return b, err == nil, err
}

func (h *cubbyholes) read(ctx context.Context, c *op.Call, in PathIn) (out secret.JSON, err error) {
	if err := owner(c); err != nil {
		return out, err
	}
	err = h.tokens.Space().View(ctx, func(r storage.Reader) error {
		b, found, err := get(r, h.key(c, rowValue, in.Path))
		if err != nil {
			return err
		}
		if !found {
			return fault.New(fault.NotFound, "")
		}
		out = secret.NewJSON(b)
		return nil
	})
	return out, err
}

// count returns how many entries there are, and the key where that is kept.
func count(r storage.Reader, c *op.Call) (n uint32, key storage.Key, err error) {
	key = storage.Key{Scope: token.CubbyScope(c.Caller.Cubby), Row: rowCount}
	b, found, err := get(r, key)
	if err != nil || !found {
		return 0, key, err
	}
	if len(b) != 4 {
		return 0, key, fmt.Errorf("reading the size of a cubbyhole: %w", storage.ErrCorrupt)
	}
	return binary.BigEndian.Uint32(b), key, nil
}

func (h *cubbyholes) write(tx storage.Tx, c *op.Call, in WriteIn) (op.Empty, error) {
	if err := owner(c); err != nil {
		return op.Empty{}, err
	}
	if most := h.limits.SecretBytes; len(in.Data.Reveal()) > most {
		return op.Empty{}, fault.New(fault.TooLarge, "an entry of a cubbyhole has at most %d bytes", most)
	}
	if err := h.tokens.Check(tx, c.Caller.Cubby); err != nil {
		return op.Empty{}, err
	}
	at := h.key(c, rowName, in.Path)
	_, found, err := get(tx, at)
	if err != nil {
		return op.Empty{}, err
	}
	if !found {
		n, key, err := count(tx, c)
		if err != nil {
			return op.Empty{}, err
		}
		if n >= MaxEntries {
			return op.Empty{}, fault.New(fault.Invalid, "a cubbyhole has at most %d entries", MaxEntries)
		}
		tx.Put(key, binary.BigEndian.AppendUint32(nil, n+1))
		tx.Put(at, []byte(in.Path))
	}
	tx.Put(h.key(c, rowValue, in.Path), slices.Clone(in.Data.Reveal()))
	return op.Empty{}, nil
}

func (h *cubbyholes) delete(tx storage.Tx, c *op.Call, in PathIn) (op.Empty, error) {
	if err := owner(c); err != nil {
		return op.Empty{}, err
	}
	at := h.key(c, rowName, in.Path)
	_, found, err := get(tx, at)
	if err != nil || !found {
		return op.Empty{}, err
	}
	n, key, err := count(tx, c)
	if err != nil {
		return op.Empty{}, err
	}
	tx.Delete(at)
	tx.Delete(h.key(c, rowValue, in.Path))
	if n <= 1 {
		tx.Delete(key)
	} else {
		tx.Put(key, binary.BigEndian.AppendUint32(nil, n-1))
	}
	return op.Empty{}, nil
}

func (h *cubbyholes) list(ctx context.Context, c *op.Call, in DirIn) (out ListOut, err error) {
	if err := owner(c); err != nil {
		return out, err
	}
	dir := in.Path
	if dir != "" && !strings.HasSuffix(dir, "/") {
		dir += "/"
	}
	err = h.tokens.Space().View(ctx, func(r storage.Reader) error {
		items, _, err := r.Scan(token.CubbyScope(c.Caller.Cubby), rowName, rowName+"~", MaxEntries)
		if err != nil {
			return err
		}
		for _, item := range items {
			rest, ok := strings.CutPrefix(string(item.Value), dir)
			if !ok {
				continue
			}
			if i := strings.Index(rest, "/"); i >= 0 {
				rest = rest[:i+1]
			}
			out.Keys = append(out.Keys, rest)
		}
		return nil
	})
	if err == nil && len(out.Keys) == 0 {
		err = fault.New(fault.NotFound, "")
	}
	slices.Sort(out.Keys)
	out.Keys = slices.Compact(out.Keys)
	return out, err
}
