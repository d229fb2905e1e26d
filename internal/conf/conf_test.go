package conf_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/conf"
	"rotunda.dev/rotunda/internal/secret"
)

const small = `
listener "tcp" {
  tls_cert_file = "/etc/rotunda/tls.crt"
  tls_key_file  = "/etc/rotunda/tls.key"
}
storage "bolt" { path = "/var/lib/rotunda" }
`

// vaults is what an operator of another server has, as far as it can stay.
const vaults = `
ui = "true"
disable_mlock = true
cluster_name = "prod"
api_addr = "https://vault.example.org:8200"
cluster_addr = "https://127.0.0.1:8201"
log_level = "INFO"
log_format = "json"
max_lease_ttl = "10h"
default_lease_ttl = 3600
plugin_directory = ""
raw_storage_endpoint = false

listener "tcp" {
  address         = "0.0.0.0:8200"
  cluster_address = "0.0.0.0:8201"
  tls_cert_file   = "/etc/tls.crt"
  tls_key_file    = "/etc/tls.key"
  tls_min_version = "tls12"
  x_forwarded_for_authorized_addrs = ["10.0.0.0/8"]
  max_request_size = 1048576
  telemetry { unauthenticated_metrics_access = true }
}
listener "unix" {
  address     = "/run/rotunda/api.sock"
  socket_mode = "0660"
}
storage "bolt" { path = "/var/lib/rotunda" max_size = "10GiB" }
seal "keyfile" { path = "/etc/rotunda/key" }
seal "passphrase" { passphrase = "file:/run/credentials/pass" }
audit "file" "to-file" {
  description = "for the collector"
  options { file_path = "/var/log/rotunda/audit.json" mode = "0640" }
}
audit_file_dir = "/var/log/rotunda"
journal { retention = "400d" }
telemetry { prometheus_retention_time = "30s" disable_hostname = true }
limits { body = "2MiB" login_rate = 2.5 connections = "100" }
`

func TestParse(t *testing.T) {
	t.Parallel()
	s, warnings, err := conf.Parse("r.hcl", small)
	if err != nil || len(warnings) != 0 {
		t.Fatalf("Parse = %v, %v", warnings, err)
	}
	if l := s.Listeners[0]; l.Address != "127.0.0.1:8200" || l.TLSMinVersion != "tls13" {
		t.Errorf("listener = %+v; want the defaults", l)
	}
	if s.Limits != conf.DefaultLimits() || s.Limits.Body != 1<<20 || s.Limits.IdleTimeout != time.Minute || s.File != "r.hcl" {
		t.Errorf("Parse = %+v; want the default limits", s)
	}
}

func TestParseWhatOthersHave(t *testing.T) {
	t.Parallel()
	s, warnings, err := conf.Parse("r.hcl", vaults)
	if err != nil {
		t.Fatal(err)
	}
	if !s.UI || s.DefaultLeaseTTL != time.Hour || s.LogLevel != "info" || s.Storage.MaxSize != 10<<30 || s.Journal.Retention != 400*24*time.Hour ||
		s.Limits.Body != 2<<20 || s.Limits.LoginRate != 2.5 || s.Limits.Connections != 100 || s.Limits.ConnectionsPerIP != 500 {
		t.Errorf("Parse = %+v", s)
	}
	if l := s.Listeners; len(l) != 2 || !l[0].Telemetry.UnauthenticatedMetricsAccess || !l[1].TLSDisable || l[1].SocketMode != "0660" {
		t.Errorf("listeners = %+v", l)
	}
	if a := s.Audits; len(a) != 1 || a[0].Name != "to-file" || a[0].FilePath != "/var/log/rotunda/audit.json" || a[0].Mode != "0640" || !a[0].HMACAccessor {
		t.Errorf("audits = %+v", a)
	}
	if len(s.Seals) != 2 || s.Seals[1].Passphrase.Path != "/run/credentials/pass" {
		t.Errorf("seals = %+v", s.Seals)
	}
	var got []string
	for _, w := range warnings {
		place, text, _ := strings.Cut(w.String(), ": ")
		if !strings.HasPrefix(place, "r.hcl:") || !strings.Contains(text, "no meaning here") {
			t.Errorf("warning %q; want file, line and what it means", w)
		}
		key, _, _ := strings.Cut(text, " ")
		got = append(got, key)
	}
	slices.Sort(got)
	want := []string{"cluster_addr", "cluster_address", "disable_hostname", "disable_mlock", "plugin_directory", "prometheus_retention_time", "ui", "x_forwarded_for_authorized_addrs"}
	if !slices.Equal(got, want) {
		t.Errorf("warnings about %v; want %v", got, want)
	}
}

