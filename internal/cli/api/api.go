// Package api is a small client of the Vault API, for the command line.
//
// It sends what it is told and reads answers strictly, keeping every value as
// the bytes that came: numbers keep their digits. It never logs, and an error
// of it holds neither a token nor a value.
package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/secret"
)

// MaxBody is the size in bytes of the largest answer that is read.
const MaxBody = 32 << 20

// Config says which server a [Client] talks to and how. Only Address is needed.
type Config struct {
	Address    string      // "https://127.0.0.1:8200" or "unix:///run/rotunda/api.sock"
	Token      secret.Text // sent with every request that does not say otherwise
	Namespace  string
	WrapTTL    string
	Headers    http.Header
	UserAgent  string
	CACert     []byte // PEM; where given, the only certificates that are trusted
	CAPath     string // directory of PEM files, likewise
	ClientCert string // path of a PEM file
	ClientKey  string // path of a PEM file
	ServerName string
	SkipVerify bool
	Proxy      string        // URL; empty takes the proxy that the environment names, if any
	Timeout    time.Duration // of one attempt; 0 is 60 s
	Retries    int           // attempts after the first
	NoRedirect bool
	Clock      clock.Clock

	// Show, where set, is given each request, and the curl command for it,
	// instead of its being sent; Do then returns [ErrShown].
	Show func(r Request, curl string)
}

// ErrShown is returned by [Client.Do] where the request was shown and not sent.
var ErrShown = errors.New("the request was shown and not sent")

// Client sends requests to one server.
type Client struct {
	c    Config
	base *url.URL
	http *http.Client
}

