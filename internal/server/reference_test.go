package server

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rotunda.dev/rotunda/internal/builtin"
	"rotunda.dev/rotunda/internal/cli"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/conf"
	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/door/vault"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
)

// written returns whether the tests write the pages that they compare. Another
// test of this package may have asked for the flag as well.
func written() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

// TestReference holds the pages of docs/reference to what they are made from.
func TestReference(t *testing.T) {
	pages := map[string]func(*testing.T) string{
		"api.md": apiPage, "config.md": configPage, "metrics.md": metricsPage, "errors.md": errorsPage, "environment.md": environmentPage,
		"cli.md": func(*testing.T) string { return cli.Reference(CLI().More) },
	}
	for file, page := range pages {
		t.Run(file, func(t *testing.T) {
			path := filepath.Join("..", "..", "docs", "reference", file)
			got := page(t)
			if written() {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s is stale; make docs writes it (-want +got):\n%s", path, diff)
			}
		})
	}
}

// apiPage describes every operation of every kind of mount that there is.
func apiPage(t *testing.T) string {
	n, root := wired(t)
	enable := httptest.NewRequest(http.MethodPost, "/v1/sys/mounts/kv", strings.NewReader(`{"type":"kv","options":{"version":"1"}}`))
	enable.Header.Set("X-Vault-Token", root)
	answer := httptest.NewRecorder()
	n.handler(Listener{}).ServeHTTP(answer, enable)
	if answer.Code/100 != 2 {
		t.Fatalf("POST sys/mounts/kv = %d %s", answer.Code, answer.Body)
	}
	mounts, err := n.front.Operations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	does := map[string]string{
		"secret/": "Keeps secrets with versions. The engine is `kv` with the option `version=2`, or `kv-v2`.", "kv/": "Keeps secrets without versions. The engine is `kv` with the option `version=1`, or `kv-v1`.",
		"cubbyhole/": "Keeps a few secrets for one token, and ends with it.", "auth/token/": "Creates, looks up, renews and revokes tokens.",
		"sys/": "Administers the server.",
	}
	titles := map[string]string{"secret/": "KV version 2", "kv/": "KV version 1", "cubbyhole/": "Cubbyhole", "auth/token/": "Tokens", "sys/": "System"}
	order := []string{"secret/", "kv/", "cubbyhole/", "auth/token/", "sys/"}
	var b strings.Builder
	b.WriteString("# HTTP API\n\nGenerated from the operations; `make docs` writes it.\n\n" +
		"Every path is below `/v1/`. The token is sent as `X-Vault-Token`, or as `Authorization: Bearer`. Requests and answers are JSON;\n" +
		"answers are in the envelope of the Vault API, under `data`, unless said otherwise. A list can be asked for with the method `LIST`\n" +
		"or with `GET` and `?list=true`. A running server describes what is mounted in it as OpenAPI at `sys/internal/specs/openapi`.\n" +
		"What the kinds of errors mean is in [errors.md](errors.md).\n\n")
	for _, path := range order {
		fmt.Fprintf(&b, "- [%s](#%s), mounted at `%s` in what follows\n", titles[path], strings.ReplaceAll(strings.ToLower(titles[path]), " ", "-"), path)
	}
	for _, path := range order {
		i := slices.IndexFunc(mounts, func(m door.MountedOps) bool { return string(m.Mount.Path) == path })
		if i < 0 {
			t.Fatalf("nothing is mounted at %s", path)
		}
		ops := slices.Clone(mounts[i].Ops)
		slices.SortStableFunc(ops, func(x, y op.Op) int { return strings.Compare(x.Name, y.Name) })
		page := string(vault.Reference(vault.Page{Title: titles[path], Does: does[path], Mount: path, Ops: ops}))
		page = regexp.MustCompile(`(?m)^Generated from the operations.*\n\n?`).ReplaceAllString(page, "")
		page = regexp.MustCompile(`(?m)^(#+) `).ReplaceAllString(page, "#$1 ")
		b.WriteString("\n" + strings.TrimSpace(page) + "\n")
	}
	for i := range mounts {
		if !slices.Contains(order, string(mounts[i].Mount.Path)) {
			t.Errorf("the page leaves out what is mounted at %s", mounts[i].Mount.Path)
		}
	}
	return b.String()
}

// configPage describes the configuration file from the structs that it is read into.
func configPage(*testing.T) string {
	var b strings.Builder
	b.WriteString("# Configuration\n\nGenerated from the structs that it is read into; `make docs` writes it.\n\n" +
		"`rotunda server --config FILE` reads a file in HCL or JSON; `rotunda server --check --config FILE` only checks it. An example is\n" +
		"[packaging/rotunda.hcl](../../packaging/rotunda.hcl). What other servers have and this one has no use for is a warning that says so;\n" +
		"what is unknown, of the wrong kind or out of bounds is an error with its line, and all errors are told at once. A duration is a number of\n" +
		"seconds or text such as `\"90s\"` or `\"1h30m\"`; a size is a number of bytes or text such as `\"64KiB\"`. A secret does not stand in the\n" +
		"file: it is `\"file:PATH\"`.\n")
	stanza(&b, reflect.TypeFor[conf.Server](), "## At the top\n", "")
	return b.String()
}

