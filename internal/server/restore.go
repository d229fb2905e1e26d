package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/backup"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/builtin"
	"rotunda.dev/rotunda/internal/cli"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/conf"
	"rotunda.dev/rotunda/internal/durable"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/seal/keyfile"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/bolt"
)

// writeBackup writes a backup of a stopped node.
func writeBackup(ctx context.Context, n cli.StoppedNode, w io.Writer) error {
	c, err := stopped(n.Data, n.Config, n.File)
	if err != nil {
		return err
	}
	return c.unsealed(ctx, func(b *barrier.Barrier) error {
		_, err := backup.Write(ctx, b, c.Info.ClusterName, w)
		return err
	})
}

// unsealerOf returns what opens a backup: a key file, the seals of a
// configuration, or people with shares.
func unsealerOf(c cli.RestoreConfig) (backup.Unseal, error) {
	if c.KeyFile != "" {
		return keyfile.New(keyfile.Config{Path: c.KeyFile}).Unseal, nil
	}
	var autos []gate.Auto
	if c.File != "" {
		config, _, err := conf.Load(c.File)
		if err != nil {
			return nil, err
		}
		autos = sealsOf(config.Seals)
	}
	return func(ctx context.Context, stanzas []seal.Stanza, binding []byte) (secret.Bytes, error) {
		var failed error
		for _, a := range autos {
			root, err := a.Sealer.Unseal(ctx, stanzas, binding)
			if err == nil {
				return root, nil
			}
			failed = errors.Join(failed, fmt.Errorf("unsealing by %s: %w", a.Kind, err))
		}
		i := slices.IndexFunc(stanzas, func(s seal.Stanza) bool { return s.Kind == quorum{}.Kind() })
		if i < 0 || c.Share == nil {
			return secret.Bytes{}, errors.Join(failed, errors.New("this store is not opened by shares; name its key file with --key-file or its configuration with --config"))
		}
		return gather(stanzas[i], binding, c.Share)
	}, nil
}

// gather asks for shares until there are enough.
func gather(st seal.Stanza, binding []byte, ask func(have, need int) (secret.Text, error)) (secret.Bytes, error) {
	collection, err := quorum{}.Collect(st, binding)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer collection.Wipe()
	for {
		have, need, _ := collection.Progress()
		share, err := ask(have, need)
		if err != nil {
			return secret.Bytes{}, err
		}
		if root, err := collection.Add(share); !errors.Is(err, seal.ErrMoreShares) {
			return root, err
		}
	}
}

// openBackup opens a backup and calls fn, with the root key too.
func openBackup(ctx context.Context, c cli.RestoreConfig, fn func(o *backup.Opened, root secret.Bytes) error) error {
	f, err := os.Open(c.Backup)
	if err != nil {
		return fmt.Errorf("opening the backup: %w", err)
	}
	defer f.Close()
	unseal, err := unsealerOf(c)
	if err != nil {
		return err
	}
	var root secret.Bytes
	defer func() { root.Wipe() }()
	o, err := backup.Open(ctx, f, func(ctx context.Context, stanzas []seal.Stanza, binding []byte) (secret.Bytes, error) {
		found, err := unseal(ctx, stanzas, binding)
		if err == nil {
			root = found.Clone()
		}
		return found, err
	})
	if err != nil {
		return err
	}
	defer o.Close()
	return fn(o, root)
}

func reportOf(r backup.Report) cli.BackupReport {
	return cli.BackupReport{Made: r.Made, ClusterID: r.ClusterID, Name: r.Name, Rows: r.Rows, Opened: r.Opened, Lost: r.Lost, Bytes: r.Bytes}
}

// checkBackup verifies a backup, and opens every row of it.
func checkBackup(ctx context.Context, c cli.RestoreConfig) (out cli.BackupReport, err error) {
	err = openBackup(ctx, c, func(o *backup.Opened, _ secret.Bytes) error {
		r, err := o.Check(ctx)
		out = reportOf(r)
		return err
	})
	return out, err
}

