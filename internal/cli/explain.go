package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/profile"
	"rotunda.dev/rotunda/internal/cli/show"
)

// explain returns why err came about, where that is not plain from it, and the
// commands that help.
func (a *app) explain(ctx context.Context, err error) (why string, next []string) {
	if f, ok := errors.AsType[failure](err); ok && len(f.next) > 0 {
		return "", f.next
	}
	if u, ok := errors.AsType[usageError](err); ok {
		if u.command != "" {
			return "", []string{u.command + " --help"}
		}
		return "", nil
	}
	if e, ok := errors.AsType[*api.Error](err); ok {
		return a.explainRefusal(ctx, e)
	}
	if u, ok := errors.AsType[*api.Unreachable](err); ok {
		return a.explainSilence(u)
	}
	if _, ok := errors.AsType[oddAnswer](err); ok {
		return "something else listens at that address, or a proxy answers in its place", []string{"rotunda context show", "rotunda doctor"}
	}
	if errors.Is(err, profile.ErrNoHome) {
		return "", []string{"set HOME, or XDG_CONFIG_HOME and XDG_STATE_HOME", "set VAULT_ADDR and VAULT_TOKEN, which need nothing saved"}
	}
	if errors.Is(err, audit.ErrCorrupt) {
		return "the audit journal is not what was recorded, and nothing of it is left out silently", auditRemedies
	}
	return a.explainSystem(err)
}

// explainSystem explains what the operating system refuses.
func (a *app) explainSystem(err error) (why string, next []string) {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return a.whoListens(err), []string{"the same command with --listen 127.0.0.1:0   (takes a port that is free)"}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine has no such address", []string{"the same command with --listen 127.0.0.1:8200"}
	case errors.Is(err, syscall.ENOSPC):
		return "the disk is full", []string{"df -h" + fileOf(err)}
	case errors.Is(err, syscall.EROFS):
		return "the file system is mounted read-only", []string{"the same command with another directory, or with HOME or XDG_STATE_HOME set to one that can be written"}
	case errors.Is(err, fs.ErrPermission) && fileOf(err) != "":
		return "it belongs to another user, or lies where this one may not write", []string{"the same command as its owner, with another directory, or with HOME set to one of your own"}
	}
	return "", nil
}

// fileOf returns the file that an error is about, after a space; nothing where
// there is none.
func fileOf(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return " " + show.Shell(e.Path)
	}
	return ""
}

// whoListens says who has an address that is taken.
func (a *app) whoListens(err error) string {
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Addr != nil {
		if all, err := a.env.profiles().Load(); err == nil {
			for name, c := range all.Contexts {
				if c.Data != "" && c.Address == "https://"+e.Addr.String() {
					return "another program listens there; it may be your node in " + show.Clean(c.Data) + " (context " + show.Clean(name) + ")"
				}
			}
		}
	}
	return "another program listens there"
}

func (a *app) explainRefusal(ctx context.Context, e *api.Error) (why string, next []string) {
	text := strings.ToLower(e.Error())
	switch {
	case e.Status == 503 && strings.Contains(text, "initialized"), e.Status == 501:
		return "the server has no store yet", []string{"rotunda operator init"}
	case e.Status == 503 && strings.Contains(text, "sealed"):
		s, ok := a.sealStatus(ctx) // sealed is what it says of itself either way
		switch {
		case ok && !s.Initialized:
			return "the server has no store yet", []string{"rotunda operator init"}
		case ok && s.OpensItself:
			return "it was sealed while it ran; it opens itself when it starts", a.reopen(a.dataOf(), s)
		}
		return "the server has no key to its store until enough of its keepers give theirs", []string{"rotunda operator unseal"}
	case e.Status == 400 && strings.Contains(text, "already initialized"):
		return "its keys were told once, to whoever initialized it", []string{"rotunda status", "rotunda login   (with the root token that was printed then)"}
	case e.Status == 400 && strings.Contains(text, "has no shares of its key"):
		if s, ok := a.sealStatus(ctx); ok && s.OpensItself {
			next = a.reopen(a.dataOf(), s)
			return "", slices.DeleteFunc(next, func(n string) bool { return strings.HasPrefix(n, "rotunda operator unseal") })
		}
		return "the configuration names no seal that the store was made with", []string{"rotunda server --config FILE --check"}
	case e.Status == 503:
		return "the server cannot answer at the moment", []string{"rotunda status"}
	case e.Status == 403:
		return a.explainDenied(ctx, e)
	case e.Status == 404 && strings.Contains(text, "no handler for route"):
		return "nothing is mounted there", []string{"rotunda secrets list"}
	case e.Status == 404 && e.Error() == "not found":
		return "there is nothing at " + show.Clean(e.Path), nil
	case e.Status == 400 && strings.Contains(text, "check-and-set parameter required"):
		return "writes here must say which version they replace", []string{"rotunda history PATH", "the same command with --cas VERSION"}
	case e.Status == 400 && strings.Contains(text, "check-and-set"):
		return "someone else wrote in between, or the version given was not the current one", []string{"rotunda history PATH"}
	case e.Status == 400 && strings.Contains(text, "https"):
		t, err := a.target()
		if rest, ok := strings.CutPrefix(t.address, "http://"); err == nil && ok {
			return "the server speaks TLS", []string{"the same command with --address https://" + rest}
		}
	case e.Status >= 300 && e.Status < 400:
		return "the server sends on to another address, which does not answer either or is not to be followed", []string{"rotunda context show", "the same command with --address, where it is known"}
	case e.Status == 429:
		return "too many requests came at once", nil
	}
	return "", nil
}

