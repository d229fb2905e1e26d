package file

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/audit"
)

// appendLines appends the lines of r: a request and its response where r has
// both, one of them where it has one.
func (s *Sink) appendLines(dst []byte, r *audit.Record) []byte {
	switch r.Kind {
	case audit.Intent:
		return s.line(dst, r, "request")
	case audit.Outcome:
		return s.line(dst, r, "response")
	case audit.Request:
		return s.line(s.line(dst, r, "request"), r, "response")
	case audit.Event:
	}
	l := line{dst}
	l.open()
	l.text("time", r.Time.UTC().Format(time.RFC3339Nano))
	l.text("type", "event")
	l.key("event")
	l.open()
	l.text("name", r.Event)
	l.textIf("note", r.Note)
	l.number("sequence", int64(r.Seq)) //nolint:gosec // far from the end
	l.shut()
	l.shut()
	return append(l.b, '\n')
}

func (s *Sink) line(dst []byte, r *audit.Record, kind string) []byte {
	l := line{dst}
	l.open()
	l.text("time", r.Time.UTC().Format(time.RFC3339Nano))
	l.text("type", kind)
	s.auth(&l, r)
	s.request(&l, r)
	if kind == "response" {
		s.response(&l, r)
	}
	l.textIf("error", r.Error)
	l.shut()
	return append(l.b, '\n')
}

func (s *Sink) auth(l *line, r *audit.Record) {
	a := &r.Actor
	l.key("auth")
	l.open()
	l.textIf("accessor", s.accessor(a.Accessor))
	l.textIf("client_token", a.TokenHash)
	l.textIf("display_name", a.DisplayName)
	l.textIf("entity_id", a.EntityID)
	l.list("policies", a.Policies)
	l.key("policy_results")
	l.open()
	l.boolean("allowed", r.Allowed)
	if name, ok := granting(r.Rule); ok && r.Allowed {
		l.key("granting_policies")
		l.b = append(l.b, '[')
		l.open()
		l.text("name", name)
		l.text("type", "acl")
		l.shut()
		l.b = append(l.b, ']')
	}
	l.shut()
	l.list("token_policies", a.Policies)
	l.textIf("token_type", a.TokenKind)
	l.shut()
}

func (s *Sink) request(l *line, r *audit.Record) {
	l.key("request")
	l.open()
	l.textIf("client_token", r.Actor.TokenHash)
	l.textIf("client_token_accessor", s.accessor(r.Actor.Accessor))
	l.value("data", r.In)
	if len(r.Headers) > 0 {
		l.key("headers")
		l.open()
		for i, h := range r.Headers {
			if i > 0 && r.Headers[i-1].Name == h.Name {
				continue
			}
			var values []string
			for _, same := range r.Headers[i:] {
				if same.Name == h.Name {
					values = append(values, same.Value)
				}
			}
			l.list(strings.ToLower(h.Name), values)
		}
		l.shut()
	}
	l.textIf("id", r.RequestID)
	l.mount(r)
	l.key("namespace")
	l.open()
	l.text("id", "root")
	l.shut()
	l.textIf("operation", r.Verb)
	l.textIf("path", r.Path)
	if at, err := netip.ParseAddrPort(r.Remote); err == nil {
		l.text("remote_address", at.Addr().String())
		l.number("remote_port", int64(at.Port()))
	} else {
		l.textIf("remote_address", r.Remote)
	}
	if r.WrapTTL > 0 {
		l.number("wrap_ttl", int64(r.WrapTTL/time.Second))
	}
	l.shut()
}

func (s *Sink) response(l *line, r *audit.Record) {
	l.key("response")
	l.open()
	if r.Wrapped {
		l.value("wrap_info", r.Out)
	} else {
		l.value("data", r.Out)
	}
	l.mount(r)
	l.shut()
}

func (s *Sink) accessor(a string) string {
	if a == "" || !s.c.HMACAccessor {
		return a
	}
	return s.c.Hasher.Hash(a)
}

// granting returns the name of the policy that rule is of: `policy "dev": path …`.
func granting(rule string) (string, bool) {
	rest, ok := strings.CutPrefix(rule, `policy "`)
	if !ok {
		return "", false
	}
	name, _, ok := strings.Cut(rest, `"`)
	return name, ok
}

// line is a JSON object that is being written.
type line struct{ b []byte }

func (l *line) open() { l.b = append(l.b, '{') }
func (l *line) shut() { l.b = append(l.b, '}') }

func (l *line) key(name string) {
	if c := l.b[len(l.b)-1]; c != '{' {
		l.b = append(l.b, ',')
	}
	l.b, _ = jsontext.AppendQuote(l.b, name)
	l.b = append(l.b, ':')
}

func (l *line) text(name, s string) {
	l.key(name)
	l.b, _ = jsontext.AppendQuote(l.b, s)
}

func (l *line) textIf(name, s string) {
	if s != "" {
		l.text(name, s)
	}
}

func (l *line) number(name string, n int64) {
	l.key(name)
	l.b = strconv.AppendInt(l.b, n, 10)
}

func (l *line) boolean(name string, v bool) {
	l.key(name)
	l.b = strconv.AppendBool(l.b, v)
}

func (l *line) list(name string, items []string) {
	if len(items) == 0 {
		return
	}
	l.key(name)
	l.b = append(l.b, '[')
	for i, s := range items {
		if i > 0 {
			l.b = append(l.b, ',')
		}
		l.b, _ = jsontext.AppendQuote(l.b, s)
	}
	l.b = append(l.b, ']')
}

func (l *line) value(name string, v jsontext.Value) {
	if len(v) > 0 {
		l.key(name)
		l.b = append(l.b, v...)
	}
}

func (l *line) mount(r *audit.Record) {
	if r.MountPath == "" {
		return
	}
	l.textIf("mount_accessor", r.MountAccessor)
	class := "secret"
	switch {
	case r.MountPath == "sys/":
		class = "system"
	case strings.HasPrefix(r.MountPath, "auth/"):
		class = "auth"
	}
	l.text("mount_class", class)
	l.text("mount_point", r.MountPath)
	l.textIf("mount_type", r.MountKind)
}
