package vault

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/door/doortest"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/wire"
)

// The operations here have one of everything that a door must handle.

type readIn struct {
	Path    string `path:"path" doc:"Name of the secret."`
	Version int    `query:"version" doc:"Version to read; 0 is the newest."`
}

type versionOut struct {
	CreatedTime    wire.Time `json:"created_time"`
	CustomMetadata wire.Map  `json:"custom_metadata"`
	DeletionTime   wire.Time `json:"deletion_time"`
	Destroyed      bool      `json:"destroyed"`
	Version        int       `json:"version"`
}

type readOut struct {
	Data     secret.JSON `json:"data" doc:"What was stored, byte for byte."`
	Metadata versionOut  `json:"metadata"`
}

type writeIn struct {
	Path    string      `path:"path" doc:"Name of the secret."`
	Data    secret.JSON `json:"data" doc:"What to store."`
	Options struct {
		CAS *int `json:"cas" doc:"Number of the version that this one replaces."`
	} `json:"options"`
}

type listIn struct {
	Path  string `path:"path"`
	After string `json:"after" doc:"Where the list begins."`
	Limit int    `json:"limit" doc:"How many at most."`
}

type listOut struct {
	Keys []string `json:"keys"`
}

type everyIn struct {
	Name     name.Name         `path:"name"`
	Bool     bool              `json:"bool" doc:"A truth."`
	Int      int               `json:"int" doc:"A whole number."`
	Small    int8              `json:"small"`
	Uint     uint32            `json:"uint"`
	Float    float64           `json:"float"`
	Text     string            `json:"text"`
	TTL      wire.Duration     `json:"ttl" doc:"A length of time."`
	Strings  wire.Strings      `json:"strings" doc:"A list."`
	Map      wire.Map          `json:"map" doc:"A map."`
	Versions []int             `json:"versions"`
	Counts   map[string]int    `json:"counts"`
	Password secret.Text       `json:"password" doc:"A secret."`
	Key      secret.Bytes      `json:"key"`
	Whole    secret.JSON       `json:"whole"`
	Pointer  *int              `json:"pointer"`
	Policy   name.Name         `json:"policy"`
	At       name.Path         `json:"at"`
	Config   *everyConfig      `json:"config"`
	Labels   map[string]string `json:"labels"`
	Where    string            `query:"where"`
}

type everyConfig struct {
	TTL  wire.Duration `json:"ttl"`
	Deep struct {
		Flag bool `json:"flag"`
	} `json:"deep"`
}

type everyOut struct {
	Text     string            `json:"text"`
	TTL      wire.Duration     `json:"ttl"`
	Strings  wire.Strings      `json:"strings"`
	Map      wire.Map          `json:"map"`
	Versions []int             `json:"versions"`
	Password secret.Text       `json:"password"`
	Whole    secret.JSON       `json:"whole"`
	Pointer  *int              `json:"pointer"`
	Float    float64           `json:"float"`
	Labels   map[string]string `json:"labels,omitempty"`
	Missing  string            `json:"missing,omitzero"`
	Where    string            `json:"where,omitzero"`
	Bool     bool              `json:"bool"`
}

type loginIn struct {
	User     string      `path:"user"`
	Password secret.Text `json:"password"`
}

type wholeIn struct {
	Body secret.JSON `body:"whole"`
}

type mapOut map[string]string

