package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/cli"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/conf"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// CLI returns the server's half of the command line.
func CLI() cli.Server {
	return cli.Server{
		Up: up, Serve: serve, Recover: recoverOwner, AcceptRollback: acceptRollback, AuditSearch: auditSearch, AuditVerify: auditVerify,
		AuditKey: auditKey, AuditProve: auditProve, AuditAcceptLoss: acceptLoss, Doctor: doctor, Verify: verify,
		Backups: cli.Backups{Write: writeBackup, Check: checkBackup, Restore: restore, Read: readBackup, Tree: readTree},
		More:    []cli.Command{benchCommand},
	}
}

// stopped is the configuration of a node that is not running, by the
// configuration file if there is one and as `up` keeps it if not.
func stopped(data, config, file string) (Config, error) {
	log := slog.New(slog.DiscardHandler)
	if file != "" {
		c, _, err := conf.Load(file)
		if err != nil {
			return Config{}, err
		}
		return nodeOf(c, log)
	}
	h, err := findHome(data, config)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("%s holds no node of `rotunda up`; name its configuration with --config, or another directory with --data", data)
	}
	if err != nil {
		return Config{}, err
	}
	return nodeOfHome(h, log), nil
}

// opened opens the store of a stopped node and calls fn.
func (c Config) opened(fn func(storage.Store) error) (err error) {
	if _, err := os.Stat(filepath.Join(c.Data, "store")); err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	store, err := openStore(c)
	if errors.Is(err, storage.ErrInUse) {
		return fmt.Errorf("the node is running; stop it first, or ask it without --data: %w", err)
	}
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return fn(store)
}

// unsealed opens the store of a stopped node with a seal that needs no people,
// and calls fn.
func (c Config) unsealed(ctx context.Context, fn func(*barrier.Barrier) error) error {
	return c.opened(func(store storage.Store) error { return c.unseal(ctx, store, fn) })
}

// unseal opens a store with a seal that needs no people, and calls fn.
func (c Config) unseal(ctx context.Context, store storage.Store, fn func(*barrier.Barrier) error) error {
	stanzas, err := barrier.Stanzas(ctx, store)
	if err != nil {
		return fmt.Errorf("reading the seal slots: %w", err)
	}
	binding, err := barrier.Binding(ctx, store)
	if err != nil {
		return fmt.Errorf("reading the seal slots: %w", err)
	}
	root, err := c.rootBySeal(ctx, stanzas, binding)
	if err != nil {
		return err
	}
	b, err := barrier.Open(ctx, store, root)
	root.Wipe()
	if err != nil {
		return fmt.Errorf("opening the barrier: %w", err)
	}
	defer b.Close()
	return fn(b)
}

// rootBySeal returns the root key by the first seal that opens it without people.
func (c Config) rootBySeal(ctx context.Context, stanzas []seal.Stanza, binding []byte) (root secret.Bytes, err error) {
	err = errors.New("no seal of this node opens without people")
	for _, a := range c.Seals {
		if root, err = a.Sealer.Unseal(ctx, stanzas, binding); err == nil {
			return root, nil
		}
	}
	return secret.Bytes{}, fmt.Errorf("opening the store: %w", err)
}

func (c Config) auditDir() string {
	if c.Audit.Dir != "" {
		return c.Audit.Dir
	}
	return filepath.Join(c.Data, "audit")
}

