package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/fence"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/storage"
)

// Mounted is a mount with the engine that answers there.
type Mounted struct {
	Entry  Entry
	Call   op.Mount // what its operations are told of it
	Routes *op.Routes
	Drain  func(ctx context.Context) (more bool, err error)
	Keys   barrier.Holder // of its data keys; nil for an engine that does not say
}

// Table finds the mount that a path lies in. It keeps one instance of each
// engine open, as long as its entry stays as it is.
type Table struct {
	barrier *barrier.Barrier
	core    *barrier.Space
	kinds   map[string]engine.Kind
	cache   *fence.Cache[struct{}, *snapshot]
	clock   clock.Clock
	log     *slog.Logger
	ttl     TTL
	limits  engine.Limits

	mu    sync.Mutex // guards open
	open  map[string]*Mounted
	close map[string]func() error
}

// TTL is the system's own default and bound of a lease.
type TTL struct{ Default, Max time.Duration }

type snapshot struct {
	entries []Entry
	engines atomic.Pointer[engines] // nil until all of them are open
}

// engines are the open engines of a snapshot.
type engines struct {
	mounted []*Mounted // in the order of their paths
	byPath  map[name.Path]*Mounted
	broken  map[name.Path]error // of mounts that cannot be opened; nil for none
}

// Parts is what a Table is made of.
type Parts struct {
	Barrier *barrier.Barrier
	Core    *barrier.Space
	Fence   *fence.Fence
	Kinds   []engine.Kind
	Clock   clock.Clock
	Log     *slog.Logger
	TTL     TTL
	Limits  engine.Limits // of what is mounted
}

// NewTable returns the table of the mounts in the core space.
func NewTable(c Parts) *Table {
	kinds := map[string]engine.Kind{}
	for _, k := range c.Kinds {
		kinds[k.Name] = k
	}
	return &Table{
		barrier: c.Barrier, core: c.Core, kinds: kinds, clock: c.Clock, log: c.Log, ttl: c.TTL, limits: c.Limits.WithDefaults(),
		cache: fence.NewCache[struct{}, *snapshot](c.Fence, 1),
		open:  map[string]*Mounted{}, close: map[string]func() error{},
	}
}

// Kind returns the kind that people mount under the name given, which may be
// one of its aliases, and the options that the alias stands for. The error is
// a fault of kind Invalid.
func (t *Table) Kind(named string) (engine.Kind, map[string]string, error) {
	if k, ok := t.kinds[named]; ok {
		return k, nil, nil
	}
	for _, k := range t.kinds {
		if options, ok := k.Aliases[named]; ok {
			return k, maps.Clone(options), nil
		}
	}
	return engine.Kind{}, nil, fault.New(fault.Invalid, "plugin not found in the catalog: %s", named)
}

