package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
	"rotunda.dev/rotunda/internal/secret"
)

func (a *app) doctorCommand() *cobra.Command {
	var data string
	var verify bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look for problems, and say what mends them",
		Long: `Look for problems on this machine and with the server, and say what mends each.

With --verify, read all that a stopped node keeps instead: every page and row of
its store, each of which is opened by its key, and every record and checkpoint of
its audit journal. It changes nothing.

Exit code 0: all is well or there are only warnings. 1: something is bad.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if verify {
				if a.Server.Verify == nil {
					return errNoServer
				}
				dir, config, err := a.nodeDirs(data)
				if err != nil {
					return err
				}
				return a.diagnosis(a.Server.Verify(cmd.Context(), dir, config))
			}
			found := a.examine(cmd.Context(), data)
			return a.diagnosis(found)
		},
	}
	c.Flags().StringVar(&data, "data", "", "`directory` of a node that rotunda up started")
	c.Flags().BoolVar(&verify, "verify", false, "read and open all that the stopped node of the directory keeps")
	return c
}

func (a *app) diagnosis(found []Finding) error {
	bad, warnings := 0, 0
	rows := make([]*object, 0, len(found))
	for _, f := range found {
		switch f.State {
		case Bad:
			bad++
		case Warning:
			warnings++
		case Good:
		}
		rows = append(rows, new(object).set("check", f.Check).set("state", f.State).set("detail", f.Detail).set("fix", f.Fix))
	}
	err := a.print(view{doc: document().set("findings", rows).json(), people: func(w io.Writer) error {
		for _, f := range found {
			if _, err := fmt.Fprintf(w, "%-8s %s: %s\n", f.State, show.Clean(f.Check), show.Clean(f.Detail)); err != nil {
				return fmt.Errorf("writing: %w", err)
			}
			if f.Fix != "" {
				if _, err := fmt.Fprintf(w, "           fix: %s\n", show.Clean(f.Fix)); err != nil {
					return fmt.Errorf("writing: %w", err)
				}
			}
		}
		a.note("%d checks: %d bad, %d warnings", len(found), bad, warnings)
		return nil
	}})
	if err == nil && bad > 0 {
		return silent(1)
	}
	return err
}

// examine makes every check.
func (a *app) examine(ctx context.Context, data string) []Finding {
	var found []Finding
	add := func(check string, state State, fix, detail string, args ...any) {
		found = append(found, Finding{Check: check, State: state, Detail: fmt.Sprintf(detail, args...), Fix: fix})
	}
	add("version", Good, "", "rotunda %s", version().Version)

	store := a.env.profiles()
	wide, fixes := store.Wide()
	for i, w := range wide {
		add("file modes", Bad, fixes[i], "%s", w)
	}
	if len(wide) == 0 {
		add("file modes", Good, "", "tokens and contexts are yours alone")
	}
	if data != "" {
		if name, err := a.contextOf(data); err == nil {
			a.context = name
		}
	}
	t, err := a.target()
	if err != nil {
		add("settings", Bad, "rotunda context list", "%v", err)
		return found
	}
	for _, name := range []string{"ADDR", "TOKEN"} {
		if a.env["VAULT_"+name] != "" && a.env["ROTUNDA_"+name] != "" && a.env["VAULT_"+name] != a.env["ROTUNDA_"+name] {
			add("settings", Warning, "unset VAULT_"+name, "VAULT_%s and ROTUNDA_%s differ; the latter counts", name, name)
		}
	}
	if a.skipVerify || a.env.flag("SKIP_VERIFY") {
		add("settings", Bad, "unset ROTUNDA_SKIP_VERIFY BAO_SKIP_VERIFY VAULT_SKIP_VERIFY", "certificates are not checked: whoever is in between can read everything")
	}
	found = append(found, a.examineServer(ctx, t)...)
	if a.Server.Doctor != nil {
		dir := first(data, t.context.Data)
		if dir != "" {
			if abs, config, err := a.nodeDirs(dir); err == nil {
				found = append(found, a.Server.Doctor(ctx, abs, config)...)
			}
		}
	}
	return found
}

// examineServer looks at the server and at what is between it and here.
func (a *app) examineServer(ctx context.Context, t target) []Finding {
	var found []Finding
	add := func(check string, state State, fix, detail string, args ...any) {
		found = append(found, Finding{Check: check, State: state, Detail: fmt.Sprintf(detail, args...), Fix: fix})
	}
	cl, err := a.clientFor(t)
	if err != nil {
		add("server", Bad, "rotunda context show", "%v", err)
		return found
	}
	none := secret.Text{}
	before := a.Clock.Now()
	resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: "sys/seal-status", Token: &none, NoWrap: true, NoRetry: true})
	took := a.Clock.Now().Sub(before)
	if err != nil {
		why, next := a.explain(ctx, err)
		add("server", Bad, first(next...), "%s", first(why, err.Error()))
		return found
	}
	add("server", Good, "", "%s answers in %s", t.address, took.Round(time.Millisecond))

	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		skew := a.Clock.Now().Sub(date)
		if skew < -10*time.Second || skew > 10*time.Second+took {
			add("clock", Bad, "timedatectl set-ntp true", "this machine and the server differ by %s", skew.Round(time.Second).Abs())
		} else {
			add("clock", Good, "", "this machine and the server agree")
		}
	}
	var s sealStatus
	if err := json.Unmarshal(resp.Body, &s); err != nil {
		add("seal", Bad, "rotunda status", "the answer cannot be read")
		return found
	}
	switch {
	case !s.Initialized:
		add("seal", Bad, "rotunda operator init", "the server has no store yet")
	case s.Sealed:
		add("seal", Bad, strings.Join(a.reopen(t.context.Data, s), "; "), "the server is sealed")
	default:
		add("seal", Good, "", "unsealed, by %s", first(s.Type, "an unknown seal"))
	}
	for _, trouble := range s.Troubles {
		found = append(found, a.troubled(trouble, t.context.Data))
	}
	found = append(found, a.examineTLS(ctx, t)...)
	if t.token.Empty() {
		add("token", Warning, "rotunda login", "there is none for %s", t.address)
		return found
	}
	if !s.Initialized || s.Sealed {
		return found
	}
	self, err := cl.Do(ctx, api.Request{Method: "GET", Path: "auth/token/lookup-self", NoWrap: true, NoRetry: true})
	if err != nil {
		fix := "rotunda login"
		if t.context.Data != "" {
			fix = "rotunda operator recover --data " + show.Shell(t.context.Data)
		}
		add("token", Bad, fix, "the one from %s is not accepted", t.source)
		return found
	}
	var tok struct {
		TTL       int64    `json:"ttl"`
		Policies  []string `json:"policies"`
		Renewable bool     `json:"renewable"`
	}
	if err := json.Unmarshal(self.Data, &tok); err != nil {
		add("token", Bad, "rotunda whoami", "what the server says of it cannot be read")
		return found
	}
	left := time.Duration(tok.TTL) * time.Second
	switch {
	case tok.TTL > 0 && left < 24*time.Hour && tok.Renewable:
		add("token", Warning, "rotunda token renew", "it ends in %s", left)
	case tok.TTL > 0 && left < 24*time.Hour:
		add("token", Warning, "rotunda login", "it ends in %s and cannot be renewed", left)
	default:
		add("token", Good, "", "accepted, with policies %s", strings.Join(tok.Policies, ", "))
	}
	return append(found, a.examineBackups(ctx, cl)...)
}

// troubled is the finding of a trouble that the server tells of.
func (a *app) troubled(trouble, data string) Finding {
	where := "the server's data directory"
	if data != "" {
		where = show.Shell(data)
	}
	f := Finding{Check: "machine", State: Bad, Detail: "the server says: " + trouble}
	switch trouble {
	case "store-full", "audit-journal-full":
		f.Fix = "free space on the disk of " + where + ", then it goes on by itself"
	case "store-read-only":
		f.Fix = "make the disk of " + where + " writable again, then it goes on by itself"
	case "store-stuck", "audit-journal-stuck":
		f.Fix = "look at the disk of " + where + ": it does not answer"
	case "store-failed", "audit-journal-failed":
		f.Fix = "look at the disk of " + where + " and at the server's log, then start the server anew"
	case "store-damaged":
		f.Fix = "stop the server, then rotunda doctor --verify; put back a backup where it finds damage"
		if data != "" {
			f.Fix = "stop the server, then rotunda doctor --verify --data " + where + "; put back a backup where it finds damage"
		}
	case "audit-sink-late":
		f.State, f.Fix = Warning, "rotunda read sys/audit-journal says which sink and why; its records wait in the journal"
	default:
		f.Fix = "look at the server's log"
	}
	return f
}

// examineTLS looks at the certificates of the connection.
func (a *app) examineTLS(ctx context.Context, t target) []Finding {
	u, err := url.Parse(t.address)
	if err != nil {
		return nil
	}
	if u.Scheme == "http" {
		if host := u.Hostname(); host == "localhost" || net.ParseIP(host).IsLoopback() {
			return []Finding{{"TLS", Warning, "plain HTTP, on this machine only", "use https, as rotunda up does"}}
		}
		return []Finding{{"TLS", Bad, "plain HTTP: others on the way can read tokens and secrets", "use an https address"}}
	}
	if u.Scheme != "https" {
		return nil
	}
	var found []Finding
	now := a.Clock.Now()
	expiry := func(what string, c *x509.Certificate, fix string) {
		left := c.NotAfter.Sub(now)
		state := Good
		if left < 0 {
			state = Bad
		} else if life := c.NotAfter.Sub(c.NotBefore); left < life/10 {
			state = Warning
		}
		f := Finding{Check: "TLS", State: state, Detail: fmt.Sprintf("%s is good until %s", what, c.NotAfter.UTC().Format("2006-01-02 15:04Z"))}
		if state != Good {
			f.Fix = fix
		}
		found = append(found, f)
	}
	for rest := t.caCert; len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			expiry("the pinned authority", c, "rotunda login --ca-cert FILE")
		}
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "443")
	}
	// The certificate was checked by the request before; here it is only read.
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // see above; nothing is sent
	conn, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return found
	}
	defer conn.Close() // nothing was sent
	if tc, ok := conn.(*tls.Conn); ok {
		state := tc.ConnectionState()
		if len(state.PeerCertificates) > 0 {
			expiry("the server's certificate", state.PeerCertificates[0], "renew it on the server, then send the server SIGHUP")
		}
		if state.Version < tls.VersionTLS13 {
			found = append(found, Finding{"TLS", Warning, "the connection is " + tls.VersionName(state.Version), "let the server offer TLS 1.3"})
		} else {
			found = append(found, Finding{Check: "TLS", State: Good, Detail: tls.VersionName(state.Version) + " with " + state.CurveID.String()})
		}
	}
	return found
}

// build is which build of the program this is.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Date     string `json:"commit_date,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

// built is the version that whoever builds the program gives it; without it the
// program takes what the toolchain knows.
var built string

// Version returns the version of this build.
func Version() string { return version().Version }

// BuildDate returns the date of the commit that this build is of, in RFC 3339;
// empty where the build does not know it.
func BuildDate() string { return version().Date }

// version returns what the build itself knows.
func version() (b build) {
	defer func() {
		if built != "" {
			b.Version = built
		}
	}()
	b = build{Version: "0.0.0-dev"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go = info.GoVersion
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		case "GOOS":
			b.OS = s.Value
		case "GOARCH":
			b.Arch = s.Value
		}
	}
	return b
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print which build this is", Args: atMost(0),
		RunE: func(*cobra.Command, []string) error {
			b := version()
			return a.print(view{doc: b, raw: &b.Version, enter: true, people: func(w io.Writer) error {
				text := "rotunda " + b.Version
				if b.Commit != "" {
					text += " (" + b.Commit[:min(len(b.Commit), 12)] + ")"
				}
				_, err := fmt.Fprintf(w, "%s, %s %s/%s\n", text, b.Go, b.OS, b.Arch)
				return err
			}})
		},
	}
}