// load makes a quarantined store below data out of a backup, whose rows are all
// opened on the way, and calls finish before it is closed.
func load(ctx context.Context, o *backup.Opened, root secret.Bytes, data string, finish func(*barrier.Barrier) error) (err error) {
	err = bolt.Load(storeDir(data), func() (storage.Key, []byte, error) {
		row, err := o.Next(ctx)
		return row.Key, row.Value, err
	})
	if err != nil {
		return err
	}
	store, err := builtin.Stores["bolt"](builtin.StoreConfig{Dir: storeDir(data), Clock: clock.System{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("opening the restored store: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	b, err := barrier.Open(ctx, store, root)
	if err != nil {
		return fmt.Errorf("opening the restored store: %w", err)
	}
	defer b.Close()
	if err := audit.Forget(ctx, store); err != nil {
		return err
	}
	if err := quarantine(ctx, b); err != nil {
		return err
	}
	if finish != nil {
		return finish(b)
	}
	return nil
}

// blank refuses a directory that has something in it.
func blank(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking into %s: %w", dir, err)
	case len(entries) > 0:
		return fmt.Errorf("%s is not empty: a backup is restored where there is nothing; choose another directory", dir)
	}
	return nil
}

// restore makes a node out of a backup. Everything is made in a directory
// beside the one of the data, which gets its name at the end, so that a crash
// leaves nothing that looks like a node.
func restore(ctx context.Context, c cli.RestoreConfig) (out cli.BackupReport, err error) {
	data := c.Data
	var node Config
	if c.File != "" {
		config, _, err := conf.Load(c.File)
		if err != nil {
			return out, err
		}
		if node, err = nodeOf(config, slog.New(slog.DiscardHandler)); err != nil {
			return out, err
		}
		data = node.Data
	} else if err := keptApart(c.Config); err != nil {
		return out, err
	}
	if err := blank(data); err != nil {
		return out, err
	}
	if err := durable.MkdirAll(filepath.Dir(data), 0o700); err != nil {
		return out, fmt.Errorf("making %s: %w", filepath.Dir(data), err)
	}
	making, err := os.MkdirTemp(filepath.Dir(data), "."+filepath.Base(data)+".restoring-")
	if err != nil {
		return out, fmt.Errorf("making a directory to restore to: %w", err)
	}
	defer os.RemoveAll(making)
	key := ""
	err = openBackup(ctx, c, func(o *backup.Opened, root secret.Bytes) error {
		err := load(ctx, o, root, making, func(b *barrier.Barrier) (err error) {
			if c.File == "" {
				key, err = settleHome(ctx, b, making, c)
			}
			return err
		})
		out = reportOf(o.Report())
		return err
	})
	if err != nil {
		return cli.BackupReport{}, err
	}
	if c.File != "" { // and not a journal that was there before
		if err := audit.ForgetPinned(node.Keys); err != nil {
			return cli.BackupReport{}, err
		}
	}
	if err := nameDir(making, data); err != nil {
		return cli.BackupReport{}, fmt.Errorf("naming the restored data: %w", err)
	}
	out.Data, out.KeyFile = data, key
	return out, nil
}

// settleHome makes what a node of `up` has beside its store: its id, and its
// directory of keys with a key file that opens the store.
func settleHome(ctx context.Context, b *barrier.Barrier, data string, c cli.RestoreConfig) (key string, err error) {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	if err := durable.WriteFile(filepath.Join(data, idFile), []byte(hex.EncodeToString(id)+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("writing the node's id: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(data, "mounted"), nil, 0o600); err != nil {
		return "", fmt.Errorf("writing what was mounted: %w", err)
	}
	h, err := findHome(data, c.Config)
	if err != nil {
		return "", err
	}
	if err := privateDir(h.keys); err != nil {
		return "", err
	}
	key = filepath.Join(h.keys, keyFile)
	if c.KeyFile != "" {
		copied, err := seal.ReadPrivate(c.KeyFile, 1<<10)
		if err != nil {
			return "", fmt.Errorf("reading the key file: %w", err)
		}
		defer copied.Wipe()
		return key, copied.Use(func(k []byte) error { return durable.WriteFile(key, k, 0o600) })
	}
	if err := keyfile.Create(key); err != nil {
		return "", err
	}
	root, err := b.Root()
	if err != nil {
		return "", err
	}
	defer root.Wipe()
	binding, err := barrier.Binding(ctx, b.Raw())
	if err != nil {
		return "", err
	}
	st, err := keyfile.New(keyfile.Config{Path: key}).Seal(ctx, root, binding)
	if err != nil {
		return "", err
	}
	return key, b.SetStanzas(ctx, func(old []seal.Stanza) ([]seal.Stanza, error) { return append(slices.Clone(old), st), nil })
}

// nameDir gives a directory its name, which may be that of an empty one.
func nameDir(from, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) { // only an empty one goes
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(to))
}

// unwrapped is a seal that has been opened.
type unwrapped struct{ root secret.Bytes }

var _ seal.Sealer = unwrapped{}

// Seal implements [seal.Sealer].
func (unwrapped) Seal(context.Context, secret.Bytes, []byte) (seal.Stanza, error) {
	return seal.Stanza{}, seal.ErrNotMine
}

// Unseal implements [seal.Sealer].
func (o unwrapped) Unseal(context.Context, []seal.Stanza, []byte) (secret.Bytes, error) {
	return o.root.Clone(), nil
}

// readBackup answers a GET from a backup.
func readBackup(ctx context.Context, c cli.RestoreConfig, path string) (answer []byte, err error) {
	err = servedBackup(ctx, c, func(get getter) error {
		status, body, err := get(path)
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("the backup answers %d to a read of %s: %s", status, path, body)
		}
		answer = body
		return nil
	})
	return answer, err
}

// readTree returns the secrets of a mount that are at a path, or below it, in a backup.
func readTree(ctx context.Context, c cli.RestoreConfig, t cli.Tree) (found []cli.TreeSecret, err error) {
	mount := escaped(t.Mount)
	data, metadata := mount, mount
	if t.V2 {
		data, metadata = mount+"data/", mount+"metadata/"
	}
	err = servedBackup(ctx, c, func(get getter) error {
		read := func(path string) error {
			status, body, err := get(data + escaped(path))
			if err != nil {
				return err
			}
			if status == http.StatusNotFound { // deleted, or none
				return nil
			}
			value, err := valueIn(body, t.V2)
			if status != http.StatusOK || err != nil {
				return errors.Join(fmt.Errorf("the backup answers %d to a read of %s", status, path), err)
			}
			found = append(found, cli.TreeSecret{Path: path, Data: secret.NewJSON(value)})
			return nil
		}
		var walk func(dir string) error
		walk = func(dir string) error {
			status, body, err := get(strings.TrimSuffix(metadata+escaped(dir), "/") + "?list=true")
			if err != nil || status == http.StatusNotFound {
				return err
			}
			var answer struct {
				Data struct {
					Keys []string `json:"keys"`
				} `json:"data"`
			}
			if err := json.Unmarshal(body, &answer); status != http.StatusOK || err != nil {
				return errors.Join(fmt.Errorf("the backup answers %d to a list of %s", status, dir), err)
			}
			for _, key := range answer.Data.Keys {
				do := read
				if strings.HasSuffix(key, "/") {
					do = walk
				}
				if err := do(dir + key); err != nil {
					return err
				}
			}
			return nil
		}
		if t.Path == "" {
			return walk("")
		}
		return errors.Join(read(t.Path), walk(t.Path+"/"))
	})
	return found, err
}

// escaped is a path as it stands in a URL.
func escaped(path string) string { return (&url.URL{Path: path}).EscapedPath() }

// valueIn returns the data of a secret in an answer, byte for byte.
func valueIn(body []byte, v2 bool) (jsontext.Value, error) {
	var answer struct {
		Data jsontext.Value `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || !v2 {
		return answer.Data, err
	}
	return valueIn(answer.Data, false)
}

// getter answers a GET by root.
type getter func(path string) (status int, body []byte, err error)

// servedBackup calls fn with a node that nobody else talks to, of a backup that
// is restored to a directory beside it, which is removed again.
func servedBackup(ctx context.Context, c cli.RestoreConfig, fn func(getter) error) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(c.Backup), "."+filepath.Base(c.Backup)+".reading-")
	if err != nil {
		return fmt.Errorf("making a directory to restore to: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return openBackup(ctx, c, func(o *backup.Opened, root secret.Bytes) (err error) {
		data := filepath.Join(dir, "data")
		if err := privateDir(data); err != nil {
			return err
		}
		if err := load(ctx, o, root, data, nil); err != nil {
			return err
		}
		n, err := Open(Config{
			Data: data, Keys: filepath.Join(dir, "keys"), Seals: []gate.Auto{{Kind: "opened", Sealer: unwrapped{root}}},
			Info: infoOf("backup", "", ""), TTL: defaultTTL, Log: slog.New(slog.DiscardHandler), Clock: clock.System{},
		})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, n.Close()) }()
		if err := n.gate.AutoUnseal(ctx); err != nil {
			return err
		}
		var token secret.Text
		err = n.gate.With(ctx, func(ctx context.Context, b *broker.Broker) (err error) {
			token, err = b.IssueShortRoot(ctx, n.c.Clock.Now())
			return err
		})
		if err != nil {
			return err
		}
		h := n.Handler()
		return fn(func(path string) (int, []byte, error) { return getBy(ctx, h, token, path) })
	})
}

// getBy answers a GET within this process.
func getBy(ctx context.Context, h http.Handler, token secret.Text, path string) (status int, body []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://backup/v1/"+path, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("asking for %s: %w", path, err)
	}
	r.RequestURI, r.RemoteAddr = r.URL.RequestURI(), "127.0.0.1:1"
	r.Header.Set("X-Vault-Token", token.Reveal()) //nolint:forbidigo // a request within this process
	w := &recorder{head: http.Header{}}
	h.ServeHTTP(w, r)
	return w.status, w.body.Bytes(), nil
}

// recorder keeps an answer.
type recorder struct {
	head   http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.head }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) { r.status = status }

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