// stanza writes the table of t, and those of the stanzas in it.
func stanza(b *strings.Builder, t reflect.Type, heading, does string) {
	b.WriteString("\n" + heading)
	if does != "" {
		b.WriteString("\n" + does + "\n")
	}
	b.WriteString("\n| name | kind | default | bounds | meaning |\n|---|---|---|---|---|\n")
	var inner []reflect.StructField
	for f := range t.Fields() {
		named := f.Tag.Get("hcl")
		if named == "-" || named == ",label" {
			continue
		}
		element := f.Type
		if element.Kind() == reflect.Slice {
			element = element.Elem()
		}
		if element.Kind() == reflect.Struct && element != reflect.TypeFor[conf.Secret]() {
			inner = append(inner, f)
			continue
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", named, kindOf(f.Type), quoted(f.Tag.Get("default")), bounds(f), f.Tag.Get("doc"))
	}
	for _, f := range inner {
		element, many := f.Type, ""
		if element.Kind() == reflect.Slice {
			element, many = element.Elem(), " There may be several."
		}
		title := f.Tag.Get("hcl")
		var labels []string
		for l := range element.Fields() {
			if l.Tag.Get("hcl") != ",label" {
				continue
			}
			title += ` "` + strings.ToUpper(l.Name) + `"`
			if oneof := l.Tag.Get("oneof"); oneof != "" {
				labels = append(labels, strings.ToUpper(l.Name)+" is one of `"+strings.Join(strings.Fields(oneof), "`, `")+"`.")
			} else {
				labels = append(labels, strings.ToUpper(l.Name)+": "+l.Tag.Get("doc"))
			}
		}
		if t != reflect.TypeFor[conf.Server]() {
			title += ", in a " + strings.ToLower(t.Name())
		}
		stanza(b, element, "## "+title+"\n", strings.TrimSpace(f.Tag.Get("doc")+many+" "+strings.Join(labels, " ")))
	}
}

func kindOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[conf.Size]():
		return "size"
	case reflect.TypeFor[conf.Secret]():
		return "`file:PATH`"
	case reflect.TypeFor[[]string]():
		return "list of text"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "whole number"
	case reflect.Float64:
		return "number"
	}
	panic("a field of type " + t.String())
}

func quoted(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

func bounds(f reflect.StructField) string {
	low, high := f.Tag.Get("min"), f.Tag.Get("max")
	if f.Type == reflect.TypeFor[time.Duration]() && low != "" {
		return "longer than 0"
	}
	var out []string
	if oneof := f.Tag.Get("oneof"); oneof != "" {
		out = append(out, "`"+strings.Join(strings.Fields(oneof), "`, `")+"`")
	}
	if low != "" {
		out = append(out, "at least "+low)
	}
	if high != "" {
		out = append(out, "at most "+high)
	}
	return strings.Join(out, ", ")
}

// metricsPage describes the metrics from what a running node says.
func metricsPage(t *testing.T) string {
	n, _ := wired(t)
	n.handler(Listener{}).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/v1/sys/health", nil))
	text, err := n.metrics.Text()
	if err != nil {
		t.Fatal(err)
	}
	type metric struct{ help, kind, labels string }
	found := map[string]*metric{}
	var names []string
	sample := regexp.MustCompile(`^([a-z0-9_]+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? `)
	for line := range strings.SplitSeq(string(text), "\n") {
		words := strings.SplitN(line, " ", 4)
		if len(words) == 4 && words[1] == "HELP" && strings.HasPrefix(words[2], "rotunda_") {
			found[words[2]] = &metric{help: words[3]}
			names = append(names, words[2])
			continue
		}
		if len(words) == 4 && words[1] == "TYPE" && found[words[2]] != nil {
			found[words[2]].kind = words[3]
			continue
		}
		if m := sample.FindStringSubmatch(line); m != nil && found[m[1]] != nil {
			var labels []string
			for l := range strings.SplitSeq(m[2], ",") {
				if l, _, _ = strings.Cut(l, "="); l != "" && l != "le" {
					labels = append(labels, "`"+l+"`")
				}
			}
			found[m[1]].labels = strings.Join(labels, ", ")
		}
	}
	slices.Sort(names)
	var b strings.Builder
	b.WriteString("# Metrics\n\nGenerated from the metrics of a running node; `make docs` writes it.\n\n" +
		"`GET /v1/sys/metrics?format=prometheus` answers them in Prometheus' text format, beside those of the Go runtime (`go_…`) and of the\n" +
		"process (`process_…`). Labels are names of operations, kinds of outcome ([errors.md](errors.md)) and statuses; no path, no token and no\n" +
		"name that a caller chose is ever in one.\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, name := range names {
		m := found[name]
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, m.kind, m.labels, m.help)
	}
	return b.String()
}

