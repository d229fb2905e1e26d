package conf

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"rotunda.dev/rotunda/internal/conf/tree"
)

// meaningless holds, for each stanza, what other servers have and this one
// does not need, and why.
var meaningless = map[string]map[string]string{
	"": {
		"disable_mlock":                       "memory with keys is locked where the system lets it",
		"disable_cache":                       "caches never answer from the past",
		"disable_clustering":                  "a node is alone unless it is told of others",
		"disable_indexing":                    "there is nothing to turn off",
		"disable_performance_standby":         "there are no performance standbys",
		"disable_printable_check":             "names are checked always",
		"disable_sealwrap":                    "there is no seal wrap",
		"disable_sentinel_trace":              "there is no Sentinel",
		"disable_standby_reads":               "there are no standbys",
		"cache_size":                          "caches have sizes of their own",
		"plugin_directory":                    "there are no plugins; engines are built in",
		"plugin_tmpdir":                       "there are no plugins; engines are built in",
		"plugin_file_uid":                     "there are no plugins; engines are built in",
		"plugin_file_permissions":             "there are no plugins; engines are built in",
		"plugin_auto_download":                "there are no plugins; engines are built in",
		"plugin_auto_register":                "there are no plugins; engines are built in",
		"plugin":                              "there are no plugins; engines are built in",
		"enable_response_header_hostname":     "answers do not name the host",
		"enable_response_header_raft_node_id": "answers do not name the node",
		"experiments":                         "there are no experiments",
		"license_path":                        "no licence is needed",
		"reporting":                           "nothing is reported to anyone",
		"service_registration":                "the server registers itself nowhere",
		"sentinel":                            "there is no Sentinel",
		"user_lockout":                        "see limits: account_failures and account_window",
		"log_requests_level":                  "requests are in the audit journal",
		"log_rotate_bytes":                    "rotate log_file from outside",
		"log_rotate_duration":                 "rotate log_file from outside",
		"log_rotate_max_files":                "rotate log_file from outside",
		"detect_deadlocks":                    "there is nothing to turn on",
		"imprecise_lease_role_tracking":       "there are no lease-count quotas",
		"enable_post_unseal_trace":            "there is nothing to trace",
		"post_unseal_trace_directory":         "there is nothing to trace",
		"administrative_namespace_path":       "there are no namespaces",
		"allow_audit_log_prefixing":           "entries have no prefix",
		"unsafe_allow_api_audit_creation":     "see audit_file_dir",
		"unsafe_cross_namespace_identity":     "there are no namespaces",
		"remove_irrevocable_lease_after":      "leases are revoked until that succeeds",
		"allow_unauthenticated_rekey":         "see enable_unauthenticated_rekey",
		"enable_unauthenticated_access":       "see the listeners' telemetry",
		"feature_flags":                       "there are no feature flags",
	},
	"listener": {
		"cluster_address":                             "there is no port for other nodes",
		"purpose":                                     "a listener serves everything",
		"role":                                        "a listener serves everything",
		"agent_api":                                   "this is a server",
		"proxy_api":                                   "this is a server",
		"require_request_header":                      "the header proves nothing",
		"proxy_protocol_behavior":                     "the proxy protocol is not read; callers have the proxy's address",
		"proxy_protocol_authorized_addrs":             "the proxy protocol is not read; callers have the proxy's address",
		"x_forwarded_for_authorized_addrs":            "X-Forwarded-For is not read; callers have the proxy's address",
		"x_forwarded_for_hop_skips":                   "X-Forwarded-For is not read; callers have the proxy's address",
		"x_forwarded_for_reject_not_authorized":       "X-Forwarded-For is not read; callers have the proxy's address",
		"x_forwarded_for_reject_not_present":          "X-Forwarded-For is not read; callers have the proxy's address",
		"x_forwarded_for_client_cert_header":          "certificates in headers are not read",
		"x_forwarded_for_client_cert_header_decoders": "certificates in headers are not read",
		"http_read_timeout":                           "see limits: body_timeout",
		"http_read_header_timeout":                    "see limits: header_timeout",
		"http_write_timeout":                          "see limits: write_timeout",
		"http_idle_timeout":                           "see limits: idle_timeout",
		"max_request_json_memory":                     "see limits: json_tokens",
		"max_request_json_strings":                    "see limits: json_tokens",
		"max_json_depth":                              "see limits: json_depth",
		"max_json_string_value_length":                "see limits: body",
		"max_json_object_entry_count":                 "see limits: json_tokens",
		"max_json_array_element_count":                "see limits: json_tokens",
		"disable_request_limiter":                     "see limits: in_flight",
		"tls_max_version":                             "the newest version is always offered",
		"tls_cipher_suites":                           "only ciphers with forward secrecy and AEAD are offered",
		"tls_prefer_server_cipher_suites":             "the order of ciphers is the server's",
		"custom_response_headers":                     "answers have a fixed set of headers",
		"profiling":                                   "profiles are not served",
		"inflight_requests_logging":                   "requests under way are not served",
		"redact_addresses":                            "answers tell no more than clients need",
		"redact_cluster_name":                         "answers tell no more than clients need",
		"redact_version":                              "see compat_version",
		"disable_unauthed_rekey_endpoints":            "see enable_unauthenticated_rekey",
		"disable_unauthed_generate_root_endpoints":    "see enable_generate_root",
		"disable_replication_status_endpoints":        "there are none",
		"enable_quit":                                 "this is a server",
	},
	"storage": {
		"node_id":                      "a store has one node",
		"performance_multiplier":       "a store has one node",
		"max_parallel":                 "the store orders its own work",
		"retry_join":                   "a store has one node",
		"max_entry_size":               "see limits: secret_bytes",
		"autopilot_reconcile_interval": "a store has one node",
	},
	"seal": {
		"name":     "a seal is known by its kind",
		"priority": "seals are tried in the order in which they stand",
	},
	"audit": {
		"local":                "there is one node",
		"elide_list_responses": "names in lists are hashed",
		"fallback":             "the journal is always kept",
		"filter":               "everything is recorded",
		"exclude":              "everything is recorded",
	},
	"telemetry": {
		"prometheus_retention_time":            "metrics are kept while the process runs",
		"disable_hostname":                     "metrics do not name the host",
		"enable_hostname_label":                "metrics do not name the host",
		"usage_gauge_period":                   "gauges are current when they are read",
		"maximum_gauge_cardinality":            "metrics name no path and no one",
		"lease_metrics_epsilon":                "metrics name no path and no one",
		"num_lease_metrics_buckets":            "metrics name no path and no one",
		"add_lease_metrics_namespace_labels":   "there are no namespaces",
		"add_mount_point_rollback_metrics":     "metrics name no path and no one",
		"filter_default":                       "all metrics are served",
		"prefix_filter":                        "all metrics are served",
		"metrics_prefix":                       "names of metrics begin with rotunda_",
		"statsd_address":                       "metrics are read at sys/metrics",
		"statsite_address":                     "metrics are read at sys/metrics",
		"dogstatsd_addr":                       "metrics are read at sys/metrics",
		"dogstatsd_tags":                       "metrics are read at sys/metrics",
		"circonus_api_token":                   "metrics are read at sys/metrics",
		"stackdriver_project_id":               "metrics are read at sys/metrics",
		"stackdriver_location":                 "metrics are read at sys/metrics",
		"stackdriver_namespace":                "metrics are read at sys/metrics",
		"rollback_metrics_include_mount_point": "metrics name no path and no one",
	},
}

