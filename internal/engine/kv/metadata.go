package kv

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strconv"
	"time"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/directory"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/safe"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/wire"
)

// maxCustomKey bounds a key of custom metadata, in bytes.
const maxCustomKey = 128

// ReadMetadata reads what is known of a secret and its versions.
var ReadMetadata = op.Def[PathIn, MetadataOut]{
	Name: "kv.metadata-read", Verb: op.Read, Path: "metadata/{path...}",
	Does: "Read what is known of a secret and its versions.",
}

// MetadataOut is what is known of a secret.
type MetadataOut struct {
	CASRequired        bool                   `json:"cas_required" doc:"Whether every write must say which version it replaces."`
	CreatedTime        wire.Time              `json:"created_time" doc:"When the secret was made."`
	CurrentVersion     uint64                 `json:"current_version" doc:"Number of the newest version; 0 where there is none yet."`
	CustomMetadata     wire.Map               `json:"custom_metadata" doc:"What people noted about the secret."`
	DeleteVersionAfter string                 `json:"delete_version_after" audit:"clear" doc:"Time after which a version is deleted; 0s is as the mount says."`
	MaxVersions        int                    `json:"max_versions" doc:"How many versions are kept; 0 is as the mount says."`
	OldestVersion      uint64                 `json:"oldest_version" doc:"Number of the oldest version that is kept; 0 until as many were made as are kept."`
	UpdatedTime        wire.Time              `json:"updated_time" doc:"When the newest version was made."`
	Versions           map[string]VersionInfo `json:"versions" doc:"The versions, by number."`
}

// VersionInfo is what is known of a version, in a list of all.
type VersionInfo struct {
	CreatedTime  wire.Time `json:"created_time" doc:"When the version was made."`
	DeletionTime wire.Time `json:"deletion_time" doc:"When the version was or will be deleted; empty for never."`
	Destroyed    bool      `json:"destroyed" doc:"Whether the value is gone for ever."`
}

func metadataOut(x *safe.Secret) MetadataOut {
	out := MetadataOut{
		CASRequired: x.Settings.CASRequired, CreatedTime: wire.Time(x.Created), CurrentVersion: x.Last,
		CustomMetadata: x.Custom, DeleteVersionAfter: x.Settings.DeleteAfter.String(), MaxVersions: x.Settings.MaxVersions,
		OldestVersion: x.Oldest, UpdatedTime: wire.Time(x.Updated), Versions: make(map[string]VersionInfo, len(x.Versions)),
	}
	for i := range x.Versions {
		v := &x.Versions[i]
		if v.Number == 0 {
			continue
		}
		out.Versions[strconv.FormatUint(v.Number, 10)] = VersionInfo{
			CreatedTime: wire.Time(v.Created), DeletionTime: wire.Time(v.DeletedAt), Destroyed: v.Destroyed,
		}
	}
	return out
}

func (m *mounted) readMetadata(ctx context.Context, _ *op.Call, in PathIn) (MetadataOut, error) {
	var out MetadataOut
	err := m.env.Store.View(ctx, func(r storage.Reader) error {
		x, err := m.safe.Find(r, in.Path)
		if err != nil {
			return noneOr(err)
		}
		out = metadataOut(x)
		return nil
	})
	return out, err
}

// WriteMetadata changes the settings of a secret, which it makes where there
// is none; it then has no version yet.
var WriteMetadata = op.Def[MetadataIn, op.Empty]{
	Name: "kv.metadata-write", Verb: op.Upsert, Path: "metadata/{path...}",
	Does: "Change the settings and the custom metadata of a secret.",
}

// MetadataIn is what is to hold for a secret; what is nil stays as it is.
type MetadataIn struct {
	Path               string    `path:"path" doc:"Path of the secret."`
	CASRequired        *bool     `json:"cas_required" doc:"Whether every write must say which version it replaces."`
	CustomMetadata     *wire.Map `json:"custom_metadata" doc:"What to note about the secret: texts under keys."`
	DeleteVersionAfter *Lifetime `json:"delete_version_after" doc:"Time after which a version is deleted; 0s is as the mount says."`
	MaxVersions        *int      `json:"max_versions" doc:"How many versions are kept, at most 1000; 0 is as the mount says."`
}

