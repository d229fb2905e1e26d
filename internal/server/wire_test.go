package server

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/door/doortest"
	"rotunda.dev/rotunda/internal/door/vault"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

// wired is a whole node, unsealed and without listeners, and the token of its
// root.
func wired(t testing.TB) (n *Node, root string) {
	t.Helper()
	return wiredWith(t, func(*Config) {})
}

// wiredWith is wired by a configuration that was changed.
func wiredWith(t testing.TB, change func(*Config)) (n *Node, root string) {
	t.Helper()
	dir := storagetest.MemoryDir(t)
	h, err := makeHome(filepath.Join(dir, "data"), filepath.Join(dir, "config"))
	if err != nil {
		t.Fatal(err)
	}
	c := nodeOfHome(h, slog.New(slog.DiscardHandler))
	c.Audit.Patience = time.Minute
	change(&c)
	if n, err = Open(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	if _, err := n.adopt(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	err = n.gate.With(t.Context(), func(ctx context.Context, b *broker.Broker) error {
		issued, err := b.IssueRoot(ctx, n.c.Clock.Now())
		root = issued.Reveal()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n, root
}

// wire is a Vault door to n, without a guard on how much is asked.
func wire(n *Node) http.Handler { return vault.New(door.Env{Handler: n.front, Clock: n.c.Clock}) }

// TestWire holds what a whole node says on the wire to golden files.
func TestWire(t *testing.T) {
	doortest.Run(t, filepath.Join("testdata", "wire"), func(t *testing.T) (http.Handler, map[string]string) {
		n, root := wired(t)
		return wire(n), map[string]string{"ROOT": root}
	})
}

func TestEveryOperationCanBeServed(t *testing.T) {
	n, _ := wired(t)
	mounts, err := n.front.Operations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if err := vault.Check(m.Ops); err != nil {
			t.Errorf("%s: %v", m.Mount.Path, err)
		}
	}
}

// TestHostileRequestsChangeNothing sends what no honest client sends to every
// operation of a whole node.
func TestHostileRequestsChangeNothing(t *testing.T) {
	n, root := wired(t)
	h := wire(n)
	mounts, err := n.front.Operations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	doortest.Abuse{
		Handler: h, Mounts: mounts, Token: root,
		State: func(t *testing.T) string {
			t.Helper()
			all := ""
			for _, target := range []string{
				"sys/mounts", "sys/policies/acl?list=true", "auth/token/accessors?list=true", "secret/metadata?list=true", "secret/config",
				"auth/token/roles?list=true", "sys/audit", "sys/seal-status", "cubbyhole?list=true",
			} {
				r := httptest.NewRequest(http.MethodGet, "/v1/"+target, nil)
				r.Header.Set("X-Vault-Token", root)
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				all += doortest.Stable(w) + "\n"
			}
			return all
		},
	}.Run(t)
}