// refused holds, for each stanza, what would make a server do less or more
// than is asked for if it were passed over, and what to do.
var refused = map[string]map[string]string{
	"": {
		"ha_storage":             `there is no second storage; take the stanza out, and write storage "bolt" { path = "…" }`,
		"raw_storage_endpoint":   "sys/raw is not offered: what is stored is encrypted and not read by hand",
		"introspection_endpoint": "sys/internal/inspect is not offered",
		"initialize":             "use rotunda operator init",
		"kms_library":            "there are no seals by PKCS #11",
		"entropy":                "randomness is the system's and not taken from elsewhere",
		"backend":                `write storage "bolt" { path = "…" }`,
		"hsm":                    "there are no seals by PKCS #11",
	},
	"listener": {
		"tls_acme_ca_directory": "certificates are not got by ACME",
		"tls_acme_domains":      "certificates are not got by ACME",
		"tls_acme_email":        "certificates are not got by ACME",
		"tls_acme_cache_path":   "certificates are not got by ACME",
	},
	"seal": {
		"disabled":    "seals are migrated by rotunda operator seal",
		"current_key": "a secret does not stand in a configuration",
	},
	"audit": {
		"log_raw": "values are never written as they are",
		"prefix":  "entries have no prefix",
		"path":    "write file_path",
	},
}

