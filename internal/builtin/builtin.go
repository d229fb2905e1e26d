// Package builtin lists what this server is built with. To add an engine, a
// store or a door, add its folder and one line here.
package builtin

import (
	"log/slog"
	"time"

	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/door/vault"
	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/engine/kv"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/bolt"
)

// Engines are the kinds of engine that can be mounted.
var Engines = []engine.Kind{
	kv.Kind,
}

// Dialects are the wire APIs that a listener can speak.
var Dialects = []door.Dialect{
	vault.Dialect,
}

// StoreConfig is what every store is told.
type StoreConfig struct {
	Dir     string
	Clock   clock.Clock
	Log     *slog.Logger
	MaxSize int64 // bytes; 0 is no bound

	Patience time.Duration // that an Update has with the disk; 0 for the store's own

	// Commit is called for each commit, for tests that let them fail; nil for none.
	Commit func(commit func() error) error
}

// Stores are the stores that a node can keep its data in, by the name that a
// configuration gives. Each opens the store in a directory.
var Stores = map[string]func(StoreConfig) (storage.Store, error){
	"bolt": func(c StoreConfig) (storage.Store, error) {
		return bolt.Open(c.Dir, bolt.Config{Clock: c.Clock, Log: c.Log, MaxSize: c.MaxSize, Patience: c.Patience, Commit: c.Commit})
	},
}