func TestParseJSON(t *testing.T) {
	t.Parallel()
	s, _, err := conf.Parse("r.json", `{"listener": [{"tcp": {"address": "127.0.0.1:1", "tls_disable": true}}, {"tcp": {"address": "[::1]:1", "tls_disable": "true"}}],
		"storage": {"bolt": {"path": "/d"}}, "audit": {"file": {"a": {"file_path": "stdout"}}}, "limits": {"list_page": 7}}`)
	if err != nil || len(s.Listeners) != 2 || s.Listeners[1].Address != "[::1]:1" || s.Limits.ListPage != 7 || s.Audits[0].Name != "a" {
		t.Errorf("Parse = %+v, %v", s, err)
	}
}

func TestParseComplains(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct{ text, want string }{
		"empty":                  {"", "r.hcl:1:1: a server needs a listener"},
		"no storage":             {`listener "tcp" { tls_disable = true }`, "a server needs a storage"},
		"raft":                   {small + `storage "raft" { path = "/x" }`, `storage is given twice`},
		"foreign storage":        {"storage \"raft\" {\n  path = \"/x\"\n}", `r.hcl:1:9: storage "raft" is not offered; there is "bolt": storage "bolt" { path = "/var/lib/rotunda" }`},
		"second storage":         {small + `ha_storage "consul" {}`, "ha_storage: there is no second storage"},
		"foreign seal":           {small + `seal "awskms" {}`, `seal "awskms" is not offered; there is "keyfile", "shamir", "passphrase", "age"`},
		"foreign sink":           {small + `audit "syslog" "x" {}`, `audit "syslog" is not offered`},
		"foreign listener":       {small + `listener "quic" {}`, `listener "quic" is not offered`},
		"unknown":                {small + "\nwhatever = 1", "r.hcl:8:1: unknown: whatever"},
		"slip":                   {"listener \"tcp\" {\n  adddress = \"x\"\n}", "r.hcl:2:3: unknown: adddress; did you mean address?"},
		"wrong kind":             {small + "\nui = \"maybe\"", "r.hcl:8:6: ui: want true or false"},
		"duration":               {small + "\nmax_lease_ttl = \"long\"", "r.hcl:8:17: max_lease_ttl: want a duration"},
		"size":                   {small + `limits { body = "1 XB" }`, "body: want a number of bytes"},
		"bound below":            {small + `limits { header_count = 1 }`, "header_count: must be at least 10"},
		"bound above":            {small + `limits { secret_versions = 1001 }`, "secret_versions: must be at most 1000"},
		"bodies":                 {small + `limits { body = "32KiB" }`, "body_unauthenticated is larger"},
		"timeouts":               {small + `limits { request_timeout = "2m" }`, "longer than long_request_timeout"},
		"metadata":               {small + "limits {\nmetadata_items = 256\nmetadata_bytes = 2048\n}", "more together than one write takes"},
		"level":                  {small + `log_level = "loud"`, "log_level: want one of trace, debug, info, warn, error"},
		"twice":                  {small + "ui = true\nui = false", "ui is given twice, first in line 7"},
		"label":                  {small + `ui "x" { }`, "ui takes no label"},
		"no label":               {`storage { path = "/x" }`, "needs one label"},
		"plain HTTP":             {"storage \"bolt\" { path = \"/x\" }\nlistener \"tcp\" {\n  address = \"0.0.0.0:8200\"\n  tls_disable = true\n}", "r.hcl:4:3: tls_disable: plain HTTP is spoken on a loopback address"},
		"plain HTTP by name":     {`storage "bolt" { path = "/x" } listener "tcp" { address = "localhost.example.org:8200" tls_disable = 1 }`, "plain HTTP"},
		"no certificate":         {`storage "bolt" { path = "/x" } listener "tcp" { }`, "tls_cert_file: a certificate is needed"},
		"no key":                 {`storage "bolt" { path = "/x" } listener "tcp" { tls_cert_file = "x" }`, "tls_key_file: the certificate's key is needed"},
		"client certificates":    {`storage "bolt" { path = "/x" } listener "tcp" { tls_auto = true tls_require_and_verify_client_cert = true }`, "needs tls_client_ca_file"},
		"address":                {small + `listener "tcp" { address = "nowhere" }`, `address: want HOST:PORT, not "nowhere"`},
		"address twice":          {small + `listener "tcp" { tls_auto = true }`, "is also listener 1's"},
		"no passphrase":          {small + `seal "passphrase" {}`, "file:PATH of the passphrase is needed"},
		"inline secret":          {small + `seal "passphrase" { passphrase = "hunter2" }`, "a secret does not stand in a configuration"},
		"other seal's key":       {small + `seal "shamir" { path = "/k" }`, `path is for seal "keyfile"`},
		"key file with the data": {small + `seal "keyfile" { path = "/var/lib/rotunda/../rotunda/key" }`, "apart from the data"},
		"seal twice":             {small + `seal "shamir" {} seal "shamir" {}`, `seal "shamir" is given twice`},
		"raw":                    {small + `raw_storage_endpoint = true`, "sys/raw is not offered"},
		"log_raw":                {small + `audit "file" "x" { options { file_path = "/x" log_raw = true } }`, "log_raw: values are never written"},
		"executable sink":        {small + `audit "file" "x" { file_path = "/x" mode = "0777" }`, "without execute bits"},
		"sink name":              {small + `audit "file" "x/y" { file_path = "/x" }`, "one path segment"},
		"backups in the data":    {small + `backup { dir = "/var/lib/rotunda/backups" }`, "must be apart from the data"},
		"backups nowhere":        {small + `backup { interval = "1h" }`, "dir says where backups are written"},
		"backups twice":          {small + "backup {\n dir = \"/b\"\n interval = \"1h\"\n schedule = \"@daily\"\n}", "give one"},
		"backups too often":      {small + "backup {\n dir = \"/b\"\n interval = \"1s\"\n}", "at least 1m"},
		"sinks in the data":      {small + `audit_file_dir = "/var/lib"`, "must be apart from the data"},
		"version":                {small + `compat_version = "1.19"`, "semantic version"},
		"TTLs":                   {small + `max_lease_ttl = "1h"`, "default_lease_ttl is longer"},
		"URL":                    {small + `api_addr = "vault:8200"`, "want a URL"},
		"syntax":                 {"listener \"tcp\" {", "r.hcl:1:18: object expected closing"},
		"JSON twice":             {`{"ui": true, "ui": false}`, "given twice"},
	} {
		_, _, err := conf.Parse("r.hcl", c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "r.hcl:") {
			t.Errorf("%s: Parse = %v; want %q", what, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: Parse = %v; want no value that may be a secret", what, err)
		}
	}
	_, _, err := conf.Parse("r.hcl", "ui = 7\nlog_format = \"x\"\nno = 1")
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("Parse = %v; want three complaints", err)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one := write("a.hcl", small)
	if s, _, err := conf.Load(one); err != nil || len(s.Listeners) != 1 {
		t.Errorf("Load(file) = %+v, %v", s, err)
	}
	two := write("b.json", `{"ui": 7}`)
	write("c.txt", "not read")
	if _, _, err := conf.Load(dir); err == nil || !strings.HasPrefix(err.Error(), two+":1:8: ui") {
		t.Errorf("Load(directory) = %v; want a complaint about b.json", err)
	}
	write("b.json", `{"ui": true}`)
	if s, _, err := conf.Load(dir); err != nil || !s.UI || len(s.Listeners) != 1 {
		t.Errorf("Load(directory) = %+v, %v; want both files", s, err)
	}
	if _, _, err := conf.Load(filepath.Join(dir, "none")); err == nil {
		t.Error("Load of no file = nil; want an error")
	}
	if _, _, err := conf.Load(t.TempDir()); err == nil {
		t.Error("Load of an empty directory = nil; want an error")
	}
}

func TestNoBoundIsNegative(t *testing.T) {
	t.Parallel()
	s, _, err := conf.Parse("r.hcl", small+"limits { body_rate = 0 login_rate = 0 account_failures = 0 }")
	if l := s.Limits; err != nil || l.BodyRate >= 0 || l.LoginRate >= 0 || l.AccountFailures >= 0 || l.TokenRate != 0 {
		t.Errorf("Parse = %+v, %v; want negative bounds", s.Limits, err)
	}
}

func TestSecretRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	for content, want := range map[string]string{"hunter2\n": "hunter2", "a\r\n": "a", " x ": " x ", "": "", strings.Repeat("x", 1<<17): ""} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := conf.Secret{Path: path}.Read()
		if (err != nil) != (want == "") || !got.Equal(secret.New(want)) {
			t.Errorf("Read of %d bytes = %v, %v; want %d bytes", len(content), got, err, len(want))
		}
	}
	if _, err := (conf.Secret{Path: path + "x"}).Read(); err == nil {
		t.Error("Read of no file = nil; want an error")
	}
}

