package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/cli"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/durable"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/listen"
	"rotunda.dev/rotunda/internal/localca"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/seal/keyfile"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/token"
)

const (
	idFile   = "node-id"  // in the data directory: names the directory of the node's keys
	keyFile  = "seal.key" // in the keys directory
	lockFile = "lock"     // in the data directory: held by the `up` that runs there
	doneFile = "mounted"  // in the data directory: the store has been filled, and is there ever since
	caDir    = "tls"      // in the keys directory
	period   = 30 * 24 * time.Hour
)

// home is where the parts of a node of `up` are.
type home struct {
	data, keys, id string
	config         string // the directory that keys is below
	created        bool   // the data directory is fresh
}

// findHome reads where a node is; fs.ErrNotExist says that there is none.
func findHome(data, config string) (home, error) {
	b, err := os.ReadFile(filepath.Join(data, idFile)) //nolint:gosec // the data directory is the caller's own
	if err != nil {
		return home{}, fmt.Errorf("reading the node's id: %w", err)
	}
	id := string(b)
	if len(id) > 0 && id[len(id)-1] == '\n' {
		id = id[:len(id)-1]
	}
	if _, err := hex.DecodeString(id); err != nil || len(id) != 32 {
		return home{}, fmt.Errorf("%s does not hold a node id; put back the file from a copy, or start with another --data", filepath.Join(data, idFile))
	}
	return home{data: data, keys: filepath.Join(config, "keys", id), id: id, config: config}, nil
}

// lockHome keeps every other `up` away from data until unlock is called: of two
// that start at once on a fresh machine, one makes the node and the other is
// told so.
func lockHome(data string) (unlock func() error, err error) {
	if err := privateDir(data); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(data, lockFile))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", data, err)
	}
	if !locked {
		return nil, fmt.Errorf("a node runs on %s already, or is just being started: %w", data, cli.ErrRunning)
	}
	return lock.Unlock, nil
}

// makeHome finds a node in data, or makes the directories and keys of one. Each
// step can be taken twice: a crash in between is mended by the next start.
func makeHome(data, config string) (home, error) {
	if err := privateDir(data); err != nil {
		return home{}, err
	}
	h, err := findHome(data, config)
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(data)
		if err != nil {
			return home{}, fmt.Errorf("looking into %s: %w", data, err)
		}
		entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
			return e.Name() == lockFile || strings.HasPrefix(e.Name(), "."+idFile) // a crash left half of one
		})
		if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "store" }) {
			return home{}, fmt.Errorf("%s is missing, and there is a store beside it; put it back from a copy: it holds the name of the directory in %s in which this node's keys are",
				filepath.Join(data, idFile), filepath.Join(config, "keys"))
		}
		if len(entries) > 0 {
			return home{}, fmt.Errorf("%s is not empty and holds no node; choose an empty directory with --data", data)
		}
		if err := keptApart(config); err != nil {
			return home{}, err
		}
		id := make([]byte, 16)
		_, _ = rand.Read(id) // never fails
		if err := durable.WriteFile(filepath.Join(data, idFile), []byte(hex.EncodeToString(id)+"\n"), 0o600); err != nil {
			return home{}, fmt.Errorf("writing the node's id: %w", err)
		}
		h, err = findHome(data, config)
		if err != nil {
			return home{}, err
		}
		h.created = true
	} else if err != nil {
		return home{}, err
	}
	if _, err := os.Stat(filepath.Join(data, "store")); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(data, doneFile)); err == nil {
			return home{}, errStoreLost(data)
		}
		h.created = true
	}
	if !h.created {
		if _, err := os.Stat(filepath.Join(h.keys, keyFile)); err != nil {
			return home{}, fmt.Errorf("the key file of this node is missing: %w; put it back from a copy, it cannot be made again. Where it is looked for depends on HOME and XDG_CONFIG_HOME: start the node as the user who made it", err)
		}
		return h, nil
	}
	if err := privateDir(h.keys); err != nil {
		return home{}, err
	}
	if err := keyfile.Create(filepath.Join(h.keys, keyFile)); err != nil && !errors.Is(err, fs.ErrExist) {
		return home{}, err
	}
	return h, nil
}