// maxSecretWrite bounds the value and the metadata of a secret, so that they
// fit into one transaction along with what is known of its versions.
const maxSecretWrite = 832 << 10

var semver = regexp.MustCompile(`^(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})(-[0-9A-Za-z.-]{1,64})?(\+[0-9A-Za-z.-]{1,64})?$`)

// check looks at what one field alone does not show.
func (d *decoder) check(s *Server) {
	s.Limits.unbind()
	whole := d.where[""]
	if len(s.Listeners) == 0 {
		d.bad(whole, `a server needs a listener: listener "tcp" { address = "127.0.0.1:8200" … }`)
	}
	addresses := map[string]int{}
	for i := range s.Listeners {
		l, path := &s.Listeners[i], fmt.Sprintf("listener[%d]", i)
		d.listener(l, path)
		if before, twice := addresses[l.Kind+l.Address]; twice {
			d.bad(d.at(path+".address"), "address: %s is also listener %d's", l.Address, before+1)
		}
		addresses[l.Kind+l.Address] = i
	}
	if s.Storage.Kind == "" {
		d.bad(whole, `a server needs a storage: storage "bolt" { path = "/var/lib/rotunda" }`)
	} else if s.Storage.Path == "" {
		d.bad(d.at("storage.path"), "path: the directory of the data is needed")
	}
	kinds := map[string]bool{}
	for i := range s.Seals {
		path := fmt.Sprintf("seal[%d]", i)
		if k := s.Seals[i].Kind; kinds[k] {
			d.bad(d.at(path), "seal %q is given twice", k)
		}
		kinds[s.Seals[i].Kind] = true
		d.seal(&s.Seals[i], path, s.Storage.Path)
	}
	d.audits(s)
	d.checkBackup(s)
	for _, a := range []struct{ key, value string }{{"api_addr", s.APIAddr}, {"cluster_addr", s.ClusterAddr}} {
		u, err := url.Parse(a.value)
		if a.value != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "") {
			d.bad(d.at(a.key), "%s: want a URL such as https://vault.example.org:8200", a.key)
		}
	}
	if s.UI {
		d.warn(d.at("ui"), "ui has no meaning here: there is no web console")
	}
	if s.ClusterAddr != "" {
		d.warn(d.at("cluster_addr"), "cluster_addr has no meaning here: there is one node")
	}
	if !semver.MatchString(s.CompatVersion) {
		d.bad(d.at("compat_version"), "compat_version: want a semantic version such as 1.19.0; clients fail on anything else")
	}
	if s.MaxLeaseTTL > 0 && s.DefaultLeaseTTL > s.MaxLeaseTTL {
		d.bad(d.at("default_lease_ttl"), "default_lease_ttl is longer than max_lease_ttl")
	}
	if l := s.Limits; l.BodyUnauthenticated > l.Body {
		d.bad(d.at("limits.body"), "limits: body_unauthenticated is larger than body")
	}
	if l := s.Limits; l.SecretBytes+Size(l.MetadataItems)*(l.MetadataBytes+128) > maxSecretWrite {
		d.bad(d.at("limits.secret_bytes"), "limits: secret_bytes and metadata_items times metadata_bytes are more together than one write takes, %d KiB", maxSecretWrite>>10)
	}
	if l := s.Limits; l.RequestTimeout > l.LongRequestTimeout {
		d.bad(d.at("limits.request_timeout"), "limits: request_timeout is longer than long_request_timeout")
	}
	if d.where["keys_dir"].Line != 0 && s.KeysDir != "" && within(s.Storage.Path, s.KeysDir) {
		d.bad(d.at("keys_dir"), "keys_dir: the keys must be kept apart from the data, outside %s", s.Storage.Path)
	}
}