// Every field has a sentence for people, and a default that is within its bounds.
func TestFieldsAreDocumented(t *testing.T) {
	t.Parallel()
	var look func(reflect.Type)
	look = func(typ reflect.Type) {
		for f := range typ.Fields() {
			key := f.Tag.Get("hcl")
			if key == "-" {
				continue
			}
			if key == "" || !strings.HasSuffix(f.Tag.Get("doc"), ".") {
				if !strings.HasSuffix(f.Tag.Get("doc"), "…") {
					t.Errorf("%v.%s: want a name and a sentence in its tags", typ, f.Name)
				}
			}
			inner := f.Type
			if inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct && inner != reflect.TypeFor[conf.Secret]() {
				look(inner)
			}
		}
	}
	look(reflect.TypeFor[conf.Server]())
	var text strings.Builder
	limits := reflect.TypeFor[conf.Limits]()
	for f := range limits.Fields() {
		text.WriteString(f.Tag.Get("hcl") + " = " + strconv.Quote(f.Tag.Get("default")) + "\n")
	}
	s, _, err := conf.Parse("r.hcl", small+"limits {\n"+text.String()+"}")
	if err != nil || s.Limits != conf.DefaultLimits() {
		t.Errorf("Parse of the defaults = %v", err)
	}
}

