// Package builtin lists what this server is built with. To add an engine, a
// store or a door, add its folder and one line here.
package builtin

import (
	"log/slog"

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

// Stores are the stores that a node can keep its data in, by the name that a
// configuration gives. Each opens the store in a directory.
var Stores = map[string]func(dir string, c clock.Clock, log *slog.Logger) (storage.Store, error){
	"bolt": func(dir string, c clock.Clock, log *slog.Logger) (storage.Store, error) {
		return bolt.Open(dir, bolt.Config{Clock: c, Log: log})
	},
}
