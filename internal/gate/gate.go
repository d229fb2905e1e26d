// Package gate opens and shuts the server: it initializes the store, unseals
// it, and owns the one Broker that exists while it is unsealed. While it is
// sealed there is none, so nothing has a sealed flag to forget to look at.
package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/fence"
	"rotunda.dev/rotunda/internal/late"
	"rotunda.dev/rotunda/internal/memory"
	"rotunda.dev/rotunda/internal/pin"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/token"
)

// Quorum splits the root key among people, and puts it together again.
type Quorum interface {
	// Split returns the stanza that the shares open, and the shares.
	Split(root secret.Bytes, binding []byte, shares, threshold int) (seal.Stanza, []Share, error)
	// Collect begins to gather shares for stanza, which must be of this kind.
	Collect(stanza seal.Stanza, binding []byte) (Collection, error)
	// Kind is the kind of its stanzas.
	Kind() string
}

// Share is one person's part of the root key, as people type it.
type Share struct{ Hex, Base64 secret.Text }

// Collection is shares being gathered.
type Collection interface {
	// Add takes a share as its holder typed it: hexadecimal or base64. It
	// returns the root key once there are enough, and an error wrapping
	// seal.ErrMoreShares until then. Any other error names what is wrong with
	// the share and leaves the others as they are.
	Add(share secret.Text) (secret.Bytes, error)
	// Progress returns how many shares are there, how many are needed and how many exist.
	Progress() (have, threshold, total int)
	// Nonce names this gathering.
	Nonce() string
	// Wipe forgets the shares.
	Wipe()
}

// Auto is a seal that opens without people.
type Auto struct {
	Kind   string // of its stanzas
	Sealer seal.Sealer
}

// Config is what a Gate is made of.
type Config struct {
	Store   storage.Store // the physical store
	Journal *audit.Journal
	Auto    []Auto // each opens alone; none where people open
	Quorum  Quorum
	// Recipients returns the seal of those who hold age identities.
	Recipients func(recipients []string) seal.Sealer
	Build      func(ctx context.Context, b *barrier.Barrier) (*broker.Broker, error)
	// Pins is where the node remembers how far the store has come, so that an old
	// copy of it is not served from; nil where it remembers nothing.
	Pins *pin.Book
	// Ready says what would keep the store from being opened, before its keys are
	// made; nil where there is nothing to try.
	Ready func(ctx context.Context) error
	Clock clock.Clock
	Log   *slog.Logger
}

// Gate is made shut.
type Gate struct {
	c Config

	moving sync.Mutex // held to open or shut; no request takes it
	shares Collection // guarded by moving; nil while nobody brings shares

	mu      sync.Mutex    // guards what follows; held for a few instructions and never during a call
	live    *session      // nil while shut
	ending  *session      // the one that was live last; nil before that
	telling chan struct{} // closed when an initialization has been told, or could not be; nil while there is none
}

type session struct {
	barrier *barrier.Barrier
	broker  *broker.Broker
	ctx     context.Context //nolint:containedctx // the lifetime of the session; owned by the gate
	end     context.CancelFunc
	busy    sync.WaitGroup // requests inside
	people  ceremonies
	pin     *pin.Session // nil where nothing is pinned
	pinning sync.WaitGroup
	gone    chan struct{} // closed when nothing of it is left
}

// New returns a gate. It is shut.
func New(c Config) *Gate { return &Gate{c: c} }

// ErrSealed is what everything answers while the gate is shut.
var ErrSealed = fault.New(fault.Sealed, "Vault is sealed")

// With calls fn with the Broker, which stays open until fn returns. The
// context given to fn ends when the gate starts to shut. While who asked for an
// initialization is being told of it, With waits.
func (g *Gate) With(ctx context.Context, fn func(context.Context, *broker.Broker) error) error {
	if err := g.told(ctx); err != nil {
		return err
	}
	return g.WithNow(ctx, fn)
}

// WithNow is [Gate.With] that waits for nothing.
func (g *Gate) WithNow(ctx context.Context, fn func(context.Context, *broker.Broker) error) error {
	s := g.enter()
	if s == nil {
		return ErrSealed
	}
	defer s.busy.Done()
	within := late.New(ctx, s.ctx, time.Time{})
	defer within.End()
	return fn(within, s.broker)
}

func (g *Gate) enter() *session {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live != nil {
		g.live.busy.Add(1)
	}
	return g.live
}