func (d *decoder) listener(l *Listener, path string) {
	at := func(key string) tree.Pos { return d.at(path + "." + key) }
	given := func(key string) bool { _, ok := d.where[path+"."+key]; return ok }
	local := l.Kind == "unix"
	if l.Kind == "tcp" {
		if l.Address == "" {
			l.Address = "127.0.0.1:8200"
		}
		host, port, err := net.SplitHostPort(l.Address)
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n > 65535 {
			d.bad(at("address"), "address: want HOST:PORT, not %q", l.Address)
			return
		}
		ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
		local = host == "localhost" || err == nil && ip.Unmap().IsLoopback()
		for _, key := range []string{"socket_mode", "socket_user", "socket_group"} {
			if given(key) {
				d.bad(at(key), "%s is for unix listeners", key)
			}
		}
	} else {
		if l.Address == "" || strings.ContainsRune(l.Address, 0) {
			d.bad(at("address"), "address: the path of the socket is needed")
		}
		if n, err := strconv.ParseUint(l.SocketMode, 8, 32); l.SocketMode != "" && (err != nil || n > 0o777) {
			d.bad(at("socket_mode"), "socket_mode: want a mode in octal such as 0660")
		}
	}
	if l.TLSDisable && !local {
		d.bad(at("tls_disable"), "tls_disable: plain HTTP is spoken on a loopback address or a unix socket only, not on %s", l.Address)
	}
	certs := l.TLSCertFile != "" || l.TLSKeyFile != ""
	switch {
	case l.TLSDisable && (certs || l.TLSAuto):
		d.bad(at("tls_disable"), "tls_disable is given together with certificates; take out one of the two")
	case l.TLSAuto && certs:
		d.bad(at("tls_auto"), "tls_auto is given together with tls_cert_file and tls_key_file; take out one of the two")
	case l.TLSDisable, l.TLSAuto:
	case l.Kind == "unix" && !certs:
		l.TLSDisable = true
	case l.TLSCertFile == "":
		d.bad(at("tls_cert_file"), "tls_cert_file: a certificate is needed, or tls_auto = true for one by a CA of this server's own")
	case l.TLSKeyFile == "":
		d.bad(at("tls_key_file"), "tls_key_file: the certificate's key is needed")
	}
	if l.TLSRequireAndVerifyClientCert && l.TLSClientCAFile == "" {
		d.bad(at("tls_require_and_verify_client_cert"), "tls_require_and_verify_client_cert needs tls_client_ca_file")
	}
	if l.TLSRequireAndVerifyClientCert && l.TLSDisableClientCerts {
		d.bad(at("tls_disable_client_certs"), "tls_disable_client_certs and tls_require_and_verify_client_cert exclude one another")
	}
}

