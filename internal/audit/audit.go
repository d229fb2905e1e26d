// Package audit records who asked for what, what they were told, and when, in
// a journal that shows it when anything in it was changed.
//
// A [Journal] is a directory of segments. A record is durable when
// [Journal.Append] returns nil; records of transactions come by
// [Journal.Rider] and are kept or lost with them. [Reader] reads a journal
// that is in use or one of a stopped node; a [Hasher] makes what may be shown
// of requests and answers; a [Sink] gets a copy of every record elsewhere.
package audit

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"rotunda.dev/rotunda/internal/clock"
)

var (
	// ErrCorrupt says that a journal was damaged or tampered with. The error
	// that wraps it is a [Damage], which says where.
	ErrCorrupt = errors.New("audit: journal is damaged")

	// ErrLocked says that records cannot be read or written without the key.
	ErrLocked = errors.New("audit: journal is locked")

	// ErrWrongKey says that the key is not the one that records were written under.
	ErrWrongKey = errors.New("audit: wrong key")

	// ErrInUse says that another process has the journal open.
	ErrInUse = errors.New("audit: journal is in use by another process")

	// ErrNewer says that a segment was written by a newer version.
	ErrNewer = errors.New("audit: written by a newer version")
)

// Config says how a journal is kept. Clock and KeysDir are required.
type Config struct {
	Node    string // in events that the journal itself records
	KeysDir string // of the node's own keys, apart from the data; the key for events while sealed is kept there
	Clock   clock.Clock
	Log     *slog.Logger // nil for none

	SegmentBytes int64         // size at which a segment is closed; by default 16 MiB, and less on a small disk: see [Room]
	SegmentAge   time.Duration // age at which a segment is closed; 24 h by default
	KeepAge      time.Duration // whole segments older than this are removed; 0 keeps all
	KeepBytes    int64         // the oldest segments are removed beyond this; 0 keeps all
	Reserve      int64         // space held back for critical records; by default 64 MiB, and less on a small disk: see [Room]; negative for none

	// Patience is how long who appends waits for the disk before it is refused;
	// 2 s by default. A machine that is busier than a server may be needs more.
	Patience time.Duration

	Disk Disk // nil for the operating system's

	bundleHeight int // of a tree that is begun; 0 for the usual
}

// Sink keeps records somewhere else. It gets every record in order, and some
// twice after a crash: Seq tells them apart. One goroutine calls it.
type Sink interface {
	// Write takes a record.
	Write(ctx context.Context, r *Record) error

	// Flush returns nil once every record that was written is kept for good.
	// It is called when there is nothing to write, and once a second. After an
	// error, of this or of Write, every record since the last Flush that
	// returned nil is written again.
	Flush(ctx context.Context) error

	Close() error
}

// SinkConfig is a sink as an operator defines it.
type SinkConfig struct {
	Name        string            `json:"name"` // one path segment: "file"
	Kind        string            `json:"kind"` // "file"
	Description string            `json:"description,omitzero"`
	Options     map[string]string `json:"options,omitempty"`
	Local       bool              `json:"local,omitzero"`
	Declared    bool              `json:"-"` // in the configuration, which alone can change it
}