// told waits until nobody is being told of an initialization.
func (g *Gate) told(ctx context.Context) error {
	for {
		g.mu.Lock()
		telling := g.telling
		g.mu.Unlock()
		if telling == nil {
			return nil
		}
		select {
		case <-telling:
		case <-ctx.Done():
			return fault.Wrap(fault.Unavailable, ctx.Err(), "the store is being initialized")
		}
	}
}

// move waits until nobody is being told of an initialization, and takes moving.
func (g *Gate) move(ctx context.Context) error {
	for {
		if err := g.told(ctx); err != nil {
			return err
		}
		g.moving.Lock()
		g.mu.Lock()
		telling := g.telling
		g.mu.Unlock()
		if telling == nil {
			return nil
		}
		g.moving.Unlock()
	}
}

// Sealed reports whether the gate is shut.
func (g *Gate) Sealed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.live == nil
}

// Status is how things stand.
type Status struct {
	Initialized  bool
	Sealed       bool
	Kind         string // of the seal that opens the store
	Threshold    int
	Shares       int
	Progress     int
	Nonce        string
	ClusterID    string // while unsealed
	RecoverySeal bool   // a seal opens it without people, whose shares are a second way in
}

// Status returns how things stand.
func (g *Gate) Status(ctx context.Context) (Status, error) {
	s := Status{Sealed: true, Kind: g.kind(), RecoverySeal: len(g.c.Auto) > 0}
	if err := g.told(ctx); err != nil {
		return s, err
	}
	there, err := barrier.Initialized(ctx, g.c.Store)
	if err != nil {
		return s, fmt.Errorf("looking for a keyring: %w", err)
	}
	if !there {
		return s, nil
	}
	stanzas, err := barrier.Stanzas(ctx, g.c.Store)
	if err != nil {
		return s, fmt.Errorf("reading the seal slots: %w", err)
	}
	s.Initialized = true
	if i := find(stanzas, g.c.Quorum.Kind()); i >= 0 {
		binding, err := barrier.Binding(ctx, g.c.Store)
		if err != nil {
			return s, fmt.Errorf("reading the seal slots: %w", err)
		}
		counts, err := g.c.Quorum.Collect(stanzas[i], binding)
		if err != nil {
			return s, fmt.Errorf("reading the slot of the shares: %w", err)
		}
		_, s.Threshold, s.Shares = counts.Progress()
	}
	if s.Threshold == 0 {
		s.Threshold, s.Shares = 1, 1
	}
	g.mu.Lock()
	live := g.live
	g.mu.Unlock()
	if live != nil {
		s.Sealed, s.ClusterID = false, live.barrier.ClusterID()
		return s, nil
	}
	g.moving.Lock()
	defer g.moving.Unlock()
	if g.shares != nil {
		s.Progress, _, _ = g.shares.Progress()
		s.Nonce = g.shares.Nonce()
	}
	return s, nil
}

func (g *Gate) kind() string {
	if len(g.c.Auto) > 0 {
		return g.c.Auto[0].Kind
	}
	return g.c.Quorum.Kind()
}

func find(stanzas []seal.Stanza, kind string) int {
	for i, s := range stanzas {
		if s.Kind == kind {
			return i
		}
	}
	return -1
}

// InitIn says how the root key is to be kept.
type InitIn struct {
	Shares, Threshold int  // of the root key; where a seal opens without people they are a second way in
	NoRootToken       bool // the caller makes a token of its own
}

// InitOut is told once and kept nowhere.
type InitOut struct {
	Shares    []Share
	RootToken secret.Text
}

// Init makes the keys of an empty store, and leaves it unsealed if a seal opens
// it without people. The error is a fault of kind Invalid where it has keys
// already. What Init returns counts as told: see [Gate.Begin].
func (g *Gate) Init(ctx context.Context, in InitIn) (InitOut, error) {
	out, told, err := g.Begin(ctx, in)
	if err != nil {
		return InitOut{}, err
	}
	if err := told(nil); err != nil {
		return InitOut{}, err
	}
	return out, nil
}

