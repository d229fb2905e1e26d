package kv

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/directory"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/safe"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/wire"
)

// Read reads one version of a secret, the current one unless told otherwise.
// A version that was deleted or destroyed is answered by what is known of it,
// with a fault of kind Deleted.
var Read = op.Def[ReadIn, ReadOut]{
	Name: "kv.read", Verb: op.Read, Path: "data/{path...}",
	Does: "Read one version of a secret, the current one unless told otherwise.",
}

// ReadIn names a version of a secret.
type ReadIn struct {
	Path    string `path:"path" doc:"Path of the secret."`
	Version int    `query:"version" doc:"Number of the version; 0 is the current one."`
}

// Validate reports a request that can never be right.
func (in ReadIn) Validate() error { return checkPath(in.Path) }

// ReadOut is a version of a secret.
type ReadOut struct {
	Data     secret.JSON `json:"data" doc:"What was written, byte for byte; null where the version is deleted or destroyed."`
	Metadata VersionOut  `json:"metadata" doc:"What is known of the version."`
}

// VersionOut is what is known of a version.
type VersionOut struct {
	CreatedTime    wire.Time `json:"created_time" doc:"When the version was made."`
	CustomMetadata wire.Map  `json:"custom_metadata" doc:"What people noted about the secret."`
	DeletionTime   wire.Time `json:"deletion_time" doc:"When the version was or will be deleted; empty for never."`
	Destroyed      bool      `json:"destroyed" doc:"Whether the value is gone for ever."`
	Version        uint64    `json:"version" doc:"Number of the version."`
}

func versionOut(x *safe.Secret, v *safe.Version) VersionOut {
	return VersionOut{
		CreatedTime: wire.Time(v.Created), CustomMetadata: x.Custom, DeletionTime: wire.Time(v.DeletedAt),
		Destroyed: v.Destroyed, Version: v.Number,
	}
}

func (m *mounted) read(ctx context.Context, c *op.Call, in ReadIn) (ReadOut, error) {
	var out ReadOut
	err := m.env.Store.View(ctx, func(r storage.Reader) error {
		x, v, err := m.version(r, in.Path, in.Version)
		if err != nil {
			return err
		}
		out.Metadata = versionOut(x, v)
		if out.Data, err = m.value(r, x, v, c.Time); err != nil {
			return err
		}
		return nil
	})
	return out, err
}

// version finds a version by its number; 0 or less is the current one.
func (m *mounted) version(r storage.Reader, path string, n int) (*safe.Secret, *safe.Version, error) {
	x, err := m.safe.Find(r, path)
	if err != nil {
		return nil, nil, noneOr(err)
	}
	v := x.Current()
	if n > 0 {
		v = x.Numbered(uint64(n))
	}
	if v == nil {
		return nil, nil, errNone()
	}
	return x, v, nil
}

// value reads the value of v. Where there is none to be had the error is a
// fault of kind Deleted, and the answer says so along with what is known of v.
func (m *mounted) value(r storage.Reader, x *safe.Secret, v *safe.Version, at time.Time) (secret.JSON, error) {
	switch v.State(at) {
	case safe.Deleted, safe.Destroyed:
		return secret.JSON{}, fault.New(fault.Deleted, "")
	case safe.Disabled:
		return secret.JSON{}, errNone()
	case safe.Enabled:
	}
	return m.safe.Object(r, x, v)
}

// Write makes a new version of a secret.
var Write = op.Def[WriteIn, VersionOut]{
	Name: "kv.write", Verb: op.Upsert, Path: "data/{path...}",
	Does: "Write a new version of a secret.",
}

// WriteIn is a new version of a secret.
type WriteIn struct {
	Path    string      `path:"path" doc:"Path of the secret."`
	Data    secret.JSON `json:"data" doc:"A JSON object, kept byte for byte."`
	Options Options     `json:"options" doc:"cas: write only if this is the number of the current version; 0 if there is none."`
}

// Validate reports a request that can never be right.
func (in WriteIn) Validate() error {
	if err := checkPath(in.Path); err != nil {
		return err
	}
	if err := checkData(in.Data); err != nil {
		return err
	}
	return in.Options.Validate()
}

