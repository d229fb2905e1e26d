package system

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/mount"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/wire"
)

// MountInfo is a mount as clients see it.
type MountInfo struct {
	Accessor              string            `json:"accessor"`
	Config                MountConfig       `json:"config"`
	DeprecationStatus     string            `json:"deprecation_status"`
	Description           string            `json:"description" audit:"clear"`
	ExternalEntropyAccess bool              `json:"external_entropy_access"`
	Local                 bool              `json:"local"`
	Options               map[string]string `json:"options"`
	PluginVersion         string            `json:"plugin_version"`
	RunningPluginVersion  string            `json:"running_plugin_version"`
	RunningSHA256         string            `json:"running_sha256"`
	SealWrap              bool              `json:"seal_wrap"`
	Type                  string            `json:"type" audit:"clear"`
	UUID                  string            `json:"uuid"`
}

// MountConfig is the configuration part of a MountInfo.
type MountConfig struct {
	DefaultLeaseTTL   wire.Duration `json:"default_lease_ttl"`
	ForceNoCache      bool          `json:"force_no_cache"`
	MaxLeaseTTL       wire.Duration `json:"max_lease_ttl"`
	ListingVisibility string        `json:"listing_visibility,omitzero" audit:"clear"`
	ListFilter        bool          `json:"list_filter,omitzero"`
}

func info(e *mount.Entry) MountInfo {
	return MountInfo{
		Accessor: e.Accessor, Description: e.Description, Local: e.Local, Options: e.Options, SealWrap: e.SealWrap,
		ExternalEntropyAccess: e.External, Type: e.Kind, UUID: e.UUID, DeprecationStatus: "supported",
		Config: MountConfig{
			DefaultLeaseTTL: e.Config.DefaultTTL, MaxLeaseTTL: e.Config.MaxTTL, ForceNoCache: e.Config.ForceNoCache,
			ListingVisibility: e.Config.ListingVisibility, ListFilter: e.Config.ListFilter,
		},
	}
}

// MountMap is a set of mounts under their paths.
type MountMap map[string]MountInfo

type mountPathIn struct {
	Path string `path:"path" doc:"Path of the mount."`
}

type enableIn struct {
	Path                  string     `path:"path" doc:"Path of the mount."`
	Type                  string     `json:"type" audit:"clear" doc:"Kind of engine."`
	Description           string     `json:"description" audit:"clear" doc:"What the mount is for, for people."`
	Config                tuneConfig `json:"config" doc:"Lease TTLs and visibility."`
	Options               wire.Map   `json:"options" doc:"Options of the engine, such as version."`
	Local                 bool       `json:"local" doc:"Kept for clients; every mount is local."`
	SealWrap              bool       `json:"seal_wrap" doc:"Kept for clients, and answered with a warning: no value is wrapped by the seal a second time."`
	ExternalEntropyAccess bool       `json:"external_entropy_access" doc:"Refused where it is true: randomness comes from the operating system."`
	PluginName            string     `json:"plugin_name" audit:"clear" doc:"Older spelling of type."`
	PluginVersion         string     `json:"plugin_version" audit:"clear" doc:"Refused where it is given: engines are part of the server."`
}

// leaseTTL is a TTL of a mount as operators write it: empty changes nothing,
// and "system" is the system's own.
type leaseTTL struct {
	ttl   wire.Duration
	given bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *leaseTTL) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case `""`, "null":
		return nil
	case `"system"`, "-1", `"-1"`:
		l.ttl, l.given = 0, true
		return nil
	}
	l.given = true
	return l.ttl.UnmarshalJSON(b)
}

// MarshalJSON implements json.Marshaler.
func (l leaseTTL) MarshalJSON() ([]byte, error) { return l.ttl.MarshalJSON() }