// Validate reports a request that can never be right.
func (in MetadataIn) Validate() error {
	if err := checkPath(in.Path); err != nil {
		return err
	}
	return checkSettings(in.MaxVersions, in.DeleteVersionAfter)
}

func checkSettings(maxVersions *int, after *Lifetime) error {
	if after != nil && *after < 0 {
		return fault.New(fault.Invalid, "delete_version_after of a secret must not be negative")
	}
	return checkMaxVersions(maxVersions)
}

// checkCustom reports custom metadata that is more than the server keeps. It
// names a key by its place in the order of the keys: the key itself is the
// caller's, and may be a value that was put in the wrong place.
func (m *mounted) checkCustom(custom map[string]string) error {
	maxCustom, maxCustomValue := m.env.Limits.MetadataItems, m.env.Limits.MetadataBytes
	if len(custom) > maxCustom {
		return fault.New(fault.Invalid, "custom_metadata validation failed: payload must contain at most %d keys, provided %d", maxCustom, len(custom))
	}
	for i, k := range wire.Map(custom).Keys() {
		v := custom[k]
		switch {
		case k == "" || len(k) > maxCustomKey:
			return fault.New(fault.Invalid, "custom_metadata validation failed: length of key %d of custom_metadata is %d but must be 0 < len(key) <= %d", i+1, len(k), maxCustomKey)
		case v == "" || len(v) > maxCustomValue:
			return fault.New(fault.Invalid, "custom_metadata validation failed: length of value for key %d of custom_metadata is %d but must be 0 < len(value) <= %d", i+1, len(v), maxCustomValue)
		case !printable(k):
			return fault.New(fault.Invalid, "custom_metadata validation failed: key %d of custom_metadata contains unprintable characters", i+1)
		case !printable(v):
			return fault.New(fault.Invalid, "custom_metadata validation failed: value for key %d of custom_metadata contains unprintable characters", i+1)
		}
	}
	return nil
}

func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

func metadataLocks(_ *op.Call, in MetadataIn) storage.Locks { return locks(in.Path) }

func (m *mounted) metadataExists(r storage.Reader, _ *op.Call, in MetadataIn) (bool, error) {
	return m.exists(r, in.Path)
}

func (m *mounted) writeMetadata(tx storage.Tx, c *op.Call, in MetadataIn) (op.Empty, error) {
	if in.CASRequired == nil && in.CustomMetadata == nil && in.DeleteVersionAfter == nil && in.MaxVersions == nil {
		return op.Empty{}, nil
	}
	conf, err := readConfig(tx)
	if err != nil {
		return op.Empty{}, err
	}
	x, err := m.safe.FindOrMake(tx, in.Path, c.Time)
	if err != nil {
		return op.Empty{}, err
	}
	set(c, conf, x, in.CASRequired, in.DeleteVersionAfter, in.MaxVersions)
	if in.CustomMetadata != nil {
		if err := m.checkCustom(*in.CustomMetadata); err != nil {
			return op.Empty{}, err
		}
		x.Custom = nonEmpty(*in.CustomMetadata)
	}
	return op.Empty{}, m.safe.Save(tx, x)
}

// set changes the settings of x that are not nil.
func set(c *op.Call, conf *config, x *safe.Secret, cas *bool, after *Lifetime, maxVersions *int) {
	if cas != nil {
		x.Settings.CASRequired = *cas
		if !*cas && conf.CASRequired {
			c.Warn(`"cas_required" set to false, but is mandated by backend config. This value will be ignored.`)
		}
	}
	if after != nil {
		x.Settings.DeleteAfter = time.Duration(*after)
	}
	if maxVersions != nil {
		x.Settings.MaxVersions = *maxVersions
	}
}

func nonEmpty(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return m
}

// PatchMetadata changes the settings of a secret that exists.
var PatchMetadata = op.Def[MetadataPatchIn, op.Empty]{
	Name: "kv.metadata-patch", Verb: op.Patch, Path: "metadata/{path...}",
	Does: "Change some of the settings and the custom metadata of a secret that exists.",
}