// New returns a Client for c.
func New(c Config) (*Client, error) {
	if c.Clock == nil {
		c.Clock = clock.System{}
	}
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	base, err := url.Parse(c.Address)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the address %q is not like https://127.0.0.1:8200", c.Address)
	case base.Scheme == "unix":
		socket := base.Path
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "unix", socket)
		}
		base = &url.URL{Scheme: "http", Host: "localhost"}
	case base.Scheme != "https" && base.Scheme != "http" || base.Host == "":
		return nil, fmt.Errorf("the address %q is not like https://127.0.0.1:8200", c.Address)
	case base.User != nil:
		return nil, errors.New("the address must not hold a user name or a password")
	}
	if c.Proxy != "" {
		proxy, err := url.Parse(c.Proxy)
		if err != nil || proxy.Host == "" {
			return nil, errors.New("the proxy address is not a URL")
		}
		t.Proxy = http.ProxyURL(proxy)
	}
	if t.TLSClientConfig, err = tlsConfig(c); err != nil {
		return nil, err
	}
	base.Path = strings.TrimSuffix(base.Path, "/")
	return &Client{c: c, base: base, http: &http.Client{
		Transport:     t,
		Timeout:       c.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func tlsConfig(c Config) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName, InsecureSkipVerify: c.SkipVerify} //nolint:gosec // only where the person asks for it
	if len(c.CACert) > 0 {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(c.CACert) {
			return nil, errors.New("the CA certificate holds no certificate in PEM")
		}
	}
	if c.CAPath != "" {
		if conf.RootCAs == nil {
			conf.RootCAs = x509.NewCertPool()
		}
		files, err := os.ReadDir(c.CAPath)
		if err != nil {
			return nil, fmt.Errorf("reading CA certificates: %w", err)
		}
		found := false
		for _, f := range files {
			pem, err := os.ReadFile(filepath.Join(c.CAPath, f.Name())) // the person names the directory
			found = err == nil && conf.RootCAs.AppendCertsFromPEM(pem) || found
		}
		if !found {
			return nil, fmt.Errorf("no file in %s holds a certificate in PEM", c.CAPath)
		}
	}
	if c.ClientCert != "" || c.ClientKey != "" {
		pair, err := tls.LoadX509KeyPair(c.ClientCert, c.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("reading the client certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// Address returns the address that the Client was made for.
func (c *Client) Address() string { return c.c.Address }

// HasToken reports whether requests carry a token.
func (c *Client) HasToken() bool { return !c.c.Token.Empty() }

// Request is one request. Its Path is relative to /v1/ and not escaped.
type Request struct {
	Method      string
	Path        string
	Query       url.Values
	Body        jsontext.Value // nil sends none
	ContentType string         // of Body; most servers want none, PATCH wants application/merge-patch+json
	Token       *secret.Text   // instead of the Client's; empty sends none
	NoWrap      bool           // do not ask for the answer to be wrapped
	NoRetry     bool           // give up after the first attempt
}

// MergePatch is the content type that a PATCH needs.
const MergePatch = "application/merge-patch+json"

// Response is a good answer.
type Response struct {
	Status int
	Header http.Header
	Body   []byte // as it came
	Secret        // what Body holds, where it is the common envelope
}

// Secret is the envelope of an answer.
type Secret struct {
	RequestID     string         `json:"request_id"`
	LeaseID       string         `json:"lease_id"`
	LeaseDuration int64          `json:"lease_duration"`
	Renewable     bool           `json:"renewable"`
	Data          jsontext.Value `json:"data"`
	Warnings      []string       `json:"warnings"`
	Auth          *Auth          `json:"auth,omitempty"`
	WrapInfo      *WrapInfo      `json:"wrap_info,omitempty"`
	MountType     string         `json:"mount_type,omitempty"`
}

// Auth is what a login or a new token answers.
type Auth struct {
	ClientToken      string         `json:"client_token"`
	Accessor         string         `json:"accessor"`
	Policies         []string       `json:"policies"`
	TokenPolicies    []string       `json:"token_policies"`
	IdentityPolicies []string       `json:"identity_policies"`
	Metadata         jsontext.Value `json:"metadata"`
	Orphan           bool           `json:"orphan"`
	EntityID         string         `json:"entity_id"`
	LeaseDuration    int64          `json:"lease_duration"`
	Renewable        bool           `json:"renewable"`
	TokenType        string         `json:"token_type,omitempty"`
	NumUses          int64          `json:"num_uses,omitempty"`
}

// WrapInfo is where a wrapped answer waits.
type WrapInfo struct {
	Token           string `json:"token"`
	Accessor        string `json:"accessor"`
	TTL             int64  `json:"ttl"`
	CreationTime    string `json:"creation_time"`
	CreationPath    string `json:"creation_path"`
	WrappedAccessor string `json:"wrapped_accessor,omitempty"`
}

// Error is an answer that refuses.
type Error struct {
	Method, Path string
	Status       int
	Messages     []string
	Response     *Response // with what else came: a deleted version is a 404 with its metadata
}

// Error returns the server's messages.
func (e *Error) Error() string {
	text := strings.Join(e.Messages, "; ")
	if one, ok := strings.CutPrefix(text, "1 error occurred:\n\t* "); ok {
		text = strings.TrimSpace(one)
	}
	if text == "" {
		text = strings.ToLower(http.StatusText(e.Status))
	}
	if text == "" {
		text = "the server refused"
	}
	return text
}

// StatusOf returns the status of the refusal in err, or 0.
func StatusOf(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status
	}
	return 0
}

// Unreachable is the failure to get any answer.
type Unreachable struct {
	Address string
	Err     error
}

// Error says which server did not answer, and why.
func (e *Unreachable) Error() string { return "asking " + e.Address + ": " + reason(e.Err) }

// Unwrap returns the cause.
func (e *Unreachable) Unwrap() error { return e.Err }

// reason returns the innermost cause of err, without the URL, whose query may
// hold what is not for a screen.
func reason(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if o, ok := errors.AsType[*net.OpError](err); ok && o.Err != nil && !isCertificate(err) {
		err = o.Err
	}
	return err.Error()
}

func isCertificate(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

// Do sends r and returns its answer. The error is an [*Error], an
// [*Unreachable], or that of ctx.
func (c *Client) Do(ctx context.Context, r Request) (*Response, error) {
	u := c.url(r)
	token := c.token(r)
	if c.c.Show != nil {
		c.c.Show(r, c.curl(r, u.String(), !token.Empty()))
		return nil, ErrShown
	}
	retries := c.c.Retries
	if r.NoRetry {
		retries = 0
	}
	for attempt := 0; ; attempt++ {
		resp, err := c.send(ctx, r, u, token)
		if err == nil || attempt >= retries || !again(r.Method, err) {
			return resp, err
		}
		if err := c.c.Clock.Wait(ctx, c.c.Clock.Now().Add(pause(attempt, err))); err != nil {
			return nil, fmt.Errorf("waiting to ask again: %w", err)
		}
	}
}

func (c *Client) url(r Request) url.URL {
	u := *c.base
	plain := strings.TrimPrefix(r.Path, "/")
	u.Path = c.base.Path + "/v1/" + plain
	u.RawPath = c.base.Path + "/v1/" + escape(plain)
	u.RawQuery = r.Query.Encode()
	return u
}

// again reports whether asking once more may help. A write that may have
// reached the server is not repeated unless the server said that it failed.
func again(method string, err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		switch {
		case e.Status == http.StatusServiceUnavailable && (strings.Contains(e.Error(), "sealed") || strings.Contains(e.Error(), "initialized")):
			return false // not by waiting
		case e.Status == http.StatusPreconditionFailed, e.Status == http.StatusTooManyRequests:
			return true
		}
		return e.Status >= 500 && e.Status != http.StatusNotImplemented
	}
	if u, ok := errors.AsType[*Unreachable](err); ok {
		if isCertificate(u.Err) || errors.Is(u.Err, context.Canceled) {
			return false
		}
		if o, ok := errors.AsType[*net.OpError](u.Err); ok && o.Op == "dial" {
			a, ok := o.Addr.(*net.TCPAddr)
			return !ok || !a.IP.IsLoopback() // nobody on this machine is on the way
		}
		return method == http.MethodGet || method == "LIST" || method == http.MethodHead
	}
	return false
}

// pause returns how long to wait before the next attempt.
func pause(attempt int, err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok && e.Response != nil {
		if s, err := strconv.Atoi(e.Response.Header.Get("Retry-After")); err == nil && s >= 0 {
			return min(time.Duration(s)*time.Second, 10*time.Second)
		}
	}
	d := 250 * time.Millisecond << min(attempt, 4)
	jitter, err := rand.Int(rand.Reader, big.NewInt(int64(d)))
	if err != nil {
		return d
	}
	return d + time.Duration(jitter.Int64())
}

func (c *Client) request(ctx context.Context, r Request, u url.URL, token secret.Text) (*http.Request, error) {
	var body io.Reader
	if r.Body != nil {
		body = bytes.NewReader(r.Body)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	maps.Copy(req.Header, c.c.Headers)
	req.Header.Set("X-Vault-Request", "true")
	if c.c.UserAgent != "" {
		req.Header.Set("User-Agent", c.c.UserAgent)
	}
	if !token.Empty() {
		req.Header.Set("X-Vault-Token", token.Reveal())
	}
	if c.c.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", c.c.Namespace)
	}
	if c.c.WrapTTL != "" && !r.NoWrap {
		req.Header.Set("X-Vault-Wrap-TTL", c.c.WrapTTL)
	}
	if r.ContentType != "" {
		req.Header.Set("Content-Type", r.ContentType)
	}
	return req, nil
}

func (c *Client) send(ctx context.Context, r Request, u url.URL, token secret.Text) (*Response, error) {
	for hop := 0; ; hop++ {
		req, err := c.request(ctx, r, u, token)
		if err != nil {
			return nil, err
		}
		resp, err := c.http.Do(req)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, &Unreachable{c.c.Address, err}
		}
		raw, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
		_ = resp.Body.Close() // it was only read
		if err != nil {
			return nil, &Unreachable{c.c.Address, err}
		}
		if len(raw) > MaxBody {
			return nil, fmt.Errorf("the answer has more than %d MiB", MaxBody>>20)
		}
		if loc, err := resp.Location(); err == nil && resp.StatusCode >= 300 && resp.StatusCode < 400 && hop == 0 && !c.c.NoRedirect {
			if u.Scheme == "https" && loc.Scheme != "https" {
				return nil, errors.New("the server redirects to plain HTTP, where the token would be read by others")
			}
			u = *loc
			continue
		}
		return read(r, resp, raw)
	}
}

func read(r Request, resp *http.Response, raw []byte) (*Response, error) {
	out := &Response{Status: resp.StatusCode, Header: resp.Header, Body: raw}
	var envelope struct {
		Secret
		Errors []string `json:"errors"`
	}
	isJSON := jsontext.Value(raw).Kind() == '{'
	if isJSON {
		var loose struct {
			Errors []string       `json:"errors"`
			Data   jsontext.Value `json:"data"`
		}
		if err := json.Unmarshal(raw, &envelope); err == nil {
			out.Secret = envelope.Secret
		} else if err := json.Unmarshal(raw, &loose); err == nil {
			envelope.Errors, out.Data = loose.Errors, loose.Data // an answer that has no envelope, and a member of its own under one of these names
		} else if !jsontext.Value(raw).IsValid() && resp.StatusCode < 300 {
			return nil, errors.New("the answer is not strict JSON")
		}
	}
	if resp.StatusCode < 300 {
		return out, nil
	}
	if !isJSON && len(raw) > 0 {
		first, _, _ := strings.Cut(string(raw[:min(len(raw), 300)]), "\n")
		envelope.Errors = []string{strings.TrimSpace(first)}
	}
	return nil, &Error{Method: r.Method, Path: r.Path, Status: resp.StatusCode, Messages: envelope.Errors, Response: out}
}

// escape percent-encodes the segments of path.
func escape(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return strings.Join(segments, "/")
}

// curl returns r as a command line that takes the token from the environment.
func (c *Client) curl(r Request, u string, token bool) string {
	var b strings.Builder
	b.WriteString("curl")
	if r.Method != http.MethodGet {
		b.WriteString(" -X " + r.Method)
	}
	if c.c.SkipVerify {
		b.WriteString(" --insecure")
	}
	if token {
		b.WriteString(` -H "X-Vault-Token: $(rotunda print token)"`)
	}
	b.WriteString(` -H 'X-Vault-Request: true'`)
	if c.c.Namespace != "" {
		b.WriteString(" -H " + quote("X-Vault-Namespace: "+c.c.Namespace))
	}
	if c.c.WrapTTL != "" && !r.NoWrap {
		b.WriteString(" -H " + quote("X-Vault-Wrap-TTL: "+c.c.WrapTTL))
	}
	if r.ContentType != "" {
		b.WriteString(" -H " + quote("Content-Type: "+r.ContentType))
	}
	if r.Body != nil {
		b.WriteString(" -d " + quote(string(r.Body)))
	}
	b.WriteString(" " + quote(u))
	return b.String()
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