// capability is what a policy has to allow for a request with this method.
func capability(method string) string {
	switch method {
	case "LIST":
		return "list"
	case "PUT", "POST":
		return "update"
	case "PATCH":
		return "patch"
	case "DELETE":
		return "delete"
	}
	return "read"
}

// explainSilence says why no answer came.
func (a *app) explainSilence(u *api.Unreachable) (why string, next []string) {
	address, err := url.Parse(u.Address)
	if err != nil {
		return "", nil
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](u.Err); ok {
		return "the server's certificate is not from an authority that this machine trusts",
			[]string{
				"rotunda login --address " + u.Address + " --ca-cert FILE   (FILE from whoever runs the server; it is remembered)",
				"eval \"$(rotunda env --data DIR)\"   (for a node that runs on this machine)",
			}
	}
	if h, ok := errors.AsType[x509.HostnameError](u.Err); ok && h.Certificate != nil {
		names := append([]string{}, h.Certificate.DNSNames...)
		for _, ip := range h.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		return "the certificate is for " + show.Clean(strings.Join(names, ", ")),
			[]string{"use an address with one of these names, or --tls-server-name NAME"}
	}
	if c, ok := errors.AsType[x509.CertificateInvalidError](u.Err); ok && c.Reason == x509.Expired {
		return "the server's certificate is out of date, or one of the two clocks is wrong", []string{"rotunda doctor"}
	}
	text := u.Err.Error()
	if _, ok := errors.AsType[tls.RecordHeaderError](u.Err); ok || strings.Contains(text, "server gave HTTP response to HTTPS client") {
		address.Scheme = "http"
		return "the server speaks plain HTTP there, not TLS", []string{"the same command with --address " + address.String() + "   (only on this machine: others on the way could read it)"}
	}
	if strings.Contains(text, "malformed HTTP response") || strings.Contains(text, "unsupported protocol") {
		address.Scheme = "https"
		return "the server does not speak plain HTTP", []string{"the same command with --address " + address.String()}
	}
	if errors.Is(u.Err, syscall.ECONNREFUSED) || errors.Is(u.Err, os.ErrNotExist) {
		if host := address.Hostname(); host == "localhost" || host == "" || net.ParseIP(host).IsLoopback() {
			up := "rotunda up"
			if data := a.dataOf(); data != "" {
				up += " --data " + show.Shell(data)
			}
			return "no server listens at " + u.Address, []string{up, "rotunda context list   (if the server is elsewhere)"}
		}
		return "no server listens at " + u.Address, []string{"rotunda context list", "rotunda doctor"}
	}
	if _, ok := errors.AsType[*net.DNSError](u.Err); ok {
		return "the name " + show.Clean(address.Hostname()) + " is not known here", []string{"rotunda context list"}
	}
	if e, ok := errors.AsType[net.Error](u.Err); ok && e.Timeout() {
		return "no answer came in time: a firewall may drop the packets, or the server is overloaded", []string{"rotunda doctor"}
	}
	return "", []string{"rotunda doctor"}
}