// Begin is [Gate.Init] for who has to pass on what came of it. The store counts
// as uninitialized until told is called, which the caller does once: with nil
// when the answer was handed over, and with what went wrong if it was not. In
// between nothing is answered that needs the store.
//
// A store that was left so, because nobody was told or because a crash came in
// between, can be initialized again, which makes all of it anew; or it can be
// opened by enough of its shares, which proves that they did arrive. Either way
// nothing is lost, for nothing is kept in a store before it is finished; and
// nobody can initialize a store again that has been open.
func (g *Gate) Begin(ctx context.Context, in InitIn) (_ InitOut, told func(cause error) error, err error) {
	if err := g.move(ctx); err != nil {
		return InitOut{}, nil, err
	}
	defer g.moving.Unlock()
	there, err := barrier.Initialized(ctx, g.c.Store)
	if err != nil {
		return InitOut{}, nil, fmt.Errorf("looking for a keyring: %w", err)
	}
	if there {
		return InitOut{}, nil, fault.New(fault.Invalid, "Vault is already initialized")
	}
	if in.Shares < 0 || in.Shares > 255 || in.Threshold < 0 || in.Threshold > in.Shares || in.Shares > 1 && in.Threshold < 2 ||
		in.Shares == 1 && in.Threshold != 1 || in.Shares == 0 && len(g.c.Auto) == 0 {
		return InitOut{}, nil, fault.New(fault.Invalid, "shares must be 1 to 255, and the threshold at least 2 (1 for a single share) and at most the shares")
	}
	if g.c.Ready != nil {
		if err := g.c.Ready(ctx); err != nil {
			return InitOut{}, nil, fmt.Errorf("looking at what the store needs to be opened: %w", err)
		}
	}
	g.forget()
	root := newRoot()
	out, err := g.make(ctx, root, in)
	if err != nil {
		root.Wipe()
		return InitOut{}, nil, err
	}
	done := make(chan struct{})
	g.mu.Lock()
	g.telling = done
	g.mu.Unlock()
	ctx = context.WithoutCancel(ctx) // who asked may go away when they have heard
	return out, func(cause error) error {
		defer root.Wipe()
		g.moving.Lock()
		defer g.moving.Unlock()
		defer func() {
			g.mu.Lock()
			g.telling = nil
			g.mu.Unlock()
			close(done)
		}()
		if cause == nil {
			cause = barrier.Finish(ctx, g.c.Store)
		}
		if cause != nil {
			g.c.Log.LogAttrs(ctx, slog.LevelError, "the initialization is not finished; it can be repeated", slog.Any("cause", cause))
			return cause
		}
		return g.openNew(ctx, root, in)
	}, nil
}

// make makes the keys of a store that nobody has been told of.
func (g *Gate) make(ctx context.Context, root secret.Bytes, in InitIn) (out InitOut, err error) {
	binding := barrier.BindingOf(root)
	var stanzas []seal.Stanza
	for _, a := range g.c.Auto {
		s, err := a.Sealer.Seal(ctx, root, binding)
		if err != nil {
			return InitOut{}, fmt.Errorf("sealing the root key by %s: %w", a.Kind, err)
		}
		stanzas = append(stanzas, s)
	}
	if in.Shares > 0 {
		s, shares, err := g.c.Quorum.Split(root, binding, in.Shares, in.Threshold)
		if err != nil {
			return InitOut{}, fmt.Errorf("splitting the root key: %w", err)
		}
		stanzas, out.Shares = append(stanzas, s), shares
	}
	if err := barrier.Begin(ctx, g.c.Store, root, stanzas); err != nil {
		return InitOut{}, fmt.Errorf("making the keyring: %w", err)
	}
	if !in.NoRootToken {
		if out.RootToken, err = g.rootToken(ctx, root); err != nil {
			return InitOut{}, fmt.Errorf("making the root token: %w", err)
		}
	}
	return out, nil
}

// openNew opens a store whose initialization is finished. What was told is good
// from then on, so that it cannot be opened yet is only said in the log.
func (g *Gate) openNew(ctx context.Context, root secret.Bytes, in InitIn) error {
	err := g.open(ctx, root, "initialized", -1)
	if err == nil && len(g.c.Auto) == 0 {
		err = g.shut(g.leave(), "sealed after initialization")
	}
	if err != nil && in.NoRootToken && in.Shares == 0 { // nothing was told
		return fmt.Errorf("opening the new store: %w", err)
	}
	if err != nil {
		g.c.Log.LogAttrs(ctx, slog.LevelError, "the store is initialized, and could not be opened; it stays sealed", slog.Any("cause", err))
	}
	return nil
}