// MetadataPatchIn is a change of what holds for a secret; what is not sent
// stays as it is.
type MetadataPatchIn struct {
	Path               string      `path:"path" doc:"Path of the secret."`
	CASRequired        *bool       `json:"cas_required" doc:"Whether every write must say which version it replaces."`
	CustomMetadata     CustomPatch `json:"custom_metadata" doc:"What to note about the secret; null under a key removes it."`
	DeleteVersionAfter *Lifetime   `json:"delete_version_after" doc:"Time after which a version is deleted; 0s is as the mount says."`
	MaxVersions        *int        `json:"max_versions" doc:"How many versions are kept, at most 1000; 0 is as the mount says."`
}

// CustomPatch is a merge patch of custom metadata: an object whose members
// replace those that are there, null removing one; null itself removes all.
type CustomPatch struct {
	Clear  bool     `json:"clear"`
	Set    wire.Map `json:"set"`
	Remove []string `json:"remove"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *CustomPatch) UnmarshalJSON(b []byte) error {
	*p = CustomPatch{}
	switch jsontext.Value(b).Kind() {
	case 'n':
		p.Clear = true
		return nil
	case '{':
	default:
		return p.Set.UnmarshalJSON(b)
	}
	ms, err := members(b)
	if err != nil {
		return err
	}
	kept := []byte{'{'}
	for _, m := range ms {
		if m.value.Kind() == 'n' {
			p.Remove = append(p.Remove, m.name)
			continue
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(append(append(kept, m.written...), ':'), m.value...)
	}
	return p.Set.UnmarshalJSON(append(kept, '}'))
}

// apply returns what custom metadata becomes.
func (p *CustomPatch) apply(was map[string]string) map[string]string {
	m := map[string]string{}
	if !p.Clear {
		maps.Copy(m, was)
	}
	maps.Copy(m, p.Set)
	for _, k := range p.Remove {
		delete(m, k)
	}
	return nonEmpty(m)
}

// Validate reports a request that can never be right.
func (in MetadataPatchIn) Validate() error {
	if err := checkPath(in.Path); err != nil {
		return err
	}
	return checkSettings(in.MaxVersions, in.DeleteVersionAfter)
}

func metadataPatchLocks(_ *op.Call, in MetadataPatchIn) storage.Locks { return locks(in.Path) }

func (m *mounted) patchMetadata(tx storage.Tx, c *op.Call, in MetadataPatchIn) (op.Empty, error) {
	conf, err := readConfig(tx)
	if err != nil {
		return op.Empty{}, err
	}
	x, err := m.safe.Find(tx, in.Path)
	if err != nil {
		return op.Empty{}, noneOr(err)
	}
	set(c, conf, x, in.CASRequired, in.DeleteVersionAfter, in.MaxVersions)
	x.Custom = in.CustomMetadata.apply(x.Custom)
	if err := m.checkCustom(x.Custom); err != nil {
		return op.Empty{}, err
	}
	return op.Empty{}, m.safe.Save(tx, x)
}

// DeleteMetadata removes a secret whole. It is one transaction for what
// callers see; rows of very many versions are removed by further ones.
var DeleteMetadata = op.Def[PathIn, op.Empty]{
	Name: "kv.metadata-delete", Verb: op.Delete, Path: "metadata/{path...}",
	Does: "Remove a secret whole: its versions, their values and all that is known of it.",
}

func (m *mounted) deleteMetadata(ctx context.Context, _ *op.Call, in PathIn) (op.Empty, error) {
	left := false
	err := m.env.Store.Update(ctx, storage.Locks{Own: append(directory.LocksFor(in.Path), safe.Scope(in.Path))}, func(tx storage.Tx) error {
		left = false
		x, err := m.safe.Find(tx, in.Path)
		if errors.Is(err, safe.ErrNone) {
			return nil
		}
		if err != nil {
			return err
		}
		left, err = m.safe.Remove(tx, x)
		return err
	})
	if err != nil || !left {
		return op.Empty{}, err
	}
	// The secret is gone. Rows that stay behind can be read by nobody, and the
	// next removal of this kind or the mount's end takes them along.
	if err := m.safe.Sweep(storage.WithRider(ctx, nil), m.env.Store); err != nil {
		m.env.Log.LogAttrs(ctx, slog.LevelWarn, "removing rows of a removed secret", slog.Any("cause", err))
	}
	return op.Empty{}, nil
}
