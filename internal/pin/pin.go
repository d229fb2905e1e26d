// Package pin notices that an old copy of a store was put back: a node
// remembers outside of its store what it has last seen of it.
//
// # In the store
//
// Each time a store is unsealed a session begins, which has a random id. The
// last of them are its line, a row of the core space that [Scope] and "line"
// name:
//
//	{"format": 1, "sessions": [{"id": "hex 32", "until": 812}, …, {"id": "hex 32", "until": 0}]}
//
// Until is the mark of the store at which the next session began. The last one
// goes on.
//
// # Beside the node's keys
//
// The pin is a file that names the session and the mark that the node has seen
// last, under a MAC that only who can unseal the store can make:
//
//	pin-<cluster id>.json
//	{"format": 1, "cluster": "uuid", "session": "hex 32", "mark": 900, "at": "RFC 3339", "mac": "hex 64"}
//
// # Why an old copy is found
//
// A store is the one that the node has seen, or grew out of it, exactly if the
// pinned session is in its line and went on to the pinned mark at least. A copy
// made before that does not reach the mark in that session, however much was
// written to it elsewhere: its session ended early, or has the mark of the copy.
// A mark is pinned after its transaction is durable, so no crash makes a store
// seem old. What was written since the pin was last written, [Every] at most, is
// not missed; and without the file there is nothing to compare with.
package pin

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/storage"
)

// Scope is that of the core space in which the line of a store is.
const Scope = "l"

// Every is how long a pin is older than the store at most.
const Every = 10 * time.Second

const (
	format      = 1
	lineRow     = "line"
	maxSessions = 64 // of a line
	maxFile     = 4 << 10
	purpose     = "rollback-pin" // of the key, for the barrier's Derive
)

var (
	// ErrOld says that the store is older than what the node has seen of it, or
	// has another past: a copy of it was put back. It is to be replaced by the
	// newest one, or accepted by [Book.Begin] with all that has to be done then.
	ErrOld = errors.New("pin: an old copy of the store was put back")

	// ErrDamaged says that the pin is not as it was written, so that nobody can
	// say whether the store is old.
	ErrDamaged = errors.New("pin: what this node remembers of the store is damaged")
)

// Book is where a node keeps its pins.
type Book struct {
	Dir   string                               // of the node's own keys
	Write func(path string, text []byte) error // replaces a file as a whole, and makes that durable
	Clock clock.Clock
	Log   *slog.Logger
}

// Found is what a node remembers of a store.
type Found struct {
	Pinned bool      // there is a pin
	Opened bool      // the store was opened before, here or elsewhere
	At     time.Time // when the pin was written
}

type pin struct {
	Format  int          `json:"format"`
	Cluster string       `json:"cluster"`
	Session string       `json:"session"`
	Mark    storage.Mark `json:"mark"`
	At      time.Time    `json:"at"`
	MAC     string       `json:"mac,omitempty"`
}

type line struct {
	Format   int       `json:"format"`
	Sessions []session `json:"sessions"`
}

type session struct {
	ID    string       `json:"id"`
	Until storage.Mark `json:"until"` // 0 for the last one
}

// Path returns where the pin of a cluster's store is.
func (b *Book) Path(cluster string) string { return filepath.Join(b.Dir, "pin-"+cluster+".json") }

// Check compares an unsealed store with its pin. The error wraps [ErrOld] or
// [ErrDamaged] where the store may not be served from. That there is no pin is
// no error: the caller says so.
func (b *Book) Check(ctx context.Context, of *barrier.Barrier) (Found, error) {
	p, there, err := b.read(of)
	if err != nil {
		return Found{}, err
	}
	core, err := of.Space(ctx, barrier.Core)
	if err != nil {
		return Found{}, fmt.Errorf("opening the core space: %w", err)
	}
	var (
		l   line
		end storage.Mark
	)
	err = core.View(ctx, func(r storage.Reader) error {
		end = r.Mark()
		l, err = readLine(r)
		return err
	})
	if err != nil {
		return Found{}, err
	}
	found := Found{Pinned: there, Opened: len(l.Sessions) > 0, At: p.At}
	if !there {
		return found, nil
	}
	return found, l.holds(p, end)
}

// holds reports a store that is not the one that was pinned, nor grew out of it.
func (l line) holds(p pin, end storage.Mark) error {
	seen := p.At.UTC().Format(time.RFC3339)
	i := slices.IndexFunc(l.Sessions, func(s session) bool { return s.ID == p.Session })
	if i < 0 {
		return fmt.Errorf("%w: this node has seen a later one at %s", ErrOld, seen)
	}
	until := l.Sessions[i].Until
	if i == len(l.Sessions)-1 {
		until = end
	}
	if until < p.Mark {
		return fmt.Errorf("%w: it ends %d changes before what this node has seen of it at %s", ErrOld, p.Mark-until, seen)
	}
	return nil
}

func readLine(r storage.Reader) (l line, err error) {
	b, err := r.Get(storage.Key{Scope: Scope, Row: lineRow})
	if errors.Is(err, storage.ErrNotFound) {
		return line{Format: format}, nil
	}
	if err != nil {
		return l, fmt.Errorf("reading the line of the store: %w", err)
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return l, fmt.Errorf("decoding the line of the store: %w: %w", storage.ErrCorrupt, err)
	}
	if l.Format != format {
		return l, fmt.Errorf("decoding the line of the store: format %d: %w", l.Format, storage.ErrNewer)
	}
	return l, nil
}