func TestReadEnv(t *testing.T) {
	t.Parallel()
	env := map[string]string{"VAULT_ADDR": "v", "BAO_ADDR": "b", "VAULT_TOKEN": "t", "ROTUNDA_NAMESPACE": "", "VAULT_NAMESPACE": "n", "NOTIFY_SOCKET": "s"}
	got := conf.ReadEnv(func(k string) string { return env[k] })
	if got.Addr != "b" || !got.Token.Equal(secret.New("t")) || got.Namespace != "n" || got.NotifySocket != "s" {
		t.Errorf("ReadEnv = %+v; want ours before OpenBao's before Vault's", got)
	}
	typ := reflect.TypeFor[conf.Env]()
	for i := range typ.NumField() {
		f := typ.Field(i)
		name := f.Tag.Get("env")
		if name == "" {
			continue
		}
		for _, prefix := range []string{"ROTUNDA_", "BAO_", "VAULT_"} {
			v := reflect.ValueOf(conf.ReadEnv(func(k string) string {
				if k == prefix+name {
					return "here"
				}
				return ""
			})).Field(i)
			if text, ok := reflect.TypeAssert[secret.Text](v); ok && text.Equal(secret.New("here")) {
				continue
			}
			if v.String() != "here" {
				t.Errorf("ReadEnv does not read %s%s", prefix, name)
			}
		}
	}
}

// Nothing makes Parse panic, and every complaint names the file.
func FuzzParse(f *testing.F) {
	for _, s := range []string{small, vaults, `{"listener": {"tcp": {}}}`, "limits { body = \"1MiB\" }", `storage "raft" {}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, _, err := conf.Parse("r.hcl", text)
		if err == nil {
			return
		}
		if !strings.HasPrefix(err.Error(), "r.hcl:") {
			t.Fatalf("Parse(%q) = %v; want the file first", text, err)
		}
	})
}
