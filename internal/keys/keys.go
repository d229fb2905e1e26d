// Package keys turns keys: the term of the keyring, and the key of each space,
// when they are asked to be, have become old, or have sealed much. All of it is
// done beside requests, and goes on where a crash has ended it.
//
// # Rows
//
// In the core space, scope "k":
//
//	config           JSON: the [Policy]
//	p | space id 16  JSON: how far the key of a space has been turned
package keys

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/storage"
)

// Scope is the scope of this package's rows in the core space.
const Scope = "k"

const (
	format      = 1
	policyRow   = "config"
	progressRow = "p"
)

// Policy says when keys are turned without being asked.
type Policy struct {
	Enabled       bool
	MaxOperations int64         // seals under a term, or under one key of a space
	Interval      time.Duration // age of a term; 0 is for ever
	SpaceInterval time.Duration // age of a space's key; 0 is for ever
}

// Default is the policy where none was set.
var Default = Policy{Enabled: true, MaxOperations: 1 << 30, Interval: 30 * 24 * time.Hour, SpaceInterval: 90 * 24 * time.Hour}

// The bounds of a policy, which are those that operators know.
const (
	MinOperations = 1_000_000
	MaxOperations = 3_865_470_566
	MinInterval   = 24 * time.Hour
)

// Check reports a policy that is out of bounds, as a fault of kind Invalid.
func (p Policy) Check() error {
	switch {
	case p.MaxOperations < MinOperations || p.MaxOperations > MaxOperations:
		return fault.New(fault.Invalid, "max_operations must be in the range [%d, %d]", MinOperations, MaxOperations)
	case p.Interval != 0 && p.Interval < MinInterval, p.SpaceInterval != 0 && p.SpaceInterval < MinInterval:
		return fault.New(fault.Invalid, "interval must be greater or equal to %s", MinInterval)
	}
	return nil
}

type policyJSON struct {
	Format        int   `json:"format"`
	Enabled       bool  `json:"enabled"`
	MaxOperations int64 `json:"max_operations"`
	Interval      int64 `json:"interval"` // nanoseconds, as the next
	SpaceInterval int64 `json:"mount_interval"`
}

// ReadPolicy returns the policy. r reads the core space.
func ReadPolicy(r storage.Reader) (Policy, error) {
	b, err := r.Get(storage.Key{Scope: Scope, Row: policyRow})
	if errors.Is(err, storage.ErrNotFound) {
		return Default, nil
	}
	if err != nil {
		return Policy{}, fmt.Errorf("reading when keys are turned: %w", err)
	}
	var p policyJSON
	if err := json.Unmarshal(b, &p); err != nil {
		return Policy{}, fmt.Errorf("decoding when keys are turned: %w: %w", storage.ErrCorrupt, err)
	}
	if p.Format != format {
		return Policy{}, fmt.Errorf("decoding when keys are turned: format %d: %w", p.Format, storage.ErrNewer)
	}
	return Policy{p.Enabled, p.MaxOperations, time.Duration(p.Interval), time.Duration(p.SpaceInterval)}, nil
}

// WritePolicy keeps a policy that was checked, in a transaction of the core space.
func WritePolicy(tx storage.Tx, p Policy) error {
	b, err := json.Marshal(policyJSON{format, p.Enabled, p.MaxOperations, int64(p.Interval), int64(p.SpaceInterval)})
	if err != nil {
		return fmt.Errorf("encoding when keys are turned: %w", err)
	}
	tx.Put(storage.Key{Scope: Scope, Row: policyRow}, b)
	return nil
}

// Space is a space whose key is turned.
type Space struct {
	ID   barrier.SpaceID
	Name string         // for the log: the accessor of its mount
	Keys barrier.Holder // of its data keys; nil where they are not known: its key is not turned
}

// Config is what a Keeper is made of.
type Config struct {
	Barrier *barrier.Barrier
	Core    *barrier.Space
	Spaces  func(ctx context.Context) ([]Space, error) // those that there are
	Record  func(ctx context.Context, event string) error
	Clock   clock.Clock
	Log     *slog.Logger

	Rate  int           // rows a second that are brought under another key; 0 is 2000
	Every time.Duration // how often ages are looked at; 0 is an hour
	Grace time.Duration // until an old key is destroyed; 0 is storage.MaxView, negative is none
}

// Keeper turns keys. Make it with [New].
type Keeper struct {
	c    Config
	wake chan struct{}

	mu     sync.Mutex // guards failed
	failed map[barrier.SpaceID]string
}

