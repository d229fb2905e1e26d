package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
)

// Socket is who may use a unix socket. Empty fields leave it as it is made: to
// the owner of the process alone.
type Socket struct{ Mode, User, Group string }

// bind listens at l. A unix socket that nobody listens at any more is replaced.
func bind(ctx context.Context, l Listener) (net.Listener, error) {
	if l.Network != "unix" {
		return new(net.ListenConfig).Listen(ctx, l.Network, l.Address)
	}
	if info, err := os.Lstat(l.Address); err == nil && info.Mode().Type() == os.ModeSocket {
		if c, err := new(net.Dialer).DialContext(ctx, "unix", l.Address); err == nil {
			return nil, errors.Join(errors.New("another process listens there"), c.Close())
		}
		if err := os.Remove(l.Address); err != nil {
			return nil, fmt.Errorf("removing the socket of a process that has ended: %w", err)
		}
	}
	socket, err := new(net.ListenConfig).Listen(ctx, "unix", l.Address)
	if err != nil {
		return nil, err
	}
	if err := l.Socket.apply(l.Address); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return socket, nil
}

func (s Socket) apply(path string) error {
	mode := os.FileMode(0o600)
	if s.Mode != "" {
		n, err := strconv.ParseUint(s.Mode, 8, 32)
		if err != nil {
			return fmt.Errorf("socket_mode %q is not a mode in octal: %w", s.Mode, err)
		}
		mode = os.FileMode(n) & os.ModePerm
	}
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("setting the socket's mode: %w", err)
	}
	if s.User == "" && s.Group == "" {
		return nil
	}
	uid, gid := -1, -1
	if s.User != "" {
		n, err := numberOf(s.User, func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		})
		if err != nil {
			return fmt.Errorf("socket_user: %w", err)
		}
		uid = n
	}
	if s.Group != "" {
		n, err := numberOf(s.Group, func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		})
		if err != nil {
			return fmt.Errorf("socket_group: %w", err)
		}
		gid = n
	}
	if err := os.Chown(path, uid, gid); err != nil {
		return fmt.Errorf("setting the socket's owner: %w", err)
	}
	return nil
}

func numberOf(given string, lookup func(string) (string, error)) (int, error) {
	if n, err := strconv.Atoi(given); err == nil {
		return n, nil
	}
	found, err := lookup(given)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(found)
}

// openMetrics answers sys/metrics without a token, and leaves the rest to next.
func (n *Node) openMetrics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/v1/sys/metrics" || r.URL.RawPath != "" {
			next.ServeHTTP(w, r)
			return
		}
		b, err := n.metrics.Text()
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(b)
	})
}