// rootToken makes the root token of a store that is not open yet.
func (g *Gate) rootToken(ctx context.Context, root secret.Bytes) (secret.Text, error) {
	b, err := barrier.Open(ctx, g.c.Store, root)
	if err != nil {
		return secret.Text{}, fmt.Errorf("opening the barrier: %w", err)
	}
	defer b.Close()
	space, err := b.Space(ctx, barrier.Tokens)
	if err != nil {
		return secret.Text{}, fmt.Errorf("opening the space of tokens: %w", err)
	}
	kept := token.NewStore(b, space, fence.New(b.Raw()), g.c.Clock, token.Config{Log: g.c.Log})
	return broker.New(broker.Parts{Tokens: kept}).IssueRoot(ctx, g.c.Clock.Now())
}

// ErrPeople says that no seal opens the store without people, and that people
// with shares can: the server is to wait for them.
var ErrPeople = errors.New("gate: no configured seal opens the store, so that it waits for key shares")

// AutoUnseal opens the gate with the first seal that can, of those that need
// no people; where there are none it does nothing. The error wraps
// barrier.ErrUninitialized where the store is empty, and [ErrPeople] where none
// can and there are shares.
func (g *Gate) AutoUnseal(ctx context.Context) error {
	if len(g.c.Auto) == 0 {
		return nil
	}
	if err := g.move(ctx); err != nil {
		return err
	}
	defer g.moving.Unlock()
	if !g.Sealed() {
		return nil
	}
	there, err := barrier.Initialized(ctx, g.c.Store)
	if err != nil {
		return fmt.Errorf("looking for a keyring: %w", err)
	}
	if !there {
		return barrier.ErrUninitialized
	}
	stanzas, binding, err := g.slots(ctx)
	if err != nil {
		return err
	}
	var failed error
	for i, a := range g.c.Auto {
		root, err := a.Sealer.Unseal(ctx, stanzas, binding)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("unsealing by %s: %w", a.Kind, err))
			continue
		}
		defer root.Wipe()
		return g.open(ctx, root, "unsealed", i)
	}
	if find(stanzas, g.c.Quorum.Kind()) >= 0 {
		return fmt.Errorf("%w: %w", ErrPeople, failed)
	}
	return failed
}

func (g *Gate) slots(ctx context.Context) ([]seal.Stanza, []byte, error) {
	stanzas, err := barrier.Stanzas(ctx, g.c.Store)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the seal slots: %w", err)
	}
	binding, err := barrier.Binding(ctx, g.c.Store)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the seal slots: %w", err)
	}
	return stanzas, binding, nil
}

// Submit takes one share of the root key, and opens the gate with the last one
// that is needed. The error is a fault of kind Invalid for a share that is
// malformed, twice there, or not of this store.
//
// Enough shares of an initialization that was not finished finish it: they were
// told.
func (g *Gate) Submit(ctx context.Context, share secret.Text) error {
	if err := g.move(ctx); err != nil {
		return err
	}
	defer g.moving.Unlock()
	if !g.Sealed() {
		return nil
	}
	if g.shares == nil {
		stanzas, binding, err := g.slots(ctx)
		if errors.Is(err, barrier.ErrUninitialized) {
			return fault.New(fault.Invalid, "Vault is not initialized")
		}
		if err != nil {
			return err
		}
		i := find(stanzas, g.c.Quorum.Kind())
		if i < 0 {
			return fault.New(fault.Invalid, "this store has no shares of its key: it is opened by its seal (%s) when the server starts", g.kind())
		}
		if g.shares, err = g.c.Quorum.Collect(stanzas[i], binding); err != nil {
			return fmt.Errorf("reading the slot of the shares: %w", err)
		}
	}
	root, err := g.shares.Add(share)
	if errors.Is(err, seal.ErrMoreShares) {
		return nil
	}
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "%v", err)
	}
	defer root.Wipe()
	g.forget()
	if err := barrier.Finish(ctx, g.c.Store); err != nil {
		return err
	}
	return g.open(ctx, root, "unsealed", -1)
}

// Reset forgets the shares that were submitted.
func (g *Gate) Reset() {
	g.moving.Lock()
	defer g.moving.Unlock()
	g.forget()
}

// forget lets go of the shares that were submitted. The caller holds moving.
func (g *Gate) forget() {
	if g.shares != nil {
		g.shares.Wipe()
		g.shares = nil
	}
}