// New returns a Keeper; [Keeper.Run] does its work.
func New(c Config) *Keeper {
	if c.Rate <= 0 {
		c.Rate = 2000
	}
	if c.Every <= 0 {
		c.Every = time.Hour
	}
	if c.Grace == 0 {
		c.Grace = storage.MaxView
	}
	return &Keeper{c: c, wake: make(chan struct{}, 1), failed: map[barrier.SpaceID]string{}}
}

// TurnTerm begins a term of the keyring and returns its number. The keys of
// spaces come under it in the background. The error is a fault of kind Invalid
// where many terms wait for that. The rider in ctx is carried.
func (k *Keeper) TurnTerm(ctx context.Context) (int, error) {
	term, err := k.c.Barrier.TurnTerm(ctx)
	if errors.Is(err, barrier.ErrTurning) {
		return 0, fault.Wrap(fault.Invalid, err, "the keyring is being rotated already; try again in a moment")
	}
	if err != nil {
		return 0, err
	}
	k.Wake()
	return term, nil
}

// TurnSpace gives a space another key, under which everything comes in the
// background, and returns its generation. The error is a fault of kind Invalid
// while that is under way for the key before, and where it is not known which
// rows hold data keys. The rider in ctx is carried.
func (k *Keeper) TurnSpace(ctx context.Context, id barrier.SpaceID) (uint32, error) {
	spaces, err := k.c.Spaces(ctx)
	if err != nil {
		return 0, fmt.Errorf("listing the spaces: %w", err)
	}
	if !slices.ContainsFunc(spaces, func(s Space) bool { return s.ID == id && s.Keys != nil }) {
		return 0, fault.New(fault.Invalid, "the key of this mount cannot be rotated: its engine is not there, or does not say where it keeps data keys")
	}
	generation, err := k.c.Barrier.TurnSpace(ctx, id)
	if errors.Is(err, barrier.ErrTurning) {
		return 0, fault.Wrap(fault.Invalid, err, "the key of this mount is being rotated already")
	}
	if err != nil {
		return 0, err
	}
	k.Wake()
	return generation, nil
}

// Wake makes [Keeper.Run] look at once.
func (k *Keeper) Wake() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Status is how the key of a space stands.
type Status struct {
	Generation uint32
	Since      time.Time // zero where it is not known
	Seals      int64     // see [barrier.Barrier.Encryptions]

	Turning bool      // an older key is not yet destroyed
	Begun   time.Time // when that began to be worked on
	Pass    int       // walks over all rows; the last one finds nothing
	Changed int64     // rows that were brought under the key
	Failure string    // why it was tried again; empty where it was not
}

// Status returns how the key of a space stands.
func (k *Keeper) Status(ctx context.Context, id barrier.SpaceID) (Status, error) {
	gens, err := k.c.Barrier.Generations(ctx, id)
	if err != nil {
		return Status{}, err
	}
	last := gens[len(gens)-1]
	s := Status{Generation: last.Number, Since: last.Since, Seals: last.Seals, Turning: len(gens) > 1}
	if !s.Turning {
		return s, nil
	}
	k.mu.Lock()
	s.Failure = k.failed[id]
	k.mu.Unlock()
	p, err := k.progress(ctx, id, last.Number)
	s.Begun, s.Pass, s.Changed = p.Begun, p.Pass, p.Changed
	return s, err
}

// Run turns keys until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		next := k.c.Clock.Now().Add(k.c.Every)
		if err := k.Tend(ctx); err != nil && ctx.Err() == nil {
			k.c.Log.LogAttrs(ctx, slog.LevelError, "turning keys; it is tried again in a minute", slog.Any("cause", err))
			next = k.c.Clock.Now().Add(min(time.Minute, k.c.Every))
		}
		if !k.wait(ctx, next) {
			return nil
		}
	}
}

// wait returns at a time or when woken; it reports whether ctx goes on.
func (k *Keeper) wait(ctx context.Context, until time.Time) bool {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	come := make(chan struct{})
	go func() {
		defer close(come)
		_ = k.c.Clock.Wait(waiting, until) // that ctx ended is seen below
	}()
	select {
	case <-k.wake:
	case <-come:
	}
	cancel()
	<-come
	return ctx.Err() == nil
}