// Session is the time during which a store is unsealed. Make it with [Book.Begin].
type Session struct {
	book    *Book
	barrier *barrier.Barrier
	id      string

	mu     sync.Mutex // held while the file is written
	mark   storage.Mark
	at     time.Time
	failed bool // the last time; so that each failure is logged once
}

// trim leaves out the oldest sessions, but for the one that is pinned: where the
// pin cannot be written for long, the store is not taken for an old one.
func (l *line) trim(pinned string) {
	from := max(0, len(l.Sessions)-maxSessions)
	i := slices.IndexFunc(l.Sessions[:from], func(s session) bool { return s.ID == pinned })
	kept := l.Sessions[from:]
	if i >= 0 {
		kept[0] = l.Sessions[i]
	}
	l.Sessions = kept
}

// Begin adds a session to the line of a store, and pins it. From then on an
// earlier copy is refused. A pin that cannot be written is logged, and tried
// again by [Session.Run].
func (b *Book) Begin(ctx context.Context, of *barrier.Barrier) (*Session, error) {
	core, err := of.Space(ctx, barrier.Core)
	if err != nil {
		return nil, fmt.Errorf("opening the core space: %w", err)
	}
	seen, _, err := b.read(of)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	s := &Session{book: b, barrier: of, id: hex.EncodeToString(id)}
	err = core.Update(ctx, storage.Locks{Own: []string{Scope}}, func(tx storage.Tx) error {
		l, err := readLine(tx)
		if err != nil {
			return err
		}
		if n := len(l.Sessions); n > 0 && l.Sessions[n-1].ID != s.id {
			l.Sessions[n-1].Until = tx.Mark()
		}
		if n := len(l.Sessions); n == 0 || l.Sessions[n-1].ID != s.id { // not by a transaction of unknown outcome
			l.Sessions = append(l.Sessions, session{ID: s.id})
		}
		l.trim(seen.Session)
		text, err := json.Marshal(l)
		if err != nil {
			return fmt.Errorf("encoding the line of the store: %w", err)
		}
		tx.Put(storage.Key{Scope: Scope, Row: lineRow}, text)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("beginning a session of the store: %w", err)
	}
	s.Pin(ctx)
	return s, nil
}

// Run pins what is in the store until ctx ends.
func (s *Session) Run(ctx context.Context) {
	for s.book.Clock.Wait(ctx, s.book.Clock.Now().Add(Every)) == nil {
		s.Pin(ctx)
	}
}

// Pin writes what is in the store, where that is more than was written before.
func (s *Session) Pin(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.pinLocked(ctx)
	if err != nil && !s.failed {
		s.book.Log.LogAttrs(ctx, slog.LevelError, "remembering how far the store has come; until that is possible an old copy of it is not noticed", slog.Any("cause", err))
	}
	s.failed = err != nil
}

func (s *Session) pinLocked(ctx context.Context) error {
	// The mark of Changes is durable; that of a View may be about to be.
	changes, err := s.barrier.Raw().Changes(ctx, s.mark)
	if err != nil || changes.Mark == s.mark {
		return err
	}
	at := s.book.Clock.Now().UTC().Round(0)
	p := pin{Format: format, Cluster: s.barrier.ClusterID(), Session: s.id, Mark: changes.Mark, At: at}
	if p.MAC, err = p.mac(s.barrier); err != nil {
		return err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encoding a pin: %w", err)
	}
	if err := s.book.Write(s.book.Path(p.Cluster), append(text, '\n')); err != nil {
		return fmt.Errorf("writing a pin: %w", err)
	}
	s.mark, s.at = p.Mark, at
	return nil
}

// Pinned returns when the pin was last written; the zero Time where it never was.
func (s *Session) Pinned() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

func (p pin) mac(b *barrier.Barrier) (string, error) {
	p.MAC = ""
	text, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("encoding a pin: %w", err)
	}
	key := b.Derive(purpose)
	defer key.Wipe()
	var sum []byte
	_ = key.Use(func(k []byte) error {
		m := hmac.New(sha256.New, k)
		m.Write(text)
		sum = m.Sum(nil)
		return nil
	})
	return hex.EncodeToString(sum), nil
}

func (b *Book) read(of *barrier.Barrier) (p pin, there bool, err error) {
	path := b.Path(of.ClusterID())
	text, err := os.ReadFile(path) //nolint:gosec // in the node's own directory
	if errors.Is(err, fs.ErrNotExist) {
		return pin{}, false, nil
	}
	if err != nil {
		return pin{}, false, fmt.Errorf("reading a pin: %w", err)
	}
	if len(text) > maxFile {
		return pin{}, false, fmt.Errorf("%w: %s", ErrDamaged, path)
	}
	if err := json.Unmarshal(bytes.TrimSpace(text), &p); err != nil {
		return pin{}, false, fmt.Errorf("%w: %s", ErrDamaged, path)
	}
	if p.Format > format {
		return pin{}, false, fmt.Errorf("reading a pin: format %d: %w", p.Format, storage.ErrNewer)
	}
	want, err := p.mac(of)
	if err != nil {
		return pin{}, false, err
	}
	if !hmac.Equal([]byte(want), []byte(p.MAC)) || p.Cluster != of.ClusterID() {
		return pin{}, false, fmt.Errorf("%w: %s", ErrDamaged, path)
	}
	return p, true, nil
}