// errStoreLost says that a node has been there whose store is not.
func errStoreLost(data string) error {
	return cli.Advise(fmt.Errorf("the store of the node in %s is gone: what it held can only come from a copy or a backup", data),
		"rotunda operator restore --help", "mv "+data+" "+data+".old   (to begin anew with nothing)")
}

// up runs a persistent node with a key file of its own and a certificate of a
// local authority.
func up(ctx context.Context, c cli.UpConfig) (err error) {
	surviveFileLimit()
	log := newLogger(c.Log, "info", "text")
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return cli.Advise(fmt.Errorf("--listen %q is not HOST:PORT: %w", c.Listen, err), "the same command with --listen 127.0.0.1:8200")
	}
	unlock, err := lockHome(c.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := canListen(ctx, c.Listen); err != nil {
		return err
	}
	h, err := makeHome(c.Data, c.Config)
	if err != nil {
		return err
	}
	ca, err := localca.Ensure(filepath.Join(h.keys, caDir), hostsFor(host), clock.System{})
	if err != nil {
		tls := filepath.Join(h.keys, caDir)
		return cli.Advise(fmt.Errorf("making the local certificate authority: %w", err), "mv "+tls+" "+tls+".old   (another authority is made then, and pinned)")
	}
	tls, err := listen.LoadTLS(listen.TLSConfig{CertFile: ca.CertFile(), KeyFile: ca.KeyFile()})
	if err != nil {
		return fmt.Errorf("loading the certificate: %w", err)
	}
	config := nodeOfHome(h, log)
	n, err := Open(config)
	if err != nil {
		return err
	}
	done, err := n.adopt(ctx, h)
	if err != nil {
		return errors.Join(err, n.Close())
	}
	keep, stop := context.WithCancel(ctx)
	defer stop()
	go ca.Keep(keep, log)
	go tls.Watch(keep, clock.System{}, 2*time.Second, log)
	go n.reloadOnSignal(keep, tls)
	ready := func(addrs []net.Addr) error {
		owner, err := n.owner(ctx, c.Owner)
		if err != nil {
			return fmt.Errorf("making a token for the owner: %w", err)
		}
		pem, err := os.ReadFile(ca.CAFile())
		if err != nil {
			return fmt.Errorf("reading the certificate authority's certificate: %w", err)
		}
		clusterID := ""
		if err := n.gate.With(ctx, func(_ context.Context, b *broker.Broker) error {
			clusterID = b.Parts().Barrier.ClusterID()
			return nil
		}); err != nil {
			return err
		}
		return c.Ready(cli.Node{
			Address: "https://" + shownAddress(addrs[0].String(), host), ClusterID: clusterID, CACert: pem, Owner: owner, Created: h.created, Done: done,
		})
	}
	return n.Serve(ctx, []Listener{{Network: "tcp", Address: c.Listen, TLS: tls}}, ready)
}

// canListen finds out that an address is taken before anything is made.
func canListen(ctx context.Context, address string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listening at %s: %w", address, err)
	}
	return l.Close()
}

// hostsFor returns the names and addresses that a certificate for a listener at
// host is made for.
func hostsFor(host string) []string {
	hosts := []string{"127.0.0.1", "::1", "localhost"}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) && !slices.Contains(hosts, host) {
		hosts = append(hosts, host)
	}
	if own, err := os.Hostname(); err == nil && own != "" && !slices.Contains(hosts, own) {
		hosts = append(hosts, own)
	}
	return hosts
}

// nodeOfHome is the configuration of a node of `up`.
func nodeOfHome(h home, log *slog.Logger) Config {
	return Config{
		Data: h.data, Keys: h.keys, Seals: []gate.Auto{{Kind: keyfile.Kind, Sealer: keyfile.New(keyfile.Config{Path: filepath.Join(h.keys, keyFile)})}},
		Info: infoOf("rotunda-"+h.id[:8], "", ""), TTL: defaultTTL, Log: log, Clock: clock.System{},
	}
}

