package system

import (
	"context"
	"time"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/keys"
	"rotunda.dev/rotunda/internal/mount"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/wire"
)

type keyStatus struct {
	Term        int       `json:"term" doc:"Number of the term."`
	InstallTime wire.Time `json:"install_time" doc:"When it began."`
	Encryptions int64     `json:"encryptions" doc:"How often something was encrypted in it; after a crash a little too high, and never too low."`
}

// RotateConfig is when keys are rotated without being asked.
type RotateConfig struct {
	Enabled       bool     `json:"enabled" doc:"Keys are rotated without being asked."`
	MaxOperations int64    `json:"max_operations" doc:"Encryptions after which a key is rotated."`
	Interval      interval `json:"interval" doc:"Age at which the keyring begins a term; 0 is never."`
	MountInterval interval `json:"mount_interval" doc:"Age at which the key of a mount is rotated; 0 is never."`
}

// interval is a duration as it is read from this configuration: text, or the
// number 0 for never.
type interval string

// MarshalJSON implements json.Marshaler.
func (i interval) MarshalJSON() ([]byte, error) {
	if i == "0s" {
		return []byte("0"), nil
	}
	return []byte(`"` + i + `"`), nil
}

type rotateConfigIn struct {
	Enabled       *bool          `json:"enabled" doc:"Rotate keys without being asked."`
	MaxOperations *int64         `json:"max_operations" doc:"Encryptions under a term, or under one key of a mount, after which it is rotated."`
	Interval      *wire.Duration `json:"interval" doc:"Age at which the keyring begins a term; 0 is never."`
	MountInterval *wire.Duration `json:"mount_interval" doc:"Age at which the key of a mount is rotated; 0 is never."`
}

// MountKey is how the key of a mount stands.
type MountKey struct {
	Generation  int64     `json:"generation" doc:"Number of the key under which everything is written."`
	InstallTime wire.Time `json:"install_time" doc:"When it was made."`
	Encryptions int64     `json:"encryptions" doc:"How often something was encrypted under it."`
	Rotating    bool      `json:"rotating" doc:"There is something under an older key, which is not destroyed yet."`
	Begun       wire.Time `json:"begun,omitzero" doc:"When bringing it under the new key began."`
	Pass        int       `json:"pass,omitzero" doc:"How often all that is kept is being looked through; the last time finds nothing."`
	Rewrapped   int64     `json:"rewrapped,omitzero" doc:"Rows that were brought under the new key."`
	Failure     string    `json:"failure,omitzero" audit:"clear" doc:"Set where the last attempt failed."`
}

