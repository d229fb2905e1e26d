package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/cli"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/listen"
	"rotunda.dev/rotunda/internal/memory"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// doctor looks at what a node keeps on disk, running or not.
func doctor(ctx context.Context, data, config string) []cli.Finding {
	h, err := findHome(data, config)
	if errors.Is(err, fs.ErrNotExist) {
		return []cli.Finding{{Check: "node", State: cli.Warning, Detail: data + " holds no node", Fix: "rotunda up --data " + data}}
	}
	if err != nil {
		return []cli.Finding{{Check: "node", State: cli.Bad, Detail: err.Error()}}
	}
	found := []cli.Finding{{Check: "node", State: cli.Good, Detail: data}}
	for _, dir := range []string{h.data, h.keys} {
		found = append(found, modeOf("directory mode", dir, 0o700))
	}
	found = append(found, modeOf("key file mode", filepath.Join(h.keys, keyFile), 0o600))
	found = append(found, apart(h), certificateOf(h), pinOf(h), storeOf(ctx, h, false), journalOf(ctx, h), lockable(), room(h.data))
	return found
}

func modeOf(check, path string, want fs.FileMode) cli.Finding {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return cli.Finding{Check: check, State: cli.Bad, Detail: err.Error(), Fix: "put it back from a copy"}
	case privateModes && info.Mode().Perm()&^want != 0:
		return cli.Finding{
			Check: check, State: cli.Bad, Detail: fmt.Sprintf("%s has mode %04o, so others can read it", path, info.Mode().Perm()),
			Fix: fmt.Sprintf("chmod %04o %s", want, path),
		}
	}
	return cli.Finding{Check: check, State: cli.Good, Detail: fmt.Sprintf("%s is %04o", path, info.Mode().Perm())}
}

func apart(h home) cli.Finding {
	if rel, err := filepath.Rel(h.data, h.keys); err == nil && filepath.IsLocal(rel) {
		return cli.Finding{
			Check: "keys apart from data", State: cli.Bad, Detail: "the keys lie in the data directory: who copies one has the other",
			Fix: "set XDG_CONFIG_HOME to a directory outside " + h.data + " and move " + h.keys + " there",
		}
	}
	return cli.Finding{Check: "keys apart from data", State: cli.Good, Detail: h.keys}
}

func certificateOf(h home) cli.Finding {
	dir := filepath.Join(h.keys, caDir)
	t, err := listen.LoadTLS(listen.TLSConfig{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")})
	if err != nil {
		return cli.Finding{Check: "certificate", State: cli.Bad, Detail: err.Error(), Fix: "rotunda up --data " + h.data}
	}
	left := t.Leaf().NotAfter.Sub(clock.System{}.Now())
	if left < 7*24*time.Hour {
		return cli.Finding{
			Check: "certificate", State: cli.Warning, Detail: fmt.Sprintf("it ends in %d days", int(left.Hours()/24)), Fix: "rotunda up --data " + h.data + " (a running node renews it by itself)",
		}
	}
	return cli.Finding{Check: "certificate", State: cli.Good, Detail: "valid until " + t.Leaf().NotAfter.UTC().Format(time.DateOnly)}
}

// storeOf checks every page and every row of the store of a node, which is to be
// stopped or may run.
func storeOf(ctx context.Context, h home, stopped bool) cli.Finding {
	bad := func(err error) cli.Finding {
		return cli.Finding{Check: "store", State: cli.Bad, Detail: err.Error(), Fix: "keep a copy of " + h.data + ", then restore a backup: rotunda operator restore"}
	}
	if _, err := os.Stat(storeDir(h.data)); err != nil {
		return bad(err)
	}
	store, err := openStore(nodeOfHome(h, slog.New(slog.DiscardHandler)))
	if errors.Is(err, storage.ErrInUse) && !stopped {
		return cli.Finding{Check: "store", State: cli.Good, Detail: "in use by a running node; while it is stopped, this checks every page"}
	}
	if err != nil {
		return bad(err)
	}
	if c, ok := store.(interface{ Check(context.Context) error }); ok {
		err = c.Check(ctx)
	}
	if err = errors.Join(err, store.Close()); err != nil {
		return bad(err)
	}
	return cli.Finding{Check: "store", State: cli.Good, Detail: "every page and row is whole"}
}

// journalOf verifies the audit journal without its key: that needs no open store.
func journalOf(ctx context.Context, h home) cli.Finding {
	dir := filepath.Join(h.data, "audit")
	r, err := audit.OpenReader(dir, secret.Bytes{})
	if err != nil {
		return cli.Finding{Check: "audit journal", State: cli.Bad, Detail: err.Error(), Fix: "rotunda audit verify --data " + h.data}
	}
	defer r.Close()
	report, err := r.Verify(ctx, nil)
	if known, unknown := nodeOfHome(h, slog.New(slog.DiscardHandler)).known(ctx); unknown == nil { // it is while the node runs
		known.key.Wipe()
		err = errors.Join(err, r.Compare(ctx, known.stored), r.Compare(ctx, known.pinned))
	}
	if err != nil {
		return cli.Finding{Check: "audit journal", State: cli.Bad, Detail: err.Error(), Fix: "rotunda audit verify --data " + h.data}
	}
	return cli.Finding{Check: "audit journal", State: cli.Good, Detail: fmt.Sprintf("%d records in %d segments, chained", report.Records, report.Segments)}
}

// pinOf looks for what the node remembers of its store.
func pinOf(h home) cli.Finding {
	pins, err := filepath.Glob(filepath.Join(h.keys, "pin-*.json"))
	if err != nil || len(pins) == 0 {
		return cli.Finding{
			Check: "old copies", State: cli.Warning, Detail: "the node remembers nothing of its store: an old copy of it would not be noticed",
			Fix: "rotunda up --data " + h.data + " (each start remembers; let the node write to " + h.keys + ")",
		}
	}
	return modeOf("old copies are noticed by", pins[0], 0o600)
}

func lockable() cli.Finding {
	var pages memory.Pages
	held := pages.Hold(make([]byte, 32))
	defer held.Wipe()
	defer pages.Close()
	return cli.Finding{Check: "key memory", State: cli.Good, Detail: "keys are kept in " + string(pages.Kind()) + " memory"}
}
