package kv

import (
	"context"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/safe"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/wire"
)

func (m *mounted) ops1() []op.Op {
	store := m.env.Store
	return []op.Op{
		Read1.With(m.read1),
		Write1.InTx(store, op.Work[WriteIn1, op.Empty]{Locks: writeLocks1, Exists: m.writeExists1, Do: m.write1}),
		Delete1.InTx(store, op.Work[PathIn, op.Empty]{Locks: pathLocks, Do: m.delete1}),
		List1.With(m.list1),
	}
}

// Read1 reads a secret of a mount without versions. The answer says how long
// it may be kept: the member "ttl" or "lease" of the secret, else the mount's
// default; nothing is lent.
var Read1 = op.Def[PathIn, secret.JSON]{
	Name: "kv1.read", Verb: op.Read, Path: "{path...}",
	Does: "Read a secret.",
}

func (m *mounted) read1(ctx context.Context, c *op.Call, in PathIn) (secret.JSON, error) {
	var out secret.JSON
	err := m.env.Store.View(ctx, func(r storage.Reader) error {
		x, v, err := m.version(r, in.Path, 0)
		if err != nil {
			return err
		}
		if v.State(c.Time) != safe.Enabled {
			return errNone()
		}
		out, err = m.safe.Object(r, x, v)
		return err
	})
	if err != nil {
		return secret.JSON{}, err
	}
	ttl, err := m.lifetime(out.Reveal())
	if err != nil {
		return secret.JSON{}, err
	}
	c.Reply.Lease = &op.Lease{TTL: ttl}
	return out, nil
}

// lifetime returns how long a secret says that it may be kept.
func (m *mounted) lifetime(object []byte) (time.Duration, error) {
	ms, err := members(object)
	if err != nil {
		return 0, err
	}
	for _, key := range [...]string{"ttl", "lease"} {
		for _, x := range ms {
			if x.name != key {
				continue
			}
			var d wire.Duration
			if d.UnmarshalJSON(x.value) == nil {
				return time.Duration(d), nil
			}
			return m.env.DefaultTTL, nil
		}
	}
	return m.env.DefaultTTL, nil
}

// Write1 writes a secret of a mount without versions, in the place of what is there.
var Write1 = op.Def[WriteIn1, op.Empty]{
	Name: "kv1.write", Verb: op.Upsert, Path: "{path...}",
	Does: "Write a secret in the place of what is there.",
}

// WriteIn1 is a secret of a mount without versions.
type WriteIn1 struct {
	Path string      `path:"path" doc:"Path of the secret."`
	Data secret.JSON `body:"whole" doc:"A JSON object, kept byte for byte."`
}

// Validate reports a request that can never be right.
func (in WriteIn1) Validate() error {
	if err := checkPath(in.Path); err != nil {
		return err
	}
	b := jsontext.Value(in.Data.Reveal())
	switch {
	case in.Data.Empty(), b.Kind() == 'n':
		return fault.New(fault.Invalid, "missing data fields")
	case b.Kind() != '{':
		return fault.New(fault.Invalid, "data must be a JSON object")
	case isEmpty(b):
		return fault.New(fault.Invalid, "missing data fields")
	}
	return nil
}

func writeLocks1(_ *op.Call, in WriteIn1) storage.Locks { return locks(in.Path) }

func (m *mounted) writeExists1(r storage.Reader, _ *op.Call, in WriteIn1) (bool, error) {
	return m.exists(r, in.Path)
}

func (m *mounted) write1(tx storage.Tx, c *op.Call, in WriteIn1) (op.Empty, error) {
	if err := m.checkSize(in.Data.Reveal()); err != nil {
		return op.Empty{}, err
	}
	x, err := m.safe.FindOrMake(tx, in.Path, c.Time)
	if err != nil {
		return op.Empty{}, err
	}
	v, err := m.safe.Add(tx, x, safe.Draft{Kind: safe.JSON, Value: in.Data.Reveal()}, c.Time)
	if err != nil {
		return op.Empty{}, err
	}
	x.Replace(v)
	return op.Empty{}, m.safe.Save(tx, x)
}

// Delete1 removes a secret of a mount without versions.
var Delete1 = op.Def[PathIn, op.Empty]{
	Name: "kv1.delete", Verb: op.Delete, Path: "{path...}",
	Does: "Remove a secret.",
}

func (m *mounted) delete1(tx storage.Tx, _ *op.Call, in PathIn) (op.Empty, error) {
	x, err := m.safe.Find(tx, in.Path)
	if err != nil {
		if err = noneOr(err); fault.Is(err, fault.NotFound) {
			err = nil
		}
		return op.Empty{}, err
	}
	_, err = m.safe.Remove(tx, x)
	return op.Empty{}, err
}

// List1 is [List] for a mount without versions.
var List1 = op.Def[ListIn, ListOut]{
	Name: "kv1.list", Verb: op.List, Path: "{path...}",
	Does: "List the names of secrets and directories in a directory.",
}

func (m *mounted) list1(ctx context.Context, c *op.Call, in ListIn) (ListOut, error) {
	return m.listNames(ctx, c, in, func(name, path string) bool {
		verb := op.Read
		if path != "" && name[len(name)-1] == '/' {
			verb = op.List
		}
		return c.May(verb, string(c.Mount.Path)+path)
	})
}