type tuneConfig struct {
	DefaultLeaseTTL   leaseTTL `json:"default_lease_ttl" doc:"TTL of leases that do not ask for one; 0 is the system's."`
	MaxLeaseTTL       leaseTTL `json:"max_lease_ttl" doc:"Longest TTL of leases; 0 is the system's."`
	ForceNoCache      *bool    `json:"force_no_cache" doc:"Kept for clients; no cache here answers from the past."`
	ListingVisibility *string  `json:"listing_visibility" audit:"clear" doc:"Whether the mount is listed for those who have not logged in: unauth or hidden."`
	ListFilter        *bool    `json:"list_filter" doc:"Lists show only what the caller may see."`
	PluginVersion     string   `json:"plugin_version" audit:"clear" doc:"Refused where it is given: engines are part of the server."`
}

type tuneIn struct {
	Path              string   `path:"path" doc:"Path of the mount."`
	DefaultLeaseTTL   leaseTTL `json:"default_lease_ttl" doc:"TTL of leases that do not ask for one; 0 is the system's."`
	MaxLeaseTTL       leaseTTL `json:"max_lease_ttl" doc:"Longest TTL of leases; 0 is the system's."`
	ForceNoCache      *bool    `json:"force_no_cache" doc:"Kept for clients; no cache here answers from the past."`
	ListingVisibility *string  `json:"listing_visibility" audit:"clear" doc:"Whether the mount is listed for those who have not logged in: unauth or hidden."`
	ListFilter        *bool    `json:"list_filter" doc:"Lists show only what the caller may see."`
	Description       *string  `json:"description" audit:"clear" doc:"What the mount is for, for people."`
	Options           wire.Map `json:"options" doc:"Options of the engine, such as version."`
	PluginVersion     string   `json:"plugin_version" audit:"clear" doc:"Refused where it is given: engines are part of the server."`
}

// Tuning is what a mount is tuned to, with the system's values where it has none.
type Tuning struct {
	DefaultLeaseTTL   wire.Duration     `json:"default_lease_ttl"`
	Description       string            `json:"description" audit:"clear"`
	ForceNoCache      bool              `json:"force_no_cache"`
	ListFilter        bool              `json:"list_filter,omitzero"`
	ListingVisibility string            `json:"listing_visibility,omitzero" audit:"clear"`
	MaxLeaseTTL       wire.Duration     `json:"max_lease_ttl"`
	Options           map[string]string `json:"options,omitempty"`
}

type remountIn struct {
	From string `json:"from" audit:"clear" doc:"Path of the mount as it is."`
	To   string `json:"to" audit:"clear" doc:"Path that it is to have."`
}

type remountOut struct {
	MigrationID string `json:"migration_id"`
}

type migrationIn struct {
	ID string `path:"id" doc:"What sys/remount answered."`
}

type migrationOut struct {
	MigrationID   string    `json:"migration_id"`
	MigrationInfo migration `json:"migration_info"`
}

type migration struct {
	SourceMount string `json:"source_mount" audit:"clear"`
	TargetMount string `json:"target_mount" audit:"clear"`
	Status      string `json:"status" audit:"clear"`
}

type uiMountsOut struct {
	Secret MountMap `json:"secret"`
	Auth   MountMap `json:"auth"`
}

// UIMount is the answer to a client that asks which engine serves a path.
type UIMount struct {
	MountInfo
	Path string `json:"path" audit:"clear"`
}

// branch is one of the two places where mounts are administered.
type branch struct {
	parts  *Parts
	class  mount.Class
	noun   string // in the names of operations
	prefix string // of the mounts' paths
}