// Tend turns what is due, and ends what has begun. It can be ended at any point
// and called again.
func (k *Keeper) Tend(ctx context.Context) error {
	var p Policy
	err := k.c.Core.View(ctx, func(r storage.Reader) (err error) {
		p, err = ReadPolicy(r)
		return err
	})
	if err != nil {
		return err
	}
	touched, err := k.tendTerm(ctx, p)
	if err != nil {
		return err
	}
	spaces, err := k.c.Spaces(ctx)
	if err != nil {
		return fmt.Errorf("listing the spaces: %w", err)
	}
	var (
		errs  []error
		clean []turned
	)
	for _, s := range spaces { // one that fails does not keep the others from being turned
		done, changed, err := k.tendSpace(ctx, p, s)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		k.note(s, err)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("turning the key of %s: %w", s.Name, err))
		case done != nil:
			clean, touched = append(clean, *done), touched || changed
		}
	}
	// Who has read what was under an older key may still be opening it.
	if touched && k.c.Grace > 0 {
		if err := k.c.Clock.Wait(ctx, k.c.Clock.Now().Add(k.c.Grace)); err != nil {
			return err
		}
	}
	for _, t := range clean {
		if err := k.retire(ctx, t); err != nil {
			k.note(t.space, err)
			errs = append(errs, fmt.Errorf("turning the key of %s: %w", t.space.Name, err))
		}
	}
	return errors.Join(append(errs, k.dropTerms(ctx))...)
}

func (k *Keeper) note(s Space, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if delete(k.failed, s.ID); err != nil {
		k.failed[s.ID] = "it is tried again in a minute; the server's log says why"
	}
}

func (p Policy) due(since, now time.Time, age time.Duration, seals int64) bool {
	return p.Enabled && (age > 0 && !since.IsZero() && !now.Before(since.Add(age)) || seals >= p.MaxOperations)
}

// tendTerm begins a term that is due, and brings the keys of spaces under the
// current one. It reports whether there were some.
func (k *Keeper) tendTerm(ctx context.Context, p Policy) (changed bool, err error) {
	b := k.c.Barrier
	if _, since := b.Term(); b.Terms() == 1 && p.due(since, k.c.Clock.Now(), p.Interval, b.Encryptions()) {
		next, err := b.TurnTerm(ctx)
		if err != nil {
			return false, err
		}
		if err := k.record(ctx, "keyring rotated", slog.Int("term", next)); err != nil {
			return false, err
		}
	}
	if b.Terms() == 1 {
		return false, nil
	}
	n, err := b.RewrapRecords(ctx)
	return n > 0, err
}

func (k *Keeper) dropTerms(ctx context.Context) error {
	b := k.c.Barrier
	if b.Terms() == 1 {
		return nil
	}
	term, _ := b.Term()
	dropped, err := b.DropTerms(ctx)
	if err != nil || !dropped {
		return err
	}
	return k.record(ctx, "older keyring terms destroyed", slog.Int("term", term))
}

// record writes an event to the log and to the audit journal; of which space it
// is, is part of it.
func (k *Keeper) record(ctx context.Context, event string, attrs ...slog.Attr) error {
	k.c.Log.LogAttrs(ctx, slog.LevelInfo, "turning keys", append([]slog.Attr{slog.String("event", event)}, attrs...)...)
	if k.c.Record == nil {
		return nil
	}
	if err := k.c.Record(ctx, event); err != nil {
		return fmt.Errorf("recording that keys were turned: %w", err)
	}
	return nil
}

// turned is a space that has nothing under the keys before a generation.
type turned struct {
	space      Space
	generation uint32
	rows       int64
}

// tendSpace turns the key of a space that is due, and brings everything under
// the current one. It returns nil where there is no older key to be destroyed,
// and says whether it has changed anything.
func (k *Keeper) tendSpace(ctx context.Context, p Policy, s Space) (done *turned, changed bool, err error) {
	if s.Keys == nil {
		return nil, false, nil
	}
	b := k.c.Barrier
	gens, err := b.Generations(ctx, s.ID)
	if errors.Is(err, barrier.ErrNoSpace) {
		return nil, false, nil // removed meanwhile
	}
	if err != nil {
		return nil, false, err
	}
	last := gens[len(gens)-1]
	if last.Since.IsZero() { // not kept by the version that made it: not older than the term
		_, last.Since = b.Term()
	}
	if len(gens) == 1 {
		if !p.due(last.Since, k.c.Clock.Now(), p.SpaceInterval, last.Seals) {
			return nil, false, nil
		}
		if last.Number, err = b.TurnSpace(ctx, s.ID); err != nil {
			return nil, false, err
		}
		if err := k.record(ctx, "mount key rotated: "+s.Name); err != nil {
			return nil, false, err
		}
	}
	rows, changed, err := k.sweep(ctx, s, last.Number)
	if errors.Is(err, barrier.ErrNoSpace) {
		return nil, false, k.forget(ctx, s.ID)
	}
	if err != nil {
		return nil, false, err
	}
	return &turned{s, last.Number, rows}, changed, nil
}