func checkData(j secret.JSON) error {
	b := jsontext.Value(j.Reveal())
	switch {
	case j.Empty(), b.Kind() == 'n':
		return fault.New(fault.Invalid, "no data provided")
	case b.Kind() != '{':
		return fault.New(fault.Invalid, "data must be a JSON object")
	}
	return nil
}

// checkSize reports a value that is larger than the server keeps.
func (m *mounted) checkSize(object []byte) error {
	if most := m.env.Limits.SecretBytes; len(object) > most {
		return fault.New(fault.TooLarge, "the data of a secret has at most %d bytes", most)
	}
	return nil
}

// Options are the conditions of a write.
type Options struct {
	CAS *int `json:"cas" doc:"What the number of the current version must be; 0 for none."`

	malformed bool
}

// UnmarshalJSON implements json.Unmarshaler. The number may be text, and
// options that mean nothing here are left aside.
func (o *Options) UnmarshalJSON(b []byte) error {
	*o = Options{}
	if jsontext.Value(b).Kind() == 'n' {
		return nil
	}
	var raw map[string]jsontext.Value
	if err := json.Unmarshal(b, &raw); err != nil {
		return fault.Wrap(fault.Invalid, err, "options must be a JSON object")
	}
	cas, given := raw["cas"]
	for called := range raw {
		if called != "cas" && strings.EqualFold(called, "cas") {
			return fault.New(fault.Invalid, "options: \"cas\" is spelled in another case") // who sends it relies on it
		}
	}
	if !given {
		return nil
	}
	text := string(cas)
	if cas.Kind() == '"' {
		if err := json.Unmarshal(cas, &text); err != nil {
			return fault.Wrap(fault.Invalid, err, "options must be a JSON object")
		}
	}
	n, err := strconv.Atoi(text)
	o.CAS, o.malformed = &n, err != nil
	return nil
}

// Validate reports conditions that can never be met.
func (o Options) Validate() error {
	if o.malformed {
		return fault.New(fault.Invalid, "error parsing check-and-set parameter")
	}
	return nil
}

// MarshalJSON writes the conditions as a client spells them.
func (o Options) MarshalJSON() ([]byte, error) {
	if o.CAS == nil {
		return []byte("{}"), nil
	}
	return append(strconv.AppendInt([]byte(`{"cas":`), int64(*o.CAS), 10), '}'), nil
}

// check compares the number of the current version, 0 for none, with what the
// caller believes it to be.
func (o Options) check(c *config, x *safe.Secret) error {
	switch {
	case o.CAS == nil && (c.CASRequired || x.Settings.CASRequired):
		return fault.New(fault.Invalid, "check-and-set parameter required for this call")
	case o.CAS == nil:
		return nil
	case *o.CAS < 0 || uint64(*o.CAS) != x.Last:
		return fault.New(fault.Conflict, "check-and-set parameter did not match the current version")
	}
	return nil
}

func writeLocks(_ *op.Call, in WriteIn) storage.Locks {
	l := locks(in.Path)
	if in.Options.CAS != nil && *in.Options.CAS == 0 { // a name is likely to be made
		l.Own = append(l.Own, directory.LocksFor(in.Path)...)
	}
	return l
}