func mountOps(p *Parts) []op.Op {
	secrets := branch{p, mount.Secrets, "mounts", ""}
	methods := branch{p, mount.Methods, "auth", "auth/"}
	viaMounts := branch{p, mount.Methods, "mounts.auth", "auth/"}
	ops := secrets.ops("mounts", false)
	ops = append(ops, methods.ops("auth", true)...)
	ops = append(ops, viaMounts.one("mounts/auth", false)...)
	return append(ops,
		op.Def[remountIn, remountOut]{
			Name: "system.remount", Verb: op.Update, Path: "remount", Sudo: true, Shape: op.Injected,
			Does: "Move a mount to another path; its secrets stay as they are.",
		}.InTx(p.Core, op.Work[remountIn, remountOut]{Do: remount}),
		op.Def[migrationIn, migrationOut]{
			Name: "system.remount.status", Verb: op.Read, Path: "remount/status/{id}", Does: "Read how a move ended.",
		}.With(p.migration),
		op.Def[op.Nothing, uiMountsOut]{
			Name: "system.ui.mounts", Verb: op.Read, Path: "internal/ui/mounts", Auth: op.Open,
			Does: "List the mounts that the caller can use, or those shown to everyone.",
		}.With(p.uiMounts),
		op.Def[mountPathIn, UIMount]{
			Name: "system.ui.mount", Verb: op.Read, Path: "internal/ui/mounts/{path...}", Auth: op.Open,
			Does: "Say which mount serves a path.",
		}.With(p.uiMount),
	)
}

func (b branch) ops(at string, sudo bool) []op.Op {
	return append(b.one(at, sudo), op.Def[op.Nothing, MountMap]{
		Name: "system." + b.noun + ".list", Verb: op.Read, Path: at, Shape: op.Injected, Does: "List the mounts.",
	}.With(b.list))
}

func (b branch) one(at string, sudo bool) []op.Op {
	ops := []op.Op{
		op.Def[mountPathIn, MountInfo]{
			Name: "system." + b.noun + ".read", Verb: op.Read, Path: at + "/{path...}", Sudo: sudo, Does: "Read a mount.",
		}.With(b.read),
		op.Def[mountPathIn, Tuning]{
			Name: "system." + b.noun + ".tuning", Verb: op.Read, Path: at + "/{path...}/tune", Sudo: sudo, Does: "Read what a mount is tuned to.",
		}.With(b.tuning),
		op.Def[tuneIn, op.Empty]{
			Name: "system." + b.noun + ".tune", Verb: op.Update, Path: at + "/{path...}/tune", Sudo: sudo, Does: "Tune a mount.",
		}.InTx(b.parts.Core, op.Work[tuneIn, op.Empty]{Do: b.tune}),
	}
	if b.noun == "mounts.auth" {
		return ops
	}
	return append(ops,
		op.Def[enableIn, op.Empty]{
			Name: "system." + b.noun + ".enable", Verb: op.Update, Path: at + "/{path...}", Sudo: sudo, Does: "Mount an engine at a path.",
		}.With(b.enable),
		op.Def[mountPathIn, op.Empty]{
			Name: "system." + b.noun + ".disable", Verb: op.Delete, Path: at + "/{path...}", Sudo: sudo,
			Does:  "Remove a mount and everything that it keeps, for ever.",
			Limit: op.Limit{Long: true},
		}.With(b.disable),
	)
}

func (b branch) path(given string) (name.Path, error) { return name.ParseMount(b.prefix + given) }

func (p *Parts) entries(ctx context.Context) ([]mount.Entry, error) {
	m, err := p.Fence.Arrive(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking the store what has changed: %w", err)
	}
	return p.Mounts.Entries(ctx, m)
}

func (b branch) find(ctx context.Context, given string) (mount.Entry, error) {
	path, err := b.path(given)
	if err != nil {
		return mount.Entry{}, err
	}
	entries, err := b.parts.entries(ctx)
	if err != nil {
		return mount.Entry{}, err
	}
	for _, e := range entries {
		if e.Path == path && !e.Closing {
			return e, nil
		}
	}
	return mount.Entry{}, fault.New(fault.Invalid, "No %s engine mount at %s", b.class, path)
}

func (b branch) list(ctx context.Context, _ *op.Call, _ op.Nothing) (MountMap, error) {
	entries, err := b.parts.entries(ctx)
	if err != nil {
		return nil, err
	}
	out := MountMap{}
	for _, e := range entries {
		if !e.Closing && b.lists(&e) {
			out[strings.TrimPrefix(string(e.Path), b.prefix)] = info(&e)
		}
	}
	return out, nil
}

