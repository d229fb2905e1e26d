// Package brokertest makes brokers for tests: over a store in memory and a
// journal on a disk that fails when it is told to, with a mount of an engine
// whose operations misbehave in every way that an operation can.
package brokertest

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/audit/audittest"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/fence"
	"rotunda.dev/rotunda/internal/mount"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/policy"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/storage/storagetest"
	"rotunda.dev/rotunda/internal/token"
)

// Rig is a broker and all that it stands on.
type Rig struct {
	Broker  *broker.Broker
	Store   *storagetest.Failing
	Disk    *audittest.Disk
	Journal *audit.Journal
	Barrier *barrier.Barrier
	Probe   *Probe
	Root    secret.Text // a root token

	t testing.TB
}

// Journal returns a locked journal on a disk, until the test ends.
func Journal(t testing.TB, disk *audittest.Disk) *audit.Journal {
	t.Helper()
	j, err := audit.Open("", audit.Config{
		Node: "test", KeysDir: t.TempDir(), Clock: clock.System{}, SegmentBytes: 64 << 10, Reserve: -1, Disk: disk,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// Build makes the broker of an open barrier, with p mounted at probe/.
func Build(ctx context.Context, b *barrier.Barrier, j *audit.Journal, p *Probe) (*broker.Broker, error) {
	core, err := b.Space(ctx, barrier.Core)
	if err != nil {
		return nil, err
	}
	tokens, err := b.Space(ctx, barrier.Tokens)
	if err != nil {
		return nil, err
	}
	changes := fence.New(b.Raw())
	policies := policy.NewStore(core, changes, policy.Config{})
	if err := policies.EnsureDefaults(ctx); err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	table := mount.NewTable(mount.Parts{
		Barrier: b, Core: core, Fence: changes, Clock: clock.System{}, Log: log, Kinds: []engine.Kind{p.Kind()},
		TTL: mount.TTL{Default: time.Hour, Max: time.Hour},
	})
	moment, err := changes.Arrive(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := table.Entries(ctx, moment)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		if err := Mount(ctx, b, core, "probe/"); err != nil {
			return nil, err
		}
	}
	return broker.New(broker.Parts{
		Barrier: b, Fence: changes, Mounts: table, Tokens: token.NewStore(b, tokens, changes, clock.System{}, token.Config{}), Policies: policies,
		Journal: j, Node: "test", Clock: clock.System{}, Log: log,
		Hasher: audit.NewHasher(func(parts ...[]byte) [32]byte { return b.MAC(barrier.ForAudit, parts...) }),
		Close:  table.Close,
	}), nil
}

// Mount mounts a probe at path.
func Mount(ctx context.Context, b *barrier.Barrier, core *barrier.Space, path name.Path) error {
	e := mount.NewEntry(path, "probe")
	id, err := barrier.ParseSpaceID(e.ID)
	if err != nil {
		return err
	}
	if err := b.AddSpace(ctx, id); err != nil {
		return err
	}
	return core.Update(ctx, storage.Locks{Own: []string{mount.Scope}}, func(tx storage.Tx) error { return mount.Add(tx, e) })
}

// New returns a rig that lasts until the test ends.
func New(t testing.TB) *Rig {
	t.Helper()
	ctx := t.Context()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	root := secret.NewBytes(key)
	r := &Rig{t: t, Store: storagetest.Fail(mem.New(mem.Config{})), Disk: audittest.NewDisk(), Probe: NewProbe()}
	if err := barrier.Create(ctx, r.Store, root, []seal.Stanza{{Kind: "test"}}); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.Barrier, err = barrier.Open(ctx, r.Store, root); err != nil {
		t.Fatal(err)
	}
	r.Journal = Journal(t, r.Disk)
	if err := r.Journal.Unlock(r.Barrier.AuditKey(), r.Store); err != nil {
		t.Fatal(err)
	}
	if r.Broker, err = Build(ctx, r.Barrier, r.Journal, r.Probe); err != nil {
		t.Fatal(err)
	}
	if r.Root, err = r.Broker.IssueRoot(ctx, clock.System{}.Now()); err != nil {
		t.Fatal(err)
	}
	return r
}

// Request returns a request of root's.
func (r *Rig) Request(verb op.Verb, path string) *broker.Request {
	return Request(r.Root, verb, path)
}

// Request returns a request.
func Request(presented secret.Text, verb op.Verb, path string) *broker.Request {
	return &broker.Request{
		ID: uuid.NewString(), Time: clock.System{}.Now(), Token: presented, Verb: verb, Path: name.Path(path), Source: source{},
		Encode: func(*broker.Response) (secret.JSON, error) { return secret.NewJSON([]byte(`{"answer":1}`)), nil },
	}
}

type source struct{}

func (source) Fill(any) error              { return nil }
func (source) Params() ([]op.Param, error) { return nil, nil }

// Records returns the records of a request, in order.
func (r *Rig) Records(request string) []*audit.Record {
	r.t.Helper()
	var out []*audit.Record
	for rec, err := range r.Journal.Reader().Records(r.t.Context(), 1) {
		if err != nil {
			r.t.Fatalf("reading the journal: %v", err)
		}
		if rec.RequestID == request {
			kept := *rec
			out = append(out, &kept)
		}
	}
	return out
}

// ErrProbe is what operations of a probe fail with.
var ErrProbe = errors.New("brokertest: failed as asked")

// Probe is an engine whose operations do what an operation may do, and what it
// should not. Make it with [NewProbe].
type Probe struct {
	Entered chan struct{} // has a token for each call of probe/wait that runs
	Release chan struct{} // what probe/wait waits for
	Ran     atomic.Int64  // calls that reached their work

	FailOpen  atomic.Bool // opening an instance fails
	FailDrain atomic.Bool // draining one fails
	Left      atomic.Int64
}

// NewProbe returns a probe.
func NewProbe() *Probe {
	return &Probe{Entered: make(chan struct{}, 1024), Release: make(chan struct{})}
}

// Row is where the writes of a probe write: "a", and "b" too where they are two transactions.
func Row(row string) storage.Key { return storage.Key{Scope: "xprobe", Row: row} }

var locks = storage.Locks{Own: []string{"xprobe"}}

// Answer is what a probe answers.
type Answer struct {
	Did string `json:"did" audit:"clear"`
}

// Kind is the kind of engine that p is.
func (p *Probe) Kind() engine.Kind {
	return engine.Kind{Name: "probe", Does: "Misbehaves.", Open: p.open}
}

func (p *Probe) open(_ context.Context, env engine.Env) (engine.Instance, error) {
	if p.FailOpen.Load() {
		return engine.Instance{}, ErrProbe
	}
	def := func(called string, verb op.Verb) op.Def[op.Nothing, Answer] {
		return op.Def[op.Nothing, Answer]{Name: "probe." + called, Verb: verb, Path: called, Does: "Tests the broker."}
	}
	put := func(tx storage.Tx, row string) { tx.Put(Row(row), []byte("1")) }
	tx := func(called string, do func(tx storage.Tx) error) op.Op {
		return def(called, op.Update).InTx(env.Store, op.Work[op.Nothing, Answer]{
			Locks: func(*op.Call, op.Nothing) storage.Locks { return locks },
			Do: func(tx storage.Tx, _ *op.Call, _ op.Nothing) (Answer, error) {
				p.Ran.Add(1)
				return Answer{called}, do(tx)
			},
		})
	}
	with := func(called string, verb op.Verb, do func(ctx context.Context, c *op.Call) error) op.Op {
		return def(called, verb).With(func(ctx context.Context, c *op.Call, _ op.Nothing) (Answer, error) {
			p.Ran.Add(1)
			return Answer{called}, do(ctx, c)
		})
	}
	outside := def("outside", op.Update)
	outside.Effects = op.Outside
	return engine.Instance{
		Ops: []op.Op{
			with("read", op.Read, func(context.Context, *op.Call) error { return nil }),
			with("panic", op.Read, func(context.Context, *op.Call) error { panic("a value that nobody may see") }),
			with("fail", op.Read, func(context.Context, *op.Call) error { return ErrProbe }),
			with("refuse", op.Read, func(context.Context, *op.Call) error { return fault.New(fault.Invalid, "refused as asked") }),
			with("wait", op.Read, func(ctx context.Context, _ *op.Call) error {
				p.Entered <- struct{}{}
				select {
				case <-p.Release:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}),
			with("twice", op.Update, func(ctx context.Context, _ *op.Call) error {
				for _, row := range []string{"a", "b"} {
					if err := env.Store.Update(ctx, locks, func(tx storage.Tx) error { put(tx, row); return nil }); err != nil {
						return err
					}
				}
				return nil
			}),
			with("halfway", op.Update, func(ctx context.Context, _ *op.Call) error {
				if err := env.Store.Update(ctx, locks, func(tx storage.Tx) error { put(tx, "a"); return nil }); err != nil {
					return err
				}
				panic("halfway")
			}),
			tx("write", func(tx storage.Tx) error { put(tx, "a"); return nil }),
			tx("write-fail", func(tx storage.Tx) error { put(tx, "a"); return fault.New(fault.Invalid, "refused as asked") }),
			tx("write-panic", func(tx storage.Tx) error { put(tx, "a"); panic("in a transaction") }),
			outside.With(func(context.Context, *op.Call, op.Nothing) (Answer, error) {
				p.Ran.Add(1)
				return Answer{"outside"}, nil
			}),
		},
		Drain: func(ctx context.Context) (bool, error) {
			if p.FailDrain.Load() {
				return false, ErrProbe
			}
			err := env.Store.Update(ctx, locks, func(tx storage.Tx) error {
				tx.Delete(Row("a"))
				tx.Delete(Row("b"))
				return nil
			})
			return p.Left.Add(-1) > 0, err
		},
	}, nil
}

// Has reports whether the probe at probe/ has written a row.
func (r *Rig) Has(row string) bool {
	r.t.Helper()
	p := r.Broker.Parts()
	moment, err := p.Fence.Arrive(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	m, _, err := p.Mounts.Find(r.t.Context(), moment, "probe/")
	if err != nil {
		r.t.Fatal(err)
	}
	id, err := barrier.ParseSpaceID(m.Entry.ID)
	if err != nil {
		r.t.Fatal(err)
	}
	space, err := r.Barrier.Space(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	err = space.View(r.t.Context(), func(s storage.Reader) error {
		_, err := s.Get(Row(row))
		return err
	})
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		r.t.Fatal(err)
	}
	return err == nil
}