func (m *mounted) writeExists(r storage.Reader, c *op.Call, in WriteIn) (bool, error) {
	x, err := m.safe.Find(r, in.Path)
	c.Found = nil
	if errors.Is(err, safe.ErrNone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	c.Found = x
	return true, nil
}

func (m *mounted) write(tx storage.Tx, c *op.Call, in WriteIn) (VersionOut, error) {
	conf, err := readConfig(tx)
	if err != nil {
		return VersionOut{}, err
	}
	x, ok := c.Found.(*safe.Secret)
	if !ok {
		if x, err = m.safe.FindOrMake(tx, in.Path, c.Time); err != nil {
			return VersionOut{}, err
		}
	}
	if err := in.Options.check(conf, x); err != nil {
		return VersionOut{}, err
	}
	return m.add(tx, conf, x, in.Data.Reveal(), c.Time)
}

// add makes a new version of x, current at once, and keeps x.
func (m *mounted) add(tx storage.Tx, conf *config, x *safe.Secret, object []byte, at time.Time) (VersionOut, error) {
	if err := m.checkSize(object); err != nil {
		return VersionOut{}, err
	}
	v, err := m.safe.Add(tx, x, safe.Draft{Kind: safe.JSON, Value: object, DeletedAt: conf.deletion(x, at)}, at)
	if err != nil {
		return VersionOut{}, err
	}
	out := versionOut(x, v)
	x.Prune(conf.keep(x, m.env.Limits.SecretVersions))
	return out, m.safe.Save(tx, x)
}

// Patch makes a new version of a secret out of the current one and the changes
// that are sent: RFC 7396.
var Patch = op.Def[PatchIn, VersionOut]{
	Name: "kv.patch", Verb: op.Patch, Path: "data/{path...}",
	Does: "Write a new version of a secret that differs from the current one as a JSON merge patch says.",
}

// PatchIn is a change of a secret.
type PatchIn struct {
	Path    string      `path:"path" doc:"Path of the secret."`
	Data    secret.JSON `json:"data" doc:"A JSON object: its members replace those of the secret, null removes one."`
	Options Options     `json:"options" doc:"cas: write only if this is the number of the current version."`
}

// Validate reports a request that can never be right.
func (in PatchIn) Validate() error { return WriteIn(in).Validate() }

func patchLocks(_ *op.Call, in PatchIn) storage.Locks { return locks(in.Path) }

func (m *mounted) patch(tx storage.Tx, c *op.Call, in PatchIn) (VersionOut, error) {
	x, err := m.safe.Find(tx, in.Path)
	if err != nil {
		return VersionOut{}, noneOr(err)
	}
	conf, err := readConfig(tx)
	if err != nil {
		return VersionOut{}, err
	}
	if err := in.Options.check(conf, x); err != nil {
		return VersionOut{}, err
	}
	v := x.Current()
	if v == nil {
		return VersionOut{}, errNone()
	}
	was, err := m.value(tx, x, v, c.Time)
	if err != nil {
		return versionOut(x, v), err
	}
	merged, err := merge(was.Reveal(), in.Data.Reveal())
	if err != nil {
		return VersionOut{}, err
	}
	return m.add(tx, conf, x, merged, c.Time)
}

// Delete deletes the current version of a secret, so that it can be recovered.
var Delete = op.Def[PathIn, op.Empty]{
	Name: "kv.delete", Verb: op.Delete, Path: "data/{path...}",
	Does: "Delete the current version of a secret, so that it can be recovered.",
}

func (m *mounted) delete(tx storage.Tx, c *op.Call, in PathIn) (op.Empty, error) {
	return op.Empty{}, m.change(tx, in.Path, func(x *safe.Secret) bool {
		return softDelete(x.Current(), c.Time)
	})
}

// change does something to the secret at path and keeps it, if fn says that it
// has changed. Where there is no secret, nothing is done.
func (m *mounted) change(tx storage.Tx, path string, fn func(*safe.Secret) bool) error {
	x, err := m.safe.Find(tx, path)
	if errors.Is(err, safe.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	if !fn(x) {
		return nil
	}
	return m.safe.Save(tx, x)
}

func softDelete(v *safe.Version, at time.Time) bool {
	if v == nil {
		return false
	}
	if s := v.State(at); s == safe.Deleted || s == safe.Destroyed {
		return false
	}
	v.DeletedAt = at.UTC()
	return true
}

// VersionsIn names versions of a secret.
type VersionsIn struct {
	Path     string    `path:"path" doc:"Path of the secret."`
	Versions wire.Ints `json:"versions" doc:"Numbers of the versions."`
}

// Validate reports a request that can never be right.
func (in VersionsIn) Validate() error {
	if err := checkPath(in.Path); err != nil {
		return err
	}
	if len(in.Versions) == 0 {
		return fault.New(fault.Invalid, "No version number provided")
	}
	return nil
}

func versionsLocks(_ *op.Call, in VersionsIn) storage.Locks { return locks(in.Path) }

// changeEach does something to each version that is named and exists.
func (m *mounted) changeEach(tx storage.Tx, in VersionsIn, fn func(*safe.Secret, *safe.Version) bool) (op.Empty, error) {
	return op.Empty{}, m.change(tx, in.Path, func(x *safe.Secret) bool {
		changed := false
		for _, n := range in.Versions {
			if n <= 0 {
				continue
			}
			if v := x.Numbered(uint64(n)); v != nil && fn(x, v) {
				changed = true
			}
		}
		return changed
	})
}

// DeleteVersions deletes versions of a secret, so that they can be recovered.
var DeleteVersions = op.Def[VersionsIn, op.Empty]{
	Name: "kv.delete-versions", Verb: op.Update, Path: "delete/{path...}",
	Does: "Delete versions of a secret, so that they can be recovered.",
}

func (m *mounted) deleteVersions(tx storage.Tx, c *op.Call, in VersionsIn) (op.Empty, error) {
	return m.changeEach(tx, in, func(_ *safe.Secret, v *safe.Version) bool { return softDelete(v, c.Time) })
}

// Undelete recovers versions of a secret that were deleted.
var Undelete = op.Def[VersionsIn, op.Empty]{
	Name: "kv.undelete", Verb: op.Update, Path: "undelete/{path...}",
	Does: "Recover versions of a secret that were deleted.",
}

func (m *mounted) undelete(tx storage.Tx, c *op.Call, in VersionsIn) (op.Empty, error) {
	conf, err := readConfig(tx)
	if err != nil {
		return op.Empty{}, err
	}
	return m.changeEach(tx, in, func(x *safe.Secret, v *safe.Version) bool {
		if v.Destroyed {
			return false
		}
		v.DeletedAt = conf.deletion(x, c.Time)
		return true
	})
}

// Destroy makes the values of versions unreadable for ever.
var Destroy = op.Def[VersionsIn, op.Empty]{
	Name: "kv.destroy", Verb: op.Update, Path: "destroy/{path...}",
	Does: "Destroy the values of versions of a secret for ever.",
}

func (m *mounted) destroy(tx storage.Tx, _ *op.Call, in VersionsIn) (op.Empty, error) {
	return m.changeEach(tx, in, func(x *safe.Secret, v *safe.Version) bool {
		if v.Destroyed {
			return false
		}
		x.Destroy(v)
		return true
	})
}

// Subkeys reads the names in a secret and none of the values.
var Subkeys = op.Def[SubkeysIn, SubkeysOut]{
	Name: "kv.subkeys", Verb: op.Read, Path: "subkeys/{path...}",
	Does: "Read the names in a secret, with null in the place of every value.",
}

// SubkeysIn names a version of a secret.
type SubkeysIn struct {
	Path    string `path:"path" doc:"Path of the secret."`
	Version int    `query:"version" doc:"Number of the version; 0 is the current one."`
	Depth   int    `query:"depth" doc:"How many levels of names to show; 0 is all."`
}

// Validate reports a request that can never be right.
func (in SubkeysIn) Validate() error { return checkPath(in.Path) }

// SubkeysOut is the names in a version of a secret.
type SubkeysOut struct {
	Metadata VersionOut  `json:"metadata" doc:"What is known of the version."`
	Subkeys  secret.JSON `json:"subkeys" doc:"The secret with null in the place of every value; null where the version is deleted or destroyed."`
}

func (m *mounted) subkeys(ctx context.Context, c *op.Call, in SubkeysIn) (SubkeysOut, error) {
	var out SubkeysOut
	err := m.env.Store.View(ctx, func(r storage.Reader) error {
		x, v, err := m.version(r, in.Path, in.Version)
		if err != nil {
			return err
		}
		out.Metadata = versionOut(x, v)
		value, err := m.value(r, x, v, c.Time)
		if err != nil {
			return err
		}
		names, err := withoutValues(value.Reveal(), in.Depth)
		if err != nil {
			return err
		}
		out.Subkeys = secret.NewJSON(names)
		return nil
	})
	return out, err
}
