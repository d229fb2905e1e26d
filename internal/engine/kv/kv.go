// Package kv is the engine for secrets that people and programs write
// themselves: JSON objects at paths, with their versions.
//
// Version 2, the one to use, serves the history of a secret: [Read], [Write],
// [Patch], [Delete] and the rest. Version 1 serves one value a path and no
// history: [Read1], [Write1]. Both keep secrets in the same form, package
// safe's, so that a mount becomes version 2 by a change of its options.
//
// What a secret holds is kept byte for byte as it was sent: it is never decoded
// and encoded again, so 18446744073709551615 and 1.10 come back as they went in.
package kv

import (
	"context"
	"errors"
	"fmt"

	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/safe"
	"rotunda.dev/rotunda/internal/storage"
)

// Kind is the engine, as it is mounted.
var Kind = engine.Kind{
	Name: "kv",
	Does: "Keeps secrets as JSON objects at paths, with their versions.",
	Aliases: map[string]map[string]string{
		"kv-v1":   {optionVersion: "1"},
		"kv-v2":   {optionVersion: "2"},
		"generic": {optionVersion: "1"},
	},
	Options: []string{optionVersion, optionListFilter},
	Check:   check,
	Open:    open,
}

// The options of a mount.
const (
	optionVersion    = "version"     // "1", the default, or "2"
	optionListFilter = "list_filter" // "true": lists show only what the caller may see
)

// check leaves options aside that mean nothing here: clients send some, such
// as "type", and look for them later.
func check(options map[string]string) error {
	for k, v := range options {
		switch k {
		case optionVersion:
			if v != "" && v != "1" && v != "2" {
				return fault.New(fault.Invalid, "the version of a kv mount is 1 or 2")
			}
		case optionListFilter:
			if v != "true" && v != "false" {
				return fault.New(fault.Invalid, "list_filter is true or false")
			}
		}
	}
	return nil
}

// mounted is one mount of the engine.
type mounted struct {
	env    engine.Env
	safe   *safe.Safe
	filter bool // every list shows only what the caller may see
}

func open(_ context.Context, env engine.Env) (engine.Instance, error) {
	if err := check(env.Options); err != nil {
		return engine.Instance{}, fmt.Errorf("opening a kv mount: %w", err)
	}
	env.Limits = env.Limits.WithDefaults()
	m := &mounted{env: env, safe: safe.New(env.Values), filter: env.Options[optionListFilter] == "true"}
	ops := m.ops1()
	if env.Options[optionVersion] == "2" {
		ops = m.ops2()
	}
	return engine.Instance{Ops: ops, Drain: m.drain, Keys: safe.Heads{}}, nil
}

func (m *mounted) drain(ctx context.Context) (more bool, err error) {
	if more, err = m.safe.Drain(ctx, m.env.Store); err != nil || more {
		return more, err
	}
	err = m.env.Store.Update(ctx, storage.Locks{Own: []string{configScope}}, func(tx storage.Tx) error {
		tx.Delete(configKey)
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("removing the configuration: %w", err)
	}
	return false, nil
}

func (m *mounted) ops2() []op.Op {
	store := m.env.Store
	return []op.Op{
		Read.With(m.read),
		Write.InTx(store, op.Work[WriteIn, VersionOut]{Locks: writeLocks, Exists: m.writeExists, Do: m.write}),
		Patch.InTx(store, op.Work[PatchIn, VersionOut]{Locks: patchLocks, Do: m.patch}),
		Delete.InTx(store, op.Work[PathIn, op.Empty]{Locks: pathLocks, Do: m.delete}),
		DeleteVersions.InTx(store, op.Work[VersionsIn, op.Empty]{Locks: versionsLocks, Do: m.deleteVersions}),
		Undelete.InTx(store, op.Work[VersionsIn, op.Empty]{Locks: versionsLocks, Do: m.undelete}),
		Destroy.InTx(store, op.Work[VersionsIn, op.Empty]{Locks: versionsLocks, Do: m.destroy}),
		Subkeys.With(m.subkeys),
		ReadMetadata.With(m.readMetadata),
		WriteMetadata.InTx(store, op.Work[MetadataIn, op.Empty]{Locks: metadataLocks, Exists: m.metadataExists, Do: m.writeMetadata}),
		PatchMetadata.InTx(store, op.Work[MetadataPatchIn, op.Empty]{Locks: metadataPatchLocks, Do: m.patchMetadata}),
		DeleteMetadata.With(m.deleteMetadata),
		List.With(m.list),
		ListDetailed.With(m.listDetailed),
		ReadConfig.With(m.readConfig),
		WriteConfig.InTx(store, op.Work[ConfigIn, op.Empty]{Locks: configLocks, Do: m.writeConfig}),
	}
}

// PathIn names a secret.
type PathIn struct {
	Path string `path:"path" doc:"Path of the secret."`
}

// Validate reports a request that can never be right.
func (in PathIn) Validate() error { return checkPath(in.Path) }

func checkPath(path string) error {
	if path == "" {
		return fault.New(fault.Invalid, "missing path")
	}
	return nil
}

func pathLocks(_ *op.Call, in PathIn) storage.Locks { return locks(in.Path) }

// locks are those of a change to the secret at path.
func locks(path string) storage.Locks {
	return storage.Locks{Own: []string{safe.Scope(path)}, Join: []string{configScope}}
}

// errNone is the answer where there is no such thing.
func errNone() error { return fault.New(fault.NotFound, "") }

// noneOr turns [safe.ErrNone] into the caller's business.
func noneOr(err error) error {
	if errors.Is(err, safe.ErrNone) {
		return errNone()
	}
	return err
}

func (m *mounted) exists(r storage.Reader, path string) (bool, error) {
	_, err := m.safe.Find(r, path)
	if errors.Is(err, safe.ErrNone) {
		return false, nil
	}
	return err == nil, err
}