// meanings say what each kind of failure means and what a caller does about it.
var meanings = map[fault.Kind]string{
	fault.Internal:        "A bug or a broken part of the server. The cause is in the server's log under the request's id, and never in the answer.",
	fault.Invalid:         "The request is malformed, or can never be right. The message says what is wrong.",
	fault.Unauthenticated: "There is no token, or none that is valid here.",
	fault.Denied:          "The token is valid and its policies do not allow this: see `rotunda policy explain`.",
	fault.NotFound:        "There is no such thing, or the caller may not know.",
	fault.NoRoute:         "Nothing is mounted there, or what is has no such path.",
	fault.Unsupported:     "The path exists and cannot do this.",
	fault.Exists:          "It is there already.",
	fault.Conflict:        "It has changed since the caller looked (check-and-set). Read it again, then write.",
	fault.Deleted:         "The version is deleted or destroyed. The answer carries its metadata.",
	fault.TooLarge:        "The body has more bytes than the operation takes.",
	fault.MediaType:       "The content type is not one that the operation takes.",
	fault.Sealed:          "The server is sealed: `rotunda operator unseal`.",
	fault.Uninitialized:   "The server has no store yet: `rotunda operator init`.",
	fault.Limited:         "Too many requests. Try again after the time that `Retry-After` names.",
	fault.Unavailable:     "Try again later: the audit journal or the store cannot take a record.",
}

// errorsPage lists the kinds of failure with their statuses, and the exit codes.
func errorsPage(t *testing.T) string {
	var b strings.Builder
	b.WriteString("# Errors and exit codes\n\nGenerated from the kinds of failure and the program's help; `make docs` writes it.\n\n## Of the API\n\n" +
		"The body is `{\"errors\":[\"…\"]}`. The kind is the stable name under which the audit journal and the metrics show it. Clients of the\n" +
		"Vault API try again on 412, 429 and 5xx, so no mistake of a caller is one of these.\n\n| kind | status | meaning |\n|---|---|---|\n")
	dialect := builtin.Dialects[0]
	for _, k := range fault.Kinds() {
		if meanings[k] == "" {
			t.Errorf("the kind %s has no meaning on this page", k)
		}
		fmt.Fprintf(&b, "| `%s` | %d | %s |\n", k, dialect.Faults[k].Status, meanings[k])
	}
	b.WriteString("\n## Of the program\n\n" + topic(t, "exit-codes"))
	return b.String()
}

// environmentPage lists the variables of the client and of the server.
func environmentPage(t *testing.T) string {
	return "# Environment variables\n\nGenerated from the program's help; `make docs` writes it.\n\n## The client\n\n" + topic(t, "environment") +
		"\n## The server\n\n" +
		"The server has its configuration in a file. Of the environment it reads `XDG_CONFIG_HOME` (the keys of this node, unless `keys_dir`\n" +
		"names another directory) and `NOTIFY_SOCKET` (systemd's, for `Type=notify`).\n"
}

// topic returns a page of the program's help.
func topic(t *testing.T, name string) string {
	var out bytes.Buffer
	code := cli.Main(t.Context(), cli.Program{
		Args: []string{"help", name}, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Environ: []string{"HOME=" + t.TempDir()},
		Clock: clock.System{}, Server: CLI(),
	})
	if code != 0 {
		t.Fatalf("rotunda help %s: exit code %d\n%s", name, code, out.String())
	}
	return "```text\n" + strings.TrimSpace(out.String()) + "\n```\n"
}

// TestExampleConfiguration holds the example to be one that the server takes
// without a word, where its directories are.
func TestExampleConfiguration(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "packaging", "rotunda.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	machine := t.TempDir()
	for _, dir := range []string{"lib/rotunda", "log/rotunda"} {
		if err := os.MkdirAll(filepath.Join(machine, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(machine, "rotunda.hcl")
	if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte(`"/var/`), []byte(`"`+machine+`/`)), 0o600); err != nil {
		t.Fatal(err)
	}
	config, warnings, err := conf.Load(path)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("Load(packaging/rotunda.hcl) = %v, %v; want neither a warning nor an error", warnings, err)
	}
	if err := check(t.Context(), config); err != nil {
		t.Errorf("check(packaging/rotunda.hcl) = %v", err)
	}
}