func (b branch) lists(e *mount.Entry) bool {
	return e.Class() == b.class || b.class == mount.Secrets && e.Class() == mount.System
}

func (b branch) read(ctx context.Context, _ *op.Call, in mountPathIn) (MountInfo, error) {
	e, err := b.find(ctx, in.Path)
	return info(&e), err
}

func (b branch) tuning(ctx context.Context, _ *op.Call, in mountPathIn) (Tuning, error) {
	e, err := b.find(ctx, in.Path)
	if err != nil {
		return Tuning{}, err
	}
	limits := b.parts.Mounts.Limits(&e)
	return Tuning{
		DefaultLeaseTTL: wire.Duration(limits.Default), MaxLeaseTTL: wire.Duration(limits.Max), Description: e.Description,
		ForceNoCache: e.Config.ForceNoCache, ListingVisibility: e.Config.ListingVisibility, Options: e.Options, ListFilter: e.Config.ListFilter,
	}, nil
}

func (t tuneConfig) apply(c *mount.Config) error {
	if t.PluginVersion != "" {
		return errPluginVersion()
	}
	if t.DefaultLeaseTTL.given {
		c.DefaultTTL = t.DefaultLeaseTTL.ttl
	}
	if t.MaxLeaseTTL.given {
		c.MaxTTL = t.MaxLeaseTTL.ttl
	}
	if c.MaxTTL > 0 && c.DefaultTTL > c.MaxTTL {
		return fault.New(fault.Invalid, "given default lease TTL greater than max lease TTL")
	}
	if t.ForceNoCache != nil {
		c.ForceNoCache = *t.ForceNoCache
	}
	if t.ListFilter != nil {
		c.ListFilter = *t.ListFilter
	}
	if t.ListingVisibility != nil {
		switch *t.ListingVisibility {
		case "", "hidden", "unauth":
			c.ListingVisibility = *t.ListingVisibility
		default:
			return fault.New(fault.Invalid, "invalid listing_visibility, must be \"hidden\" or \"unauth\"")
		}
	}
	return nil
}

// errPluginVersion refuses to promise an engine of another version than ours.
func errPluginVersion() error {
	return fault.New(fault.Invalid, "engines are part of the server and have no versions to choose from; leave plugin_version out")
}

// warnOfOptions tells the caller of options that nothing will look at. They are
// kept: clients send some and look for them later.
func warnOfOptions(c *op.Call, kind *engine.Kind, options wire.Map) {
	var without []string
	for _, k := range options.Keys() {
		if !slices.Contains(kind.Options, k) {
			without = append(without, k)
		}
	}
	if len(without) > 0 {
		c.Warn("These options mean nothing to a mount of %s and are kept as they are: [%s]", kind.Name, strings.Join(without, " "))
	}
}