// open makes a whole session or changes nothing. The caller holds moving, and
// says which seal has opened; negative for none.
func (g *Gate) open(ctx context.Context, root secret.Bytes, event string, opened int) error {
	g.ended() // a session that still ends holds the journal
	b, err := barrier.Open(ctx, g.c.Store, root)
	if err != nil {
		return fmt.Errorf("opening the barrier: %w", err)
	}
	found, err := g.isOld(ctx, b)
	if err != nil {
		b.Close()
		return err
	}
	s, err := g.begin(ctx, b, g.event(event))
	if err != nil {
		return err
	}
	if err := g.pinned(ctx, s, found); err != nil {
		return errors.Join(err, g.abort(s))
	}
	if event != "initialized" {
		g.complete(ctx, b, root, opened)
	}
	g.serve(ctx, s)
	return nil
}

// begin makes a session, which is closed with the barrier, and records an event.
func (g *Gate) begin(ctx context.Context, b *barrier.Barrier, event *audit.Record) (*session, error) {
	if err := g.c.Journal.Unlock(b.AuditKey(), g.c.Store); err != nil {
		b.Close()
		if errors.Is(err, audit.ErrCorrupt) {
			err = fault.Wrap(fault.Unavailable, err, "the audit journal is damaged, or records of it are missing: the server's log says which; rotunda audit accept-loss goes on without them")
		}
		return nil, fmt.Errorf("unlocking the audit journal: %w", err)
	}
	live, err := g.c.Build(ctx, b)
	if err == nil {
		if err = g.c.Journal.Append(ctx, event); err != nil {
			err = errors.Join(err, live.Close())
		}
	}
	if err != nil {
		g.c.Journal.Lock()
		b.Close()
		return nil, fmt.Errorf("starting to serve: %w", err)
	}
	s := &session{barrier: b, broker: live, gone: make(chan struct{})}
	s.ctx, s.end = context.WithCancel(context.WithoutCancel(ctx))
	return s, nil
}

// abort ends a session that never served.
func (g *Gate) abort(s *session) error {
	s.end()
	err := s.broker.Close()
	g.c.Journal.Lock()
	s.barrier.Close()
	return err
}

// serve lets requests into a session.
func (g *Gate) serve(ctx context.Context, s *session) {
	g.mu.Lock()
	g.live = s
	g.mu.Unlock()
	g.c.Log.LogAttrs(ctx, slog.LevelInfo, "unsealed", slog.String("cluster_id", s.barrier.ClusterID()))
}

// Shut seals: it turns new requests away at once, tells those inside to end,
// waits for them, and lets go of every key.
func (g *Gate) Shut() error {
	g.moving.Lock()
	defer g.moving.Unlock()
	err := g.shut(g.leave(), "sealed")
	g.ended()
	return err
}

// ShutSoon seals as [Gate.Shut], and returns as soon as new requests are
// turned away: a request that is inside may call it.
func (g *Gate) ShutSoon() {
	s := g.leave()
	if s == nil {
		return
	}
	go func() {
		if err := g.shut(s, "sealed"); err != nil {
			g.c.Log.LogAttrs(context.Background(), slog.LevelError, "sealing", slog.Any("cause", err))
		}
	}()
}

// leave turns new requests away, and returns the session that is to be shut by
// the caller; nil where there is none.
func (g *Gate) leave() *session {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.live
	if s != nil {
		g.live, g.ending = nil, s
	}
	return s
}

// ended waits until nothing is left of the session that was live last. There is
// one at most: the next opens after this.
func (g *Gate) ended() {
	g.mu.Lock()
	s := g.ending
	g.mu.Unlock()
	if s != nil {
		<-s.gone
	}
}

func (g *Gate) shut(s *session, event string) error {
	if s == nil {
		return nil
	}
	defer close(s.gone)
	s.end()
	s.busy.Wait()
	s.people.end()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r := g.event(event)
	r.Critical = true
	err := errors.Join(g.c.Journal.Append(ctx, r), s.broker.Close())
	g.c.Journal.Lock()
	s.pinning.Wait()
	if s.pin != nil {
		s.pin.Pin(ctx)
	}
	s.barrier.Close()
	g.c.Log.LogAttrs(ctx, slog.LevelInfo, "sealed")
	memory.Erase()
	g.c.Log.LogAttrs(ctx, slog.LevelInfo, "what keys and answers were in is erased, as far as that goes")
	return err
}

func (g *Gate) event(event string) *audit.Record {
	return &audit.Record{Kind: audit.Event, Time: g.c.Clock.Now(), Event: event, Outcome: audit.OutcomeOK, Allowed: true}
}