// sweep walks over a space until a walk has found nothing that is not under a
// generation. It returns how many rows were brought under it, and whether some
// were by this call.
func (k *Keeper) sweep(ctx context.Context, s Space, generation uint32) (rows int64, touched bool, err error) {
	p, err := k.progress(ctx, s.ID, generation)
	if err != nil {
		return 0, false, err
	}
	for {
		to, changed, more, err := k.c.Barrier.Sweep(ctx, s.ID, p.place(), s.Keys)
		if err != nil {
			return 0, false, err
		}
		touched = touched || changed > 0
		p.Changed += int64(changed)
		p.Dirty = p.Dirty || changed > 0
		p.Scope, p.Row = []byte(to.Scope), []byte(to.Row)
		if !more {
			if !p.Dirty {
				return p.Changed, touched, nil
			}
			p = progress{Format: format, Generation: generation, Begun: p.Begun, Pass: p.Pass + 1, Changed: p.Changed}
		}
		if err := k.save(ctx, s.ID, p); err != nil {
			return 0, false, err
		}
		if err := k.pace(ctx, changed); err != nil {
			return 0, false, err
		}
	}
}

func (k *Keeper) retire(ctx context.Context, t turned) error {
	err := k.c.Barrier.RetireSpace(ctx, t.space.ID, t.generation)
	if errors.Is(err, barrier.ErrNoSpace) {
		return k.forget(ctx, t.space.ID)
	}
	if err != nil {
		return err
	}
	if err := k.forget(ctx, t.space.ID); err != nil {
		return err
	}
	return k.record(ctx, "older mount key destroyed: "+t.space.Name, slog.Int64("rows", t.rows))
}

// breath is the pause between two looks at many rows: it leaves the processor to requests.
const breath = 10 * time.Millisecond

// pace keeps to the rate.
func (k *Keeper) pace(ctx context.Context, rows int) error {
	if k.c.Grace < 0 {
		return ctx.Err()
	}
	return k.c.Clock.Wait(ctx, k.c.Clock.Now().Add(breath+time.Duration(rows)*time.Second/time.Duration(k.c.Rate)))
}

// progress is how far a walk over a space has come. It is a help only: a walk
// that begins anew does no harm.
type progress struct {
	Format     int       `json:"format"`
	Generation uint32    `json:"generation"`
	Begun      time.Time `json:"begun"`
	Pass       int       `json:"pass"`
	Changed    int64     `json:"changed"`
	Dirty      bool      `json:"dirty"` // this pass has changed something
	Scope      []byte    `json:"scope,omitempty"`
	Row        []byte    `json:"row,omitempty"`
}

func (p progress) place() barrier.Place {
	return barrier.Place{Scope: string(p.Scope), Row: string(p.Row)}
}

func (k *Keeper) progress(ctx context.Context, id barrier.SpaceID, generation uint32) (p progress, err error) {
	fresh := progress{Format: format, Generation: generation, Begun: k.c.Clock.Now(), Pass: 1}
	err = k.c.Core.View(ctx, func(r storage.Reader) error {
		b, err := r.Get(storage.Key{Scope: Scope, Row: progressRow + string(id[:])})
		if errors.Is(err, storage.ErrNotFound) {
			p = fresh
			return nil
		}
		if err != nil {
			return err
		}
		return json.Unmarshal(b, &p)
	})
	if err != nil {
		return fresh, fmt.Errorf("reading how far a key has been turned: %w", err)
	}
	if p.Format != format || p.Generation != generation {
		return fresh, nil
	}
	return p, nil
}

func (k *Keeper) save(ctx context.Context, id barrier.SpaceID, p progress) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encoding how far a key has been turned: %w", err)
	}
	return k.change(ctx, id, func(tx storage.Tx, row storage.Key) { tx.Put(row, b) })
}

func (k *Keeper) forget(ctx context.Context, id barrier.SpaceID) error {
	return k.change(ctx, id, func(tx storage.Tx, row storage.Key) { tx.Delete(row) })
}

func (k *Keeper) change(ctx context.Context, id barrier.SpaceID, fn func(storage.Tx, storage.Key)) error {
	err := k.c.Core.Update(ctx, storage.Locks{Own: []string{Scope}}, func(tx storage.Tx) error {
		fn(tx, storage.Key{Scope: Scope, Row: progressRow + string(id[:])})
		return nil
	})
	if err != nil {
		return fmt.Errorf("keeping how far a key has been turned: %w", err)
	}
	return nil
}