func (b branch) enable(ctx context.Context, c *op.Call, in enableIn) (op.Empty, error) {
	path, err := b.path(in.Path)
	if err != nil {
		return op.Empty{}, err
	}
	if b.class == mount.Secrets {
		if err := mount.CheckPath(path); err != nil {
			return op.Empty{}, err
		}
	}
	switch {
	case in.ExternalEntropyAccess:
		// It would be believed that keys come from a hardware source.
		return op.Empty{}, fault.New(fault.Invalid, "there is no external source of entropy here; leave external_entropy_access out")
	case in.PluginVersion != "":
		return op.Empty{}, errPluginVersion()
	}
	kindName := in.Type
	if kindName == "" || kindName == "plugin" {
		kindName = in.PluginName
	}
	if kindName == "" {
		return op.Empty{}, fault.New(fault.Invalid, "backend type must be specified as a string")
	}
	if len(kindName) > name.MaxName {
		return op.Empty{}, fault.New(fault.Invalid, "plugin not found in the catalog")
	}
	kind, implied, err := b.parts.Mounts.Kind(kindName)
	if err != nil {
		return op.Empty{}, err
	}
	if !kind.Mountable() || kind.Method != (b.class == mount.Methods) {
		return op.Empty{}, fault.New(fault.Invalid, "plugin not found in the catalog: %s", kindName)
	}
	e := mount.NewEntry(path, kind.Name)
	e.Description, e.Local, e.SealWrap = in.Description, in.Local, in.SealWrap
	e.Options = map[string]string{}
	maps.Copy(e.Options, in.Options)
	for k, v := range implied {
		if given, ok := in.Options[k]; ok && given != v {
			return op.Empty{}, fault.New(fault.Invalid, "option %s of %s can only be %s", k, kindName, v)
		}
		e.Options[k] = v
	}
	if err := kind.Checked(e.Options); err != nil {
		return op.Empty{}, err
	}
	if err := in.Config.apply(&e.Config); err != nil {
		return op.Empty{}, err
	}
	id, err := barrier.ParseSpaceID(e.ID)
	if err != nil {
		return op.Empty{}, err
	}
	if err := b.parts.Core.View(ctx, func(r storage.Reader) error { return mount.Check(r, &e) }); err != nil {
		return op.Empty{}, err
	}
	// The key comes first: a crash before the mount exists leaves a key that nothing uses.
	if err := b.parts.Barrier.AddSpace(storage.WithRider(ctx, nil), id); err != nil {
		return op.Empty{}, fmt.Errorf("making the mount's key: %w", err)
	}
	err = b.parts.Core.Update(ctx, storage.Locks{Own: []string{mount.Scope}}, func(tx storage.Tx) error { return mount.Add(tx, e) })
	if err != nil && !errors.Is(err, storage.ErrUnknown) {
		err = errors.Join(err, b.parts.Barrier.DropSpace(storage.WithRider(context.WithoutCancel(ctx), nil), id))
	}
	if in.SealWrap {
		c.Warn("seal_wrap has no effect: every value is encrypted under keys that the seal guards, and none is wrapped by the seal once more.")
	}
	warnOfOptions(c, &kind, in.Options)
	return op.Empty{}, err
}

func (b branch) tune(tx storage.Tx, c *op.Call, in tuneIn) (op.Empty, error) {
	path, err := b.path(in.Path)
	if err != nil {
		return op.Empty{}, err
	}
	config := tuneConfig{in.DefaultLeaseTTL, in.MaxLeaseTTL, in.ForceNoCache, in.ListingVisibility, in.ListFilter, in.PluginVersion}
	return op.Empty{}, mount.Change(tx, path, func(e *mount.Entry) error {
		if in.Description != nil {
			e.Description = *in.Description
		}
		if err := config.apply(&e.Config); err != nil {
			return err
		}
		if len(in.Options) == 0 {
			return nil
		}
		kind, _, err := b.parts.Mounts.Kind(e.Kind)
		if err != nil {
			return err
		}
		options := maps.Clone(e.Options)
		if options == nil {
			options = map[string]string{}
		}
		maps.Copy(options, in.Options)
		if err := kind.Checked(options); err != nil {
			return err
		}
		if e.Options["version"] == "2" && options["version"] == "1" {
			return fault.New(fault.Invalid, "cannot downgrade mount from version 2")
		}
		e.Options = options
		warnOfOptions(c, &kind, in.Options)
		return nil
	})
}