// rotateOps are what turns the keys of the store: the term of the keyring, and
// the keys of mounts.
func rotateOps(p *Parts) []op.Op {
	turn := func(ctx context.Context, _ *op.Call, _ op.Nothing) (op.Empty, error) {
		_, err := p.Keys.TurnTerm(ctx)
		return op.Empty{}, err
	}
	ops := []op.Op{
		op.Def[op.Nothing, keyStatus]{
			Name: "system.key-status", Verb: op.Read, Path: "key-status", Shape: op.Injected,
			Does: "Say which term of the keyring is in use, since when, and how often something was encrypted in it.",
		}.With(func(context.Context, *op.Call, op.Nothing) (keyStatus, error) {
			term, since := p.Barrier.Term()
			return keyStatus{term, wire.Time(since), p.Barrier.Encryptions()}, nil
		}),
		op.Def[op.Nothing, op.Empty]{
			Name: "system.rotate.keyring", Verb: op.Update, Path: "rotate/keyring", Sudo: true,
			Does: "Begin a term of the keyring; the keys of mounts come under it in the background.",
		}.With(turn),
		op.Def[op.Nothing, op.Empty]{
			Name: "system.rotate", Verb: op.Update, Path: "rotate", Sudo: true, Hidden: true,
			Does: "Begin a term of the keyring; the keys of mounts come under it in the background.",
		}.With(turn),
		op.Def[op.Nothing, RotateConfig]{
			Name: "system.rotate.config.read", Verb: op.Read, Path: "rotate/config", Shape: op.Injected, Does: "Read when keys are rotated without being asked.",
		}.With(func(ctx context.Context, _ *op.Call, _ op.Nothing) (out RotateConfig, err error) {
			err = p.Core.View(ctx, func(r storage.Reader) error {
				policy, err := keys.ReadPolicy(r)
				out = RotateConfig{policy.Enabled, policy.MaxOperations, interval(policy.Interval.String()), interval(policy.SpaceInterval.String())}
				return err
			})
			return out, err
		}),
		op.Def[rotateConfigIn, op.Empty]{
			Name: "system.rotate.config.write", Verb: op.Update, Path: "rotate/config", Does: "Say when keys are rotated without being asked; what is left out stays as it is.",
		}.InTx(p.Core, op.Work[rotateConfigIn, op.Empty]{
			Locks: func(*op.Call, rotateConfigIn) storage.Locks { return storage.Locks{Own: []string{keys.Scope}} },
			Do:    configureRotation,
		}),
	}
	for _, at := range []struct{ name, path, prefix string }{{"mounts", "mounts", ""}, {"mounts.auth", "mounts/auth", "auth/"}} {
		ops = append(ops,
			op.Def[mountPathIn, MountKey]{
				Name: "system." + at.name + ".rotate.status", Verb: op.Read, Path: at.path + "/{path...}/rotate", Does: "Say how the key of a mount stands.",
			}.With(func(ctx context.Context, _ *op.Call, in mountPathIn) (MountKey, error) {
				return p.mountKey(ctx, at.prefix+in.Path)
			}),
			op.Def[mountPathIn, op.Empty]{
				Name: "system." + at.name + ".rotate", Verb: op.Update, Path: at.path + "/{path...}/rotate", Sudo: true,
				Does: "Rotate the key of a mount; what it keeps comes under the new one in the background, and then the old one is destroyed.",
			}.With(func(ctx context.Context, _ *op.Call, in mountPathIn) (op.Empty, error) {
				id, err := p.spaceOf(ctx, at.prefix+in.Path)
				if err == nil {
					_, err = p.Keys.TurnSpace(ctx, id)
				}
				return op.Empty{}, err
			}),
		)
	}
	return ops
}

func configureRotation(tx storage.Tx, _ *op.Call, in rotateConfigIn) (op.Empty, error) {
	policy, err := keys.ReadPolicy(tx)
	if err != nil {
		return op.Empty{}, err
	}
	if in.Enabled != nil {
		policy.Enabled = *in.Enabled
	}
	if in.MaxOperations != nil {
		policy.MaxOperations = *in.MaxOperations
	}
	if in.Interval != nil {
		policy.Interval = time.Duration(*in.Interval)
	}
	if in.MountInterval != nil {
		policy.SpaceInterval = time.Duration(*in.MountInterval)
	}
	if err := policy.Check(); err != nil {
		return op.Empty{}, err
	}
	return op.Empty{}, keys.WritePolicy(tx, policy)
}

func (p *Parts) mountKey(ctx context.Context, path string) (MountKey, error) {
	id, err := p.spaceOf(ctx, path)
	if err != nil {
		return MountKey{}, err
	}
	s, err := p.Keys.Status(ctx, id)
	return MountKey{
		Generation: int64(s.Generation), InstallTime: wire.Time(s.Since), Encryptions: s.Seals,
		Rotating: s.Turning, Begun: wire.Time(s.Begun), Pass: s.Pass, Rewrapped: s.Changed, Failure: s.Failure,
	}, err
}

// spaceOf returns the space in which the mount at a path keeps what it keeps.
// The server's own mounts share two.
func (p *Parts) spaceOf(ctx context.Context, given string) (barrier.SpaceID, error) {
	path, err := name.ParseMount(given)
	if err != nil {
		return barrier.SpaceID{}, err
	}
	entries, err := p.entries(ctx)
	if err != nil {
		return barrier.SpaceID{}, err
	}
	for _, e := range entries {
		switch {
		case e.Path != path || e.Closing:
		case e.Class() == mount.System:
			return barrier.Core, nil
		case e.Fixed:
			return barrier.Tokens, nil
		default:
			return barrier.ParseSpaceID(e.ID)
		}
	}
	return barrier.SpaceID{}, fault.New(fault.Invalid, "No engine mount at %s", path)
}