func (d *decoder) seal(s *Seal, path, data string) {
	at := func(key string) tree.Pos { return d.at(path + "." + key) }
	for _, key := range []string{"path", "passphrase", "identity", "recipients"} {
		owner := map[string]string{"path": "keyfile", "passphrase": "passphrase", "identity": "age", "recipients": "age"}[key]
		if _, given := d.where[path+"."+key]; given && owner != s.Kind {
			d.bad(at(key), "%s is for seal %q", key, owner)
		}
	}
	switch s.Kind {
	case "keyfile":
		if s.Path == "" {
			d.bad(at("path"), "path: the key file is needed")
		} else if within(data, s.Path) {
			d.bad(at("path"), "path: the key file must be kept apart from the data, outside %s", data)
		}
	case "passphrase":
		if s.Passphrase.IsZero() {
			d.bad(at("passphrase"), "passphrase: file:PATH of the passphrase is needed")
		}
	case "age":
		if len(s.Recipients) == 0 {
			d.bad(at("recipients"), "recipients: one recipient at least is needed")
		}
	}
}

// within reports whether path is dir or below it. Neither is looked up.
func within(dir, path string) bool {
	if dir == "" || filepath.IsAbs(dir) != filepath.IsAbs(path) {
		return false
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

func (d *decoder) audits(s *Server) {
	names, files := map[string]bool{}, map[string]string{}
	for i, a := range s.Audits {
		path := fmt.Sprintf("audit[%d]", i)
		at := func(key string) tree.Pos { return d.at(path + "." + key) }
		if a.Name == "" || strings.ContainsAny(strings.TrimSuffix(a.Name, "/"), "/*+") {
			d.bad(d.where[path], "audit: a sink's name is one path segment")
		}
		if n := strings.TrimSuffix(a.Name, "/"); names[n] {
			d.bad(d.where[path], "audit %q is given twice", n)
		} else {
			names[n] = true
		}
		if a.FilePath == "" {
			d.bad(at("file_path"), "file_path: the file is needed, or stdout")
		} else if other, taken := files[filepath.Clean(a.FilePath)]; taken {
			d.bad(at("file_path"), "file_path: %s is the file of audit %q already; give each sink a file of its own", a.FilePath, other)
		} else {
			files[filepath.Clean(a.FilePath)] = a.Name
		}
		if n, err := strconv.ParseUint(a.Mode, 8, 32); err != nil || n > 0o777 || n&0o111 != 0 {
			d.bad(at("mode"), "mode: want a mode in octal without execute bits, such as 0600")
		}
	}
	if dir := s.AuditFileDir; dir != "" {
		if !filepath.IsAbs(dir) {
			d.bad(d.at("audit_file_dir"), "audit_file_dir: want an absolute path")
		}
		kept := []string{s.Storage.Path, s.KeysDir, s.Journal.Path}
		if slices.ContainsFunc(kept, func(k string) bool { return k != "" && (within(dir, k) || within(k, dir)) }) {
			d.bad(d.at("audit_file_dir"), "audit_file_dir: must be apart from the data, the keys and the journal")
		}
	}
}

func (d *decoder) checkBackup(s *Server) {
	b := s.Backup
	if b.Dir == "" {
		if b.Interval != 0 || b.Schedule != "" {
			d.bad(d.at("backup"), "backup: dir says where backups are written, and is needed")
		}
		return
	}
	if !filepath.IsAbs(b.Dir) {
		d.bad(d.at("backup.dir"), "dir: want an absolute path")
	}
	kept := []string{s.Storage.Path, s.KeysDir, s.Journal.Path}
	if slices.ContainsFunc(kept, func(k string) bool { return k != "" && (within(b.Dir, k) || within(k, b.Dir)) }) {
		d.bad(d.at("backup.dir"), "dir: must be apart from the data, the keys and the journal")
	}
	if b.Interval != 0 && b.Schedule != "" {
		d.bad(d.at("backup.schedule"), "schedule: interval says when backups are written as well; give one")
	}
	if b.Interval != 0 && b.Interval < time.Minute {
		d.bad(d.at("backup.interval"), "interval: at least 1m")
	}
}