func sampleOps() []door.MountedOps {
	at := time.Date(2026, 11, 23, 16, 5, 20, 571214795, time.UTC)
	get := op.Def[readIn, readOut]{Name: "sample.get", Verb: op.Read, Path: "data/{path...}", Does: "Read one version of a secret."}.With(
		func(_ context.Context, _ *op.Call, in readIn) (readOut, error) {
			meta := versionOut{CreatedTime: wire.Time(at), Version: max(in.Version, 1)}
			switch in.Path {
			case "absent":
				return readOut{}, fault.New(fault.NotFound, "")
			case "deleted":
				meta.DeletionTime = wire.Time(at)
				return readOut{Metadata: meta}, fault.New(fault.Deleted, "")
			case "broken":
				return readOut{}, context.DeadlineExceeded
			}
			return readOut{Data: secret.NewJSON([]byte(`{"n":18446744073709551615, "s":"\u0041<b>"}`)), Metadata: meta}, nil
		})
	write := op.Def[writeIn, versionOut]{Name: "sample.write", Verb: op.Update, Path: "data/{path...}", Does: "Write a secret."}.With(
		func(_ context.Context, _ *op.Call, in writeIn) (versionOut, error) {
			if in.Options.CAS != nil && *in.Options.CAS != 0 {
				return versionOut{}, fault.New(fault.Conflict, "check-and-set parameter did not match the current version")
			}
			return versionOut{CreatedTime: wire.Time(at), CustomMetadata: wire.Map{"by": "us"}, Version: 1}, nil
		})
	patch := op.Def[writeIn, versionOut]{Name: "sample.patch", Verb: op.Patch, Path: "data/{path...}", Does: "Patch a secret."}.With(
		func(context.Context, *op.Call, writeIn) (versionOut, error) {
			return versionOut{CreatedTime: wire.Time(at), Version: 2}, nil
		})
	remove := op.Def[readIn, op.Empty]{Name: "sample.delete", Verb: op.Delete, Path: "data/{path...}", Does: "Delete a secret."}.With(
		func(context.Context, *op.Call, readIn) (op.Empty, error) { return op.Empty{}, nil })
	list := op.Def[listIn, listOut]{Name: "sample.list", Verb: op.List, Path: "data/{path...}", Does: "List secrets."}.With(
		func(_ context.Context, _ *op.Call, in listIn) (listOut, error) {
			if in.Limit == 1 {
				return listOut{Keys: []string{in.Path + in.After}}, nil
			}
			return listOut{Keys: []string{"a", "b/"}}, nil
		})
	every := op.Def[everyIn, everyOut]{Name: "sample.every", Verb: op.Update, Path: "every/{name}", Does: "Take one of each type."}.With(
		func(_ context.Context, _ *op.Call, in everyIn) (everyOut, error) {
			return everyOut{
				Text: in.Text, TTL: in.TTL, Strings: in.Strings, Map: in.Map, Versions: in.Versions, Password: in.Password,
				Whole: in.Whole, Pointer: in.Pointer, Float: in.Float, Labels: in.Labels, Where: in.Where, Bool: in.Bool,
			}, nil
		})
	empty := op.Def[everyIn, op.Empty]{Name: "sample.empty", Verb: op.Update, Path: "empty/{name}", Does: "Answer nothing."}.With(
		func(context.Context, *op.Call, everyIn) (op.Empty, error) { return op.Empty{}, nil })
	whole := op.Def[wholeIn, secret.JSON]{Name: "sample.whole", Verb: op.Update, Path: "whole", Does: "Give the body back."}.With(
		func(_ context.Context, _ *op.Call, in wholeIn) (secret.JSON, error) { return in.Body, nil })
	self := op.Def[op.Nothing, mapOut]{Name: "sample.injected", Verb: op.Read, Path: "injected", Shape: op.Injected, Does: "Answer twice."}.With(
		func(context.Context, *op.Call, op.Nothing) (mapOut, error) {
			return mapOut{"data": "x", "secret/": "kv"}, nil
		})
	login := op.Def[loginIn, op.Empty]{Name: "sample.login", Verb: op.Update, Path: "login/{user}", Auth: op.Login, Does: "Sign in."}.With(
		func(_ context.Context, c *op.Call, in loginIn) (op.Empty, error) {
			if !in.Password.Equal(secret.New("right")) {
				return op.Empty{}, fault.New(fault.Invalid, "invalid username or password")
			}
			c.Reply.Auth = &op.Grant{
				ClientToken: secret.New("hvs.tokentokentoken"), Accessor: "abcdefghijklmnopqrstuvwx", Policies: []name.Name{"default"},
				TokenPolicies: []name.Name{"default"}, Metadata: map[string]string{"username": in.User}, TTL: time.Hour, Renewable: true, Kind: "service", Orphan: true,
			}
			return op.Empty{}, nil
		})
	wrap := op.Def[op.Nothing, op.Empty]{Name: "sample.wrap", Verb: op.Read, Path: "wrap", Does: "Answer a wrapping."}.With(
		func(_ context.Context, c *op.Call, _ op.Nothing) (op.Empty, error) {
			c.Reply.Wrap = &op.Wrap{Token: secret.New("hvs.wrappingtoken"), Accessor: "acc", TTL: c.WrapTTL, CreationTime: at, CreationPath: "secret/wrap"}
			return op.Empty{}, nil
		})
	lent := op.Def[op.Nothing, listOut]{Name: "sample.lease", Verb: op.Read, Path: "lease", Does: "Lend."}.With(
		func(_ context.Context, c *op.Call, _ op.Nothing) (listOut, error) {
			c.Reply.Lease = &op.Lease{ID: "secret/lease/abc", TTL: time.Minute, Renewable: true}
			c.Warn("a warning with %q", "quotes")
			return listOut{}, nil
		})
	raw := op.Def[op.Nothing, op.Raw]{Name: "sample.raw", Verb: op.Read, Path: "raw", Auth: op.Open, Shape: op.Bare, Does: "Answer text."}.With(
		func(context.Context, *op.Call, op.Nothing) (op.Raw, error) {
			return op.Raw{ContentType: "text/plain; charset=utf-8", Body: []byte("metrics 1\n")}, nil
		})
	health := op.Def[op.Nothing, mapOut]{Name: "sample.health", Verb: op.Read, Path: "health", Auth: op.Open, Sealed: true, Shape: op.Bare, Does: "Say how the server is."}.With(
		func(_ context.Context, c *op.Call, _ op.Nothing) (mapOut, error) {
			c.Reply.Status = 501
			return mapOut{"initialized": "no"}, nil
		})
	return []door.MountedOps{
		{Mount: op.Mount{Path: "secret/", Kind: "kv", Accessor: "kv_00000000"}, Ops: []op.Op{get, write, patch, remove, list, every, empty, whole, self, login, wrap, lent}},
		{Mount: op.Mount{Path: "sys/", Kind: "system"}, Ops: []op.Op{raw, health}},
	}
}

func newFake() *doortest.Fake {
	return &doortest.Fake{Mounts: sampleOps(), Allow: func(token string, _ op.Ask) error {
		if token != "hvs.good" {
			return fault.New(fault.Denied, "permission denied")
		}
		return nil
	}}
}

func newDoor(f *doortest.Fake) http.Handler {
	return New(door.Env{Handler: f, Clock: clocktest.New(time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)), Log: slog.New(slog.DiscardHandler)})
}

func TestGolden(t *testing.T) {
	doortest.Run(t, "testdata", func(*testing.T) (http.Handler, map[string]string) {
		return newDoor(newFake()), map[string]string{"TOKEN": "hvs.good"}
	})
}