// shownAddress replaces an address that means every interface with loopback.
func shownAddress(bound, asked string) string {
	host, port, err := net.SplitHostPort(bound)
	if err != nil {
		return bound
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	if asked == "localhost" {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// adopt opens what is in the store, or fills an empty one.
func (n *Node) adopt(ctx context.Context, h home) (done []string, err error) {
	err = n.gate.AutoUnseal(ctx)
	switch {
	case errors.Is(err, barrier.ErrUninitialized):
		if _, err := os.Stat(filepath.Join(h.data, doneFile)); err == nil {
			return nil, errStoreLost(h.data)
		}
		if err := n.journal.Sealed(ctx, "system-init-begun"); err != nil {
			return nil, err
		}
		if _, err := n.gate.Init(ctx, gate.InitIn{NoRootToken: true}); err != nil {
			return nil, fmt.Errorf("initializing the store: %w", err)
		}
		done = append(done,
			fmt.Sprintf("Created data in %s (mode 0700)", h.data),
			fmt.Sprintf("Sealed by the key file %s (mode 0600); keep a copy of it elsewhere", filepath.Join(h.keys, keyFile)),
			"TLS: a local certificate authority, pinned in the context")
	case errors.Is(err, seal.ErrWrongKey):
		return nil, cli.Advise(err, "put back the copy of "+filepath.Join(h.keys, keyFile)+" that the store was made with")
	case err != nil:
		return nil, err
	default:
		done = append(done, "Opened data in "+h.data)
	}
	err = n.gate.With(ctx, func(ctx context.Context, b *broker.Broker) error {
		return n.ensureSecretMount(ctx, b)
	})
	if err != nil {
		return nil, fmt.Errorf("making the mount at secret/: %w", err)
	}
	return done, nil
}

// ensureSecretMount makes the KV mount at secret/ once in a store's life: a
// mount that its owner has removed does not come back.
func (n *Node) ensureSecretMount(ctx context.Context, b *broker.Broker) error {
	marker := filepath.Join(n.c.Data, doneFile)
	if _, err := os.Stat(marker); err == nil {
		return nil
	}
	if err := n.recordEvent(ctx, n.c.Clock.Now(), "mount-made", "The first start of the node makes the mount at secret/."); err != nil {
		return err
	}
	if err := ensureMount(ctx, b, "secret/", "kv-v2", "key/value secret storage"); err != nil {
		return err
	}
	return durable.WriteFile(marker, nil, 0o600)
}

// owner returns the token given, renewed, if it still is an owner's, and
// another one if not.
func (n *Node) owner(ctx context.Context, given secret.Text) (owner secret.Text, err error) {
	err = n.gate.With(ctx, func(ctx context.Context, b *broker.Broker) error {
		p := b.Parts()
		now := n.c.Clock.Now()
		if !given.Empty() {
			moment, err := p.Fence.Arrive(ctx)
			if err != nil {
				return err
			}
			if e, err := p.Tokens.Find(ctx, moment, now, given); err == nil && e.Root() && e.Left(now) > period/2 {
				owner = given
				return nil
			}
		}
		owner, err = n.issueOwner(ctx, b, now, "owner-token-issued", "The start of the node made a token for its owner.")
		return err
	})
	return owner, err
}

// issueOwner makes a token for the owner of the node, and has a record of it
// durable before anyone has the token.
func (n *Node) issueOwner(ctx context.Context, b *broker.Broker, now time.Time, event, note string) (secret.Text, error) {
	grant, err := b.Parts().Tokens.Issue(ctx, now, token.Spec{
		DisplayName: "owner", Path: "auth/token/root", Policies: []name.Name{name.Root}, Period: period,
	})
	if err != nil {
		return secret.Text{}, err
	}
	if err := n.recordEvent(ctx, now, event, note+" Its accessor is "+grant.Accessor+"."); err != nil {
		return secret.Text{}, errors.Join(err, takeBack(ctx, b.Parts().Tokens, now, grant.Accessor))
	}
	return grant.ClientToken, nil
}

// takeBack revokes a token that was made and that nobody has got.
func takeBack(ctx context.Context, tokens *token.Store, now time.Time, accessor string) error {
	e, err := tokens.Lookup(ctx, now, token.ByAccessor(accessor))
	if err != nil {
		return fmt.Errorf("looking up a token that was not handed over: %w", err)
	}
	return tokens.Revoke(ctx, e.ID)
}

// recordEvent records what the node did by itself.
func (n *Node) recordEvent(ctx context.Context, now time.Time, event, note string) error {
	return n.journal.Append(ctx, &audit.Record{
		Kind: audit.Event, Time: now, Node: n.c.Info.ClusterName, Event: event, Outcome: audit.OutcomeOK, Allowed: true, Note: note,
	})
}
