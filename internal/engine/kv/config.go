package kv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/safe"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/wire"
)

// The configuration of a mount is one row, JSON; it is not there until someone
// writes it.
const (
	configScope  = "c"
	configFormat = 1
)

var configKey = storage.Key{Scope: configScope, Row: "config"}

// nanoseconds is a time.Duration in that row.
type nanoseconds = int64

type config struct {
	Format      int         `json:"format"`
	MaxVersions int         `json:"max_versions"`
	CASRequired bool        `json:"cas_required"`
	DeleteAfter nanoseconds `json:"delete_version_after"` // negative: no secret's versions are deleted by time
}

func readConfig(r storage.Reader) (*config, error) {
	b, err := r.Get(configKey)
	if errors.Is(err, storage.ErrNotFound) {
		return &config{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	var c config
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w: %w", storage.ErrCorrupt, err)
	}
	if c.Format != configFormat {
		return nil, fmt.Errorf("reading the configuration: format %d: %w", c.Format, storage.ErrNewer)
	}
	return &c, nil
}

// keep returns how many versions x keeps, by default where nobody says.
func (c *config) keep(x *safe.Secret, byDefault int) int {
	switch {
	case x.Settings.MaxVersions > 0:
		return x.Settings.MaxVersions
	case c.MaxVersions > 0:
		return c.MaxVersions
	}
	return byDefault
}

// deletion returns when a version of x that is made now will be deleted, by
// the shorter of the times that the mount and the secret have; zero for never.
func (c *config) deletion(x *safe.Secret, now time.Time) time.Time {
	after, mounts := x.Settings.DeleteAfter, time.Duration(c.DeleteAfter)
	switch {
	case mounts < 0:
		return time.Time{}
	case after == 0 || mounts > 0 && mounts < after:
		after = mounts
	}
	if after == 0 {
		return time.Time{}
	}
	return now.UTC().Add(after)
}

// ReadConfig reads what holds for every secret of the mount.
var ReadConfig = op.Def[op.Nothing, ConfigOut]{
	Name: "kv.config-read", Verb: op.Read, Path: "config",
	Does: "Read what holds for every secret of the mount.",
}

// ConfigOut is what holds for every secret of the mount.
type ConfigOut struct {
	CASRequired        bool   `json:"cas_required" doc:"Whether every write must say which version it replaces."`
	DeleteVersionAfter string `json:"delete_version_after" audit:"clear" doc:"Time after which a version is deleted; 0s is never."`
	MaxVersions        int    `json:"max_versions" doc:"How many versions a secret keeps; 0 is as the server says, 10 unless it is configured otherwise."`
}

func (m *mounted) readConfig(ctx context.Context, _ *op.Call, _ op.Nothing) (ConfigOut, error) {
	var out ConfigOut
	err := m.env.Store.View(ctx, func(r storage.Reader) error {
		c, err := readConfig(r)
		if err != nil {
			return err
		}
		out = ConfigOut{CASRequired: c.CASRequired, DeleteVersionAfter: time.Duration(c.DeleteAfter).String(), MaxVersions: c.MaxVersions}
		return nil
	})
	return out, err
}

// WriteConfig changes what holds for every secret of the mount.
var WriteConfig = op.Def[ConfigIn, op.Empty]{
	Name: "kv.config-write", Verb: op.Update, Path: "config",
	Does: "Change what holds for every secret of the mount.",
}

// ConfigIn is what is to hold for every secret of the mount; what is nil stays
// as it is.
type ConfigIn struct {
	CASRequired        *bool     `json:"cas_required" doc:"Whether every write must say which version it replaces."`
	DeleteVersionAfter *Lifetime `json:"delete_version_after" doc:"Time after which a version is deleted; 0s is never, -1s is never and no secret can say otherwise."`
	MaxVersions        *int      `json:"max_versions" doc:"How many versions a secret keeps, at most 1000; 0 is as the server says, 10 unless it is configured otherwise."`
}

// Validate reports a request that can never be right.
func (in ConfigIn) Validate() error { return checkMaxVersions(in.MaxVersions) }

func checkMaxVersions(n *int) error {
	if n != nil && (*n < 0 || *n > safe.MaxVersions) {
		return fault.New(fault.Invalid, "max_versions is a number from 0 to %d", safe.MaxVersions)
	}
	return nil
}

func configLocks(*op.Call, ConfigIn) storage.Locks { return storage.Locks{Own: []string{configScope}} }

func (m *mounted) writeConfig(tx storage.Tx, _ *op.Call, in ConfigIn) (op.Empty, error) {
	if in == (ConfigIn{}) {
		return op.Empty{}, nil
	}
	c, err := readConfig(tx)
	if err != nil {
		return op.Empty{}, err
	}
	c.Format = configFormat
	if in.CASRequired != nil {
		c.CASRequired = *in.CASRequired
	}
	if in.DeleteVersionAfter != nil {
		c.DeleteAfter = nanoseconds(*in.DeleteVersionAfter)
	}
	if in.MaxVersions != nil {
		c.MaxVersions = *in.MaxVersions
	}
	b, err := json.Marshal(c)
	if err != nil {
		return op.Empty{}, fmt.Errorf("writing the configuration: %w", err)
	}
	tx.Put(configKey, b)
	return op.Empty{}, nil
}

// Lifetime is how long a version lasts. It is read as a [wire.Duration], and
// also from what is negative, which is kept as -1 second and means for ever,
// whatever else is said.
type Lifetime time.Duration

const forEver = Lifetime(-time.Second)

// UnmarshalJSON implements json.Unmarshaler.
func (l *Lifetime) UnmarshalJSON(b []byte) error {
	text := string(b)
	if jsontext.Value(b).Kind() == '"' {
		if err := json.Unmarshal(b, &text); err != nil {
			return fmt.Errorf("reading a duration: %w", err)
		}
	}
	negative := len(text) > 1 && text[0] == '-'
	if negative {
		b = []byte(`"` + text[1:] + `"`)
		if !jsontext.Value(b).IsValid() {
			return fault.New(fault.Invalid, "malformed duration")
		}
	}
	var d wire.Duration
	if err := d.UnmarshalJSON(b); err != nil {
		return err
	}
	*l = Lifetime(d)
	if negative && d > 0 {
		*l = forEver
	}
	return nil
}

// MarshalJSON writes whole seconds.
func (l Lifetime) MarshalJSON() ([]byte, error) { return wire.Duration(l).MarshalJSON() }