func (b branch) disable(ctx context.Context, c *op.Call, in mountPathIn) (op.Empty, error) {
	path, err := b.path(in.Path)
	if err != nil {
		return op.Empty{}, err
	}
	if b.class == mount.Secrets && mount.CheckPath(path) != nil {
		return op.Empty{}, fault.New(fault.Invalid, "cannot unmount %q", string(path))
	}
	var closed mount.Entry
	err = b.parts.Core.Update(ctx, storage.Locks{Own: []string{mount.Scope}}, func(tx storage.Tx) error {
		closed, err = mount.Close(tx, path)
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return op.Empty{}, nil // removing what is not there is no error, as clients expect
	}
	if err != nil {
		return op.Empty{}, err
	}
	within, cancel := context.WithTimeout(storage.WithRider(ctx, nil), 20*time.Second)
	defer cancel()
	if err := b.parts.Mounts.Finish(within, closed); err != nil {
		b.parts.Log.LogAttrs(ctx, slog.LevelWarn, "removing a mount goes on in the background", slog.String("mount", closed.Accessor), slog.Any("cause", err))
		c.Warn("The mount is closed; what it kept is being removed in the background.")
		b.parts.Unmounting()
	}
	return op.Empty{}, nil
}

func remount(tx storage.Tx, _ *op.Call, in remountIn) (remountOut, error) {
	from, err := name.ParseMount(in.From)
	if err != nil {
		return remountOut{}, err
	}
	to, err := name.ParseMount(in.To)
	if err != nil {
		return remountOut{}, err
	}
	if !strings.HasPrefix(string(to), "auth/") {
		if err := mount.CheckPath(to); err != nil {
			return remountOut{}, err
		}
	}
	id := uuid.NewString()
	return remountOut{id}, mount.Move(tx, id, from, to)
}

// migration answers what became of a move: it was made, for a move is one
// transaction.
func (p *Parts) migration(ctx context.Context, _ *op.Call, in migrationIn) (migrationOut, error) {
	var moves []mount.Moved
	err := p.Core.View(ctx, func(r storage.Reader) (err error) {
		moves, err = mount.Moves(r)
		return err
	})
	if err != nil {
		return migrationOut{}, err
	}
	i := slices.IndexFunc(moves, func(m mount.Moved) bool { return m.ID == in.ID })
	if i < 0 {
		return migrationOut{}, fault.New(fault.NotFound, "")
	}
	return migrationOut{in.ID, migration{string(moves[i].From), string(moves[i].To), "success"}}, nil
}

func (p *Parts) uiMounts(ctx context.Context, c *op.Call, _ op.Nothing) (uiMountsOut, error) {
	entries, err := p.entries(ctx)
	if err != nil {
		return uiMountsOut{}, err
	}
	out := uiMountsOut{MountMap{}, MountMap{}}
	for _, e := range entries {
		known := c.Sees != nil && c.Sees(string(e.Path))
		if e.Closing || e.Class() == mount.System || !known && e.Config.ListingVisibility != "unauth" {
			continue
		}
		shown := info(&e)
		if !known { // the world learns no more than that it is there
			shown = MountInfo{Description: e.Description, Type: e.Kind, Options: e.Options}
		}
		if e.Class() == mount.Methods {
			out.Auth[strings.TrimPrefix(string(e.Path), "auth/")] = shown
		} else {
			out.Secret[string(e.Path)] = shown
		}
	}
	return out, nil
}

func (p *Parts) uiMount(ctx context.Context, c *op.Call, in mountPathIn) (UIMount, error) {
	denied := fault.New(fault.Denied, "preflight capability check returned 403, please ensure client's policies grant access to path %q", string(name.Path(in.Path).Dir()))
	if c.Sees == nil {
		return UIMount{}, denied
	}
	path, err := name.ParsePath(in.Path)
	if err != nil {
		return UIMount{}, err
	}
	m, err := p.Fence.Arrive(ctx)
	if err != nil {
		return UIMount{}, fmt.Errorf("asking the store what has changed: %w", err)
	}
	found, _, err := p.Mounts.Find(ctx, m, path)
	if fault.Is(err, fault.NoRoute) {
		return UIMount{}, denied
	}
	if err != nil {
		return UIMount{}, err
	}
	if !c.Sees(string(found.Entry.Path)) {
		return UIMount{}, denied
	}
	return UIMount{info(&found.Entry), string(found.Entry.Path)}, nil
}