// Kinds returns every kind of engine, in the order of their names.
func (t *Table) Kinds() []engine.Kind {
	all := slices.Collect(maps.Values(t.kinds))
	slices.SortFunc(all, func(a, b engine.Kind) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Limits returns the default and the longest TTL of what e lends.
func (t *Table) Limits(e *Entry) TTL {
	limits := t.ttl
	if d := time.Duration(e.Config.MaxTTL); d > 0 {
		limits.Max = d
	}
	if d := time.Duration(e.Config.DefaultTTL); d > 0 {
		limits.Default = d
	}
	limits.Default = min(limits.Default, limits.Max)
	return limits
}

// Entries returns every mount as of m, closing ones included.
func (t *Table) Entries(ctx context.Context, m fence.Moment) ([]Entry, error) {
	s, err := t.at(ctx, m)
	if err != nil {
		return nil, err
	}
	return s.entries, nil
}

// Mounted returns every mount that answers, as of m.
func (t *Table) Mounted(ctx context.Context, m fence.Moment) ([]*Mounted, error) {
	s, err := t.engines(ctx, m)
	if err != nil {
		return nil, err
	}
	return s.mounted, nil
}

// Find returns the mount that path lies in, as of m, and what of path is below
// it. The path of a mount may be given without its slash. The error is a fault
// of kind NoRoute where there is no such mount.
func (t *Table) Find(ctx context.Context, m fence.Moment, path name.Path) (*Mounted, string, error) {
	s, err := t.engines(ctx, m)
	if err != nil {
		return nil, "", err
	}
	for i := range len(path) { // no mount lies in another, so at most one matches
		if path[i] != '/' {
			continue
		}
		if x, ok := s.byPath[path[:i+1]]; ok {
			return x, string(path[i+1:]), nil
		}
	}
	if x, ok := s.byPath[path.Dir()]; ok {
		return x, "", nil
	}
	for at, err := range s.broken {
		if strings.HasPrefix(string(path.Dir()), string(at)) {
			return nil, "", err
		}
	}
	return nil, "", fault.New(fault.NoRoute, "no handler for route %q. route entry not found.", string(path))
}

func (t *Table) at(ctx context.Context, m fence.Moment) (*snapshot, error) {
	if s, ok := t.cache.Hit(m, struct{}{}); ok {
		return s, nil
	}
	s, err := t.cache.Get(ctx, m, struct{}{}, func(r storage.Reader) (*snapshot, error) {
		entries, err := Read(t.core.Over(r))
		return &snapshot{entries: entries}, err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// engines returns the open engines as of m. What cannot be opened is tried
// again by the next who asks.
func (t *Table) engines(ctx context.Context, m fence.Moment) (*engines, error) {
	s, err := t.at(ctx, m)
	if err != nil {
		return nil, err
	}
	if all := s.engines.Load(); all != nil {
		return all, nil
	}
	mounted, broken := t.openAll(context.WithoutCancel(ctx), s.entries)
	all := &engines{mounted: mounted, broken: broken, byPath: make(map[name.Path]*Mounted, len(mounted))}
	for _, x := range mounted {
		all.byPath[x.Entry.Path] = x
	}
	if len(broken) == 0 {
		s.engines.Store(all)
	}
	return all, nil
}

// openAll opens the engines of entries that are not open yet as they are, and
// says which cannot be opened, and why: they answer nothing, and the others go
// on. It runs outside of any transaction, because opening reads the store.
func (t *Table) openAll(ctx context.Context, entries []Entry) (all []*Mounted, broken map[name.Path]error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range entries {
		if e.Closing {
			continue
		}
		if x, ok := t.open[e.ID]; ok && same(&x.Entry, &e) {
			all = append(all, x)
			continue
		}
		x, closer, err := t.openOne(ctx, e)
		if err != nil {
			if broken == nil {
				broken = map[name.Path]error{}
			}
			broken[e.Path] = fmt.Errorf("opening the mount at %s: %w", e.Path, err)
			continue
		}
		t.open[e.ID] = x
		if closer != nil {
			t.close[e.ID] = closer
		}
		all = append(all, x)
	}
	return all, broken
}

// Finish removes all that the closing mount e keeps, then its key, then its
// entry. It can be ended at any point and called again.
func (t *Table) Finish(ctx context.Context, e Entry) error {
	id, err := barrier.ParseSpaceID(e.ID)
	if err != nil {
		return err
	}
	x, closer, err := t.openOne(ctx, e)
	switch {
	case errors.Is(err, barrier.ErrNoSpace): // its key is gone, and with it all that could be read
	case err != nil:
		return fmt.Errorf("opening the closing mount at %s: %w", e.Path, err)
	default:
		for more := x.Drain != nil; more; {
			if more, err = x.Drain(ctx); err != nil {
				return fmt.Errorf("draining the mount at %s: %w", e.Path, err)
			}
		}
		if closer != nil {
			if err := closer(); err != nil {
				return fmt.Errorf("closing the mount at %s: %w", e.Path, err)
			}
		}
	}
	if err := t.barrier.DropSpace(ctx, id); err != nil {
		return fmt.Errorf("destroying the key of the mount at %s: %w", e.Path, err)
	}
	return t.core.Update(ctx, storage.Locks{Own: []string{Scope}}, func(tx storage.Tx) error { return Remove(tx, e.ID) })
}

// FinishAll finishes every mount that is closing.
func (t *Table) FinishAll(ctx context.Context, m fence.Moment) error {
	entries, err := t.Entries(ctx, m)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Closing {
			if err := t.Finish(ctx, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Table) openOne(ctx context.Context, e Entry) (*Mounted, func() error, error) {
	kind, ok := t.kinds[e.Kind]
	if !ok {
		return nil, nil, fmt.Errorf("no engine of kind %q: %w", e.Kind, storage.ErrNewer)
	}
	id, err := barrier.ParseSpaceID(e.ID)
	if err != nil {
		return nil, nil, err
	}
	call := op.Mount{Path: e.Path, ID: e.ID, Accessor: e.Accessor, Kind: e.Kind}
	limits := t.Limits(&e)
	options := maps.Clone(e.Options)
	if e.Config.ListFilter {
		if options == nil {
			options = map[string]string{}
		}
		options["list_filter"] = "true"
	}
	env := engine.Env{
		Mount: call, Options: options, DefaultTTL: limits.Default, MaxTTL: limits.Max,
		Limits: t.limits, Clock: t.clock, Log: t.log.With(slog.String("mount", e.Accessor)),
	}
	if !e.Fixed {
		space, err := t.barrier.Space(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		env.Store, env.Values = space, space
	}
	instance, err := kind.Open(ctx, env)
	if err != nil {
		return nil, nil, err
	}
	return &Mounted{Entry: e, Call: call, Routes: op.NewRoutes(instance.Ops), Drain: instance.Drain, Keys: instance.Keys}, instance.Close, nil
}

// Close closes every instance.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, closer := range t.close {
		errs = append(errs, closer())
	}
	clear(t.open)
	clear(t.close)
	return errors.Join(errs...)
}

// same reports whether an open instance of a can answer for b: a new
// description changes nothing for it.
func same(a, b *Entry) bool {
	return a.Path == b.Path && a.Kind == b.Kind && a.Config == b.Config && maps.Equal(a.Options, b.Options)
}