// auditSearch reads a stopped node's journal.
func auditSearch(ctx context.Context, q cli.AuditQuery, emit func(jsontext.Value) error) error {
	c, err := stopped(q.Data, q.Config, q.File)
	if err != nil {
		return err
	}
	return c.unsealed(ctx, func(b *barrier.Barrier) (err error) {
		key := b.AuditKey()
		defer key.Wipe()
		r, err := audit.OpenReader(cmp.Or(q.Dir, c.auditDir()), key)
		if err != nil {
			return fmt.Errorf("opening the audit journal: %w", err)
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		path := strings.TrimSuffix(q.Path, "*")
		var found []jsontext.Value
		f := audit.Filter{
			Actor: q.Actor, Path: path, Op: q.Op, Outcome: q.Outcome, RequestID: q.Request, From: q.Since, To: q.Until,
			OldestFirst: q.Last == 0, After: q.After, Limit: q.Last,
		}
		if !q.Value.Empty() {
			f.Value = audit.NewHasher(func(parts ...[]byte) [32]byte { return b.MAC(barrier.ForAudit, parts...) }).HashText(q.Value)
		}
		if !f.OldestFirst {
			f.After = 0
		}
		err = r.Search(ctx, f, func(rec *audit.Record) error {
			if rec.Seq <= q.After || path == q.Path && path != "" && rec.Path != path {
				return nil
			}
			v, err := rec.MarshalJSON()
			if err != nil {
				return err
			}
			if f.OldestFirst {
				return emit(v)
			}
			found = append(found, v)
			return nil
		})
		if err != nil && !errors.Is(err, audit.ErrCorrupt) {
			return err
		}
		for _, v := range slices.Backward(found) {
			if err := emit(v); err != nil {
				return err
			}
		}
		return err // what is damaged
	})
}

// auditVerify checks a stopped node's journal, with the key where the node can
// be opened and without it where not.
func auditVerify(ctx context.Context, q cli.AuditQuery) (cli.AuditReport, error) {
	c, err := stopped(q.Data, q.Config, q.File)
	if err != nil {
		return cli.AuditReport{}, err
	}
	known, err := c.known(ctx)
	if err != nil {
		return cli.AuditReport{}, err
	}
	key, trust := known.key, known.trust
	defer key.Wipe()
	r, err := audit.OpenReader(c.auditDir(), key)
	if err != nil {
		return cli.AuditReport{}, fmt.Errorf("opening the audit journal: %w", err)
	}
	found, err := r.VerifySigned(ctx, trust, nil)
	out := cli.ReportOf(found)
	out.Problems = known.damaged
	var failed error
	for _, err := range []error{r.Compare(ctx, known.stored), r.Compare(ctx, known.pinned), err} {
		switch {
		case !errors.Is(err, audit.ErrCorrupt):
			failed = errors.Join(failed, err)
		case !slices.Contains(out.Problems, err.Error()):
			out.Problems = append(out.Problems, err.Error())
		}
	}
	return out, errors.Join(failed, r.Close())
}

// knowledge is what is known of a stopped node's journal outside of it.
type knowledge struct {
	stored, pinned *audit.Anchor
	damaged        []string     // what is not believed of them; a start says so, and goes on
	key            secret.Bytes // none where no seal opens without people
	trust          audit.Trust
}

// believe leaves out what is damaged of what is known.
func (k *knowledge) believe(a *audit.Anchor, err error) (*audit.Anchor, error) {
	if errors.Is(err, audit.ErrCorrupt) {
		k.damaged = append(k.damaged, err.Error())
		return nil, nil //nolint:nilnil // nothing is known then
	}
	return a, err
}

// known returns what the store and the node's keys know of the journal.
func (c Config) known(ctx context.Context) (k knowledge, err error) {
	err = c.opened(func(store storage.Store) (err error) {
		if k.stored, err = k.believe(audit.StoredAnchor(ctx, store)); err != nil {
			return err
		}
		sealed := c.unseal(ctx, store, func(b *barrier.Barrier) error {
			k.key = b.AuditKey()
			k.trust.Key, _ = c.publicKey(ctx, b) // none of a journal that cannot be read
			return nil
		})
		if sealed != nil {
			c.Log.LogAttrs(ctx, slog.LevelDebug, "the journal is read without its key", slog.Any("cause", sealed))
		}
		return nil
	})
	if err != nil {
		return k, err
	}
	k.pinned, err = k.believe(audit.PinnedAnchor(c.Keys))
	if k.pinned != nil && k.stored != nil && !k.pinned.Same(k.stored) {
		k.pinned = nil // of another store
	}
	return k, err
}

// acceptLoss lets a stopped node go on without what is lost of its journal.
func acceptLoss(ctx context.Context, n cli.StoppedNode) (out cli.AuditLoss, err error) {
	c, err := stopped(n.Data, n.Config, n.File)
	if err != nil {
		return out, err
	}
	k, err := c.known(ctx)
	if err != nil {
		return out, err
	}
	k.key.Wipe()
	l, err := audit.AcceptLoss(ctx, c.auditDir(), c.Keys, k.stored, k.trust, clock.System{}.Now())
	if err != nil {
		return out, err
	}
	return cli.AuditLoss{At: l.At, Found: l.Found, Kept: filepath.Join(c.auditDir(), l.Kept)}, nil
}

// publicKey returns the key that verifies the journal's checkpoints.
func (c Config) publicKey(ctx context.Context, b *barrier.Barrier) (_ *audit.Key, err error) {
	r, err := audit.OpenReader(c.auditDir(), secret.Bytes{})
	if err != nil {
		return nil, fmt.Errorf("opening the audit journal: %w", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	id, err := r.JournalID(ctx)
	if err != nil {
		return nil, err
	}
	seed := b.Derive(checkpointKey)
	defer seed.Wipe()
	return audit.PublicKey(seed, b.ClusterID(), id)
}

// auditKey returns the public key of a stopped node's journal.
func auditKey(ctx context.Context, q cli.AuditQuery) (text string, err error) {
	c, err := stopped(q.Data, q.Config, q.File)
	if err != nil {
		return "", err
	}
	err = c.unsealed(ctx, func(b *barrier.Barrier) error {
		key, err := c.publicKey(ctx, b)
		if err == nil {
			text = key.String()
		}
		return err
	})
	return text, err
}

// auditProve proves that a stopped node's journal has a record.
func auditProve(ctx context.Context, q cli.AuditQuery, record string) (proof jsontext.Value, err error) {
	c, err := stopped(q.Data, q.Config, q.File)
	if err != nil {
		return nil, err
	}
	err = c.unsealed(ctx, func(b *barrier.Barrier) (err error) {
		key := b.AuditKey()
		defer key.Wipe()
		r, err := audit.OpenReader(c.auditDir(), key)
		if err != nil {
			return fmt.Errorf("opening the audit journal: %w", err)
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		seq, err := strconv.ParseUint(record, 10, 64)
		if err != nil || len(record) == 32 {
			if seq, err = r.Find(ctx, record); err != nil {
				return err
			}
		}
		p, err := r.Prove(ctx, seq)
		if err != nil {
			return err
		}
		proof, err = json.Marshal(p)
		return err
	})
	return proof, err
}

// recoverOwner makes an owner's token for a stopped node of `up`.
func recoverOwner(ctx context.Context, c cli.RecoverConfig) (out cli.Node, err error) {
	config, err := stopped(c.Data, c.Config, "")
	if err != nil {
		return out, err
	}
	h, err := findHome(c.Data, c.Config)
	if err != nil {
		return out, err
	}
	n, err := Open(config)
	if errors.Is(err, storage.ErrInUse) {
		return out, fmt.Errorf("the node is running; stop it first: %w", err)
	}
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if err := n.gate.AutoUnseal(ctx); err != nil {
		return out, err
	}
	err = n.gate.With(ctx, func(ctx context.Context, b *broker.Broker) error {
		now := n.c.Clock.Now()
		out.ClusterID = b.Parts().Barrier.ClusterID()
		out.Owner, err = n.issueOwner(ctx, b, now, "owner-recovered", "An owner's token was made with the node's key file.")
		return err
	})
	if err != nil {
		return out, err
	}
	out.CACert, err = os.ReadFile(filepath.Join(h.keys, caDir, "ca.pem"))
	if err != nil {
		return out, fmt.Errorf("reading the certificate authority's certificate: %w", err)
	}
	return out, nil
}
