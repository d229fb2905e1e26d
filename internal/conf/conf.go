// Package conf reads the server's configuration: a file in HCL 1 syntax or in
// JSON, and the environment.
//
// The stanzas are those that operators of Vault and OpenBao have. What has no
// meaning here is a [Warning] that says so; what is unknown, of the wrong kind
// or out of bounds is an error with its file, line and column, and all errors
// are told at once. No secret stands in the file: where one is needed the file
// says file:PATH.
//
// The structs are the reference: each field's tags hold the name that the file
// uses, the default, the bounds and a sentence for people.
package conf

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rotunda.dev/rotunda/internal/conf/tree"
	"rotunda.dev/rotunda/internal/secret"
)

// MaxText bounds a configuration file, in bytes.
const MaxText = 1 << 20

// Size is a number of bytes. It is read from a number and from text such as
// "64KiB", "1MiB" or "2GiB".
type Size int64

// Secret is where a secret is kept: "file:/run/secrets/passphrase". The secret
// itself never stands in a configuration. The zero Secret names none.
type Secret struct{ Path string }

// IsZero reports whether s names no secret.
func (s Secret) IsZero() bool { return s.Path == "" }

// maxSecret bounds a secret in a file.
const maxSecret = 64 << 10

// Read returns the content of the file without a line end at its end.
func (s Secret) Read() (secret.Text, error) {
	f, err := os.Open(s.Path)
	if err != nil {
		return secret.Text{}, fmt.Errorf("reading a secret: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch {
	case err != nil:
		return secret.Text{}, fmt.Errorf("reading a secret from %s: %w", s.Path, err)
	case len(b) > maxSecret:
		return secret.Text{}, fmt.Errorf("reading a secret from %s: more than %d bytes", s.Path, maxSecret)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	clear(b)
	if text == "" {
		return secret.Text{}, fmt.Errorf("reading a secret from %s: the file is empty", s.Path)
	}
	return secret.New(text), nil
}

// Server is the configuration of a server.
type Server struct {
	Listeners []Listener `hcl:"listener" doc:"Where the server is reached; one at least."`
	Storage   Storage    `hcl:"storage" doc:"Where everything is kept, encrypted."`
	Seals     []Seal     `hcl:"seal" doc:"How the root key is protected; shamir where there is none. With several, each opens alone."`
	Audits    []Audit    `hcl:"audit" doc:"Files to which the audit log is written besides the journal, which is always kept."`
	Journal   Journal    `hcl:"journal" doc:"The audit journal, which is always kept."`
	Backup    Backup     `hcl:"backup" doc:"Backups that are written without being asked; none where there is no dir."`
	Telemetry Telemetry  `hcl:"telemetry" doc:"Metrics."`
	Limits    Limits     `hcl:"limits" doc:"What bounds requests and what is kept."`

	AuditFileDir string `hcl:"audit_file_dir" doc:"Directory below which file sinks may be enabled by the API; where there is none, they cannot."`
	KeysDir      string `hcl:"keys_dir" doc:"Directory of the keys of this node, apart from the data; $XDG_CONFIG_HOME/rotunda/keys/server where there is none."`

	APIAddr     string `hcl:"api_addr" doc:"URL under which clients reach this node: https://vault.example.org:8200."`
	ClusterAddr string `hcl:"cluster_addr" doc:"URL under which other nodes reach this one."`
	ClusterName string `hcl:"cluster_name" doc:"Name of the cluster as clients are told it."`
	UI          bool   `hcl:"ui" default:"false" doc:"Accepted for operators who have it; there is no web console."`

	LogLevel  string `hcl:"log_level" default:"info" oneof:"trace debug info warn error" doc:"The least severe log entries that are written."`
	LogFormat string `hcl:"log_format" default:"standard" oneof:"standard json" doc:"Log entries as text or as JSON."`
	LogFile   string `hcl:"log_file" doc:"File to which the log is appended; standard error where there is none."`
	PIDFile   string `hcl:"pid_file" doc:"File that holds the number of the process while it runs."`

	DefaultLeaseTTL           time.Duration `hcl:"default_lease_ttl" default:"768h" doc:"Life of tokens and leases that ask for none."`
	MaxLeaseTTL               time.Duration `hcl:"max_lease_ttl" default:"768h" doc:"Longest life of tokens and leases."`
	DefaultMaxRequestDuration time.Duration `hcl:"default_max_request_duration" default:"90s" min:"1" doc:"Longest time that a request takes."`

	EnableGenerateRoot         bool `hcl:"enable_generate_root" default:"false" doc:"Let whoever brings enough shares of the root key make a root token that ends after an hour."`
	EnableUnauthenticatedRekey bool `hcl:"enable_unauthenticated_rekey" default:"false" doc:"Serve sys/rekey, which needs shares and no token, beside sys/rotate/root."`

	CompatVersion string `hcl:"compat_version" default:"1.19.0" doc:"Version that clients of the Vault API are told, in the form of semver."`

	File string `hcl:"-"` // from which it was read

	places map[string]tree.Pos `hcl:"-"` // where each setting stands
}

// At returns where a setting stands in the files that the configuration was
// read from, or the block around one that is not given: "seal[0].path",
// "storage.path", "keys_dir".
func (s Server) At(setting string) tree.Pos {
	return (&decoder{where: s.places}).at(setting)
}

// Listener is one address at which the server is reached.
type Listener struct {
	Kind                          string            `hcl:",label" oneof:"tcp unix" doc:"tcp or unix."`
	Address                       string            `hcl:"address" doc:"HOST:PORT of a tcp listener, 127.0.0.1:8200 where there is none; path of a unix socket."`
	TLSDisable                    bool              `hcl:"tls_disable" default:"false" doc:"Speak plain HTTP; only on a loopback address or a unix socket."`
	TLSAuto                       bool              `hcl:"tls_auto" default:"false" doc:"Make a certificate with a CA of this server's own, as rotunda up does."`
	TLSCertFile                   string            `hcl:"tls_cert_file" doc:"PEM file of the certificate and those that lead to its root. It is read again when it changes."`
	TLSKeyFile                    string            `hcl:"tls_key_file" doc:"PEM file of the certificate's key."`
	TLSMinVersion                 string            `hcl:"tls_min_version" default:"tls13" oneof:"tls12 tls13" doc:"Oldest version of TLS; tls12 with forward secrecy and AEAD ciphers only."`
	TLSClientCAFile               string            `hcl:"tls_client_ca_file" doc:"PEM file of the CAs whose certificates clients may show."`
	TLSRequireAndVerifyClientCert bool              `hcl:"tls_require_and_verify_client_cert" default:"false" doc:"Refuse clients that show no certificate."`
	TLSDisableClientCerts         bool              `hcl:"tls_disable_client_certs" default:"false" doc:"Never ask clients for a certificate."`
	SocketMode                    string            `hcl:"socket_mode" doc:"File mode of a unix socket, in octal: 0660."`
	SocketUser                    string            `hcl:"socket_user" doc:"Owner of a unix socket, by name or number."`
	SocketGroup                   string            `hcl:"socket_group" doc:"Group of a unix socket, by name or number."`
	MaxRequestSize                Size              `hcl:"max_request_size" min:"1024" doc:"Longest body of a request here; limits.body where there is none."`
	MaxRequestDuration            time.Duration     `hcl:"max_request_duration" min:"1" doc:"Longest time that a request takes here; default_max_request_duration where there is none."`
	Telemetry                     ListenerTelemetry `hcl:"telemetry" doc:"Metrics at this listener."`
}

// ListenerTelemetry is about metrics at one listener.
type ListenerTelemetry struct {
	UnauthenticatedMetricsAccess bool `hcl:"unauthenticated_metrics_access" default:"false" doc:"Serve sys/metrics without a token."`
}

// Storage is where everything is kept.
type Storage struct {
	Kind    string `hcl:",label" oneof:"bolt" doc:"bolt."`
	Path    string `hcl:"path" doc:"Directory of the data. One process uses it at a time."`
	MaxSize Size   `hcl:"max_size" default:"0" doc:"Bytes to which the store may grow; 0 is no bound."`
}

// Seal is one way to open the root key.
type Seal struct {
	Kind       string   `hcl:",label" oneof:"keyfile shamir passphrase age" doc:"keyfile, shamir, passphrase or age."`
	Path       string   `hcl:"path" doc:"Of a keyfile: the file, readable by its owner only and apart from the data."`
	Passphrase Secret   `hcl:"passphrase" doc:"Of a passphrase: file:PATH."`
	Identity   Secret   `hcl:"identity" doc:"Of age: file:PATH of the identity that opens it. Where there is none, another seal opens the server, and this one is kept for recovery."`
	Recipients []string `hcl:"recipients" doc:"Of age: the recipients that can open it, age1…"`
}

// Audit is a sink of the audit log.
type Audit struct {
	Kind         string `hcl:",label" oneof:"file" doc:"file."`
	Name         string `hcl:",label" doc:"Name under which sys/audit shows it."`
	Description  string `hcl:"description" doc:"One sentence for people."`
	FilePath     string `hcl:"file_path" doc:"File to which entries are appended, or stdout."`
	Mode         string `hcl:"mode" default:"0600" doc:"File mode, in octal."`
	Format       string `hcl:"format" default:"json" oneof:"json" doc:"json."`
	HMACAccessor bool   `hcl:"hmac_accessor" default:"true" doc:"Show accessors as keyed hashes."`
}

// Journal is the audit journal.
type Journal struct {
	Path        string        `hcl:"path" doc:"Directory of the journal; audit below the storage's path where there is none."`
	Retention   time.Duration `hcl:"retention" default:"0" doc:"Age at which segments are removed; 0 keeps them."`
	MaxSize     Size          `hcl:"max_size" default:"0" doc:"Bytes beyond which the oldest segments are removed; 0 keeps them."`
	SegmentSize Size          `hcl:"segment_size" default:"32MiB" min:"65536" doc:"Bytes at which a segment is closed."`
	SegmentAge  time.Duration `hcl:"segment_age" default:"24h" min:"1" doc:"Age at which a segment is closed."`
}

// Backup is about backups that are written without being asked.
type Backup struct {
	Dir      string        `hcl:"dir" doc:"Directory of the backups, apart from the data and best on another disk. Stores may share it."`
	Interval time.Duration `hcl:"interval" default:"0" doc:"Time from one backup to the next; 24h where neither it nor schedule is given."`
	Schedule string        `hcl:"schedule" doc:"When backups are written, in place of interval: five fields of cron, in UTC, or @daily and the like: 30 3 * * *."`
	Keep     int           `hcl:"keep" default:"7" min:"1" doc:"Newest backups that are kept, however old they are."`
	KeepFor  time.Duration `hcl:"keep_for" default:"0" doc:"Other backups are kept while they are younger than this; 0 keeps none of them."`
}

// Telemetry is about metrics.
type Telemetry struct {
	UnauthenticatedMetricsAccess bool `hcl:"unauthenticated_metrics_access" default:"false" doc:"Serve sys/metrics without a token at every listener."`
}

// Limits bounds requests and what is kept. Every default is a bound that
// ordinary use does not meet. Where the file says 0 for no bound, the field is
// negative, as those take it whom it bounds; token_rate and global_rate stay 0.
type Limits struct {
	Connections       int           `hcl:"connections" default:"20000" min:"1" doc:"Connections at once."`
	ConnectionsPerIP  int           `hcl:"connections_per_ip" default:"500" min:"1" doc:"Connections at once from one address."`
	PendingHandshakes int           `hcl:"pending_handshakes" default:"1000" min:"1" doc:"TLS handshakes at once."`
	HandshakeTimeout  time.Duration `hcl:"handshake_timeout" default:"5s" min:"1" doc:"Time for a TLS handshake."`
	HeaderBytes       Size          `hcl:"header_bytes" default:"32KiB" min:"1024" doc:"Bytes of a request's headers together."`
	HeaderCount       int           `hcl:"header_count" default:"100" min:"10" doc:"Headers of a request."`
	HeaderTimeout     time.Duration `hcl:"header_timeout" default:"5s" min:"1" doc:"Time to read a request's headers."`
	TokenBytes        Size          `hcl:"token_bytes" default:"1KiB" min:"64" max:"8192" doc:"Bytes of a token in a header."`
	BatchTokenBytes   Size          `hcl:"batch_token_bytes" default:"8KiB" min:"64" max:"8192" doc:"Bytes of a batch token in a header."`
	URLBytes          Size          `hcl:"url_bytes" default:"4KiB" min:"64" max:"65536" doc:"Bytes of a request's URL."`
	PathSegments      int           `hcl:"path_segments" default:"32" min:"4" max:"32" doc:"Segments of a path below /v1/."`
	SegmentBytes      Size          `hcl:"segment_bytes" default:"255" min:"16" max:"255" doc:"Bytes of a segment of a path."`

	BodyUnauthenticated Size          `hcl:"body_unauthenticated" default:"64KiB" min:"1024" doc:"Bytes of the body of a request without a token."`
	Body                Size          `hcl:"body" default:"1MiB" min:"1024" doc:"Bytes of the body of a request."`
	JSONDepth           int           `hcl:"json_depth" default:"32" min:"4" max:"1000" doc:"How deep JSON objects and lists stand in one another."`
	JSONTokens          int           `hcl:"json_tokens" default:"10000" min:"100" doc:"Names, values and brackets of a JSON body."`
	JSONKeyBytes        Size          `hcl:"json_key_bytes" default:"256" min:"16" doc:"Bytes of a name in a JSON body."`
	BodyTimeout         time.Duration `hcl:"body_timeout" default:"10s" min:"1" doc:"Time to read a body."`
	BodyRate            Size          `hcl:"body_rate" default:"1KiB" doc:"Bytes a second that a body keeps up after body_grace; 0 is no bound."`
	BodyGrace           time.Duration `hcl:"body_grace" default:"5s" doc:"Time after which a body must keep up body_rate."`
	RequestTimeout      time.Duration `hcl:"request_timeout" default:"30s" min:"1" doc:"Time for a request."`
	LongRequestTimeout  time.Duration `hcl:"long_request_timeout" default:"90s" min:"1" doc:"Time for an operation that takes long, such as a search of the audit journal."`
	WriteTimeout        time.Duration `hcl:"write_timeout" default:"60s" min:"1" doc:"Time to write an answer."`
	IdleTimeout         time.Duration `hcl:"idle_timeout" default:"60s" min:"1" doc:"Time that a connection may stay idle."`

	HTTP2Streams     int           `hcl:"http2_streams" default:"100" min:"1" doc:"Streams of an HTTP/2 connection at once."`
	HTTP2Window      Size          `hcl:"http2_window" default:"1MiB" min:"65536" doc:"Bytes of an HTTP/2 connection's window."`
	HTTP2Resets      int           `hcl:"http2_resets" default:"200" min:"1" doc:"Streams that an HTTP/2 connection may give up in http2_reset_window."`
	HTTP2ResetWindow time.Duration `hcl:"http2_reset_window" default:"10s" min:"1" doc:"See http2_resets."`

	InFlight        int           `hcl:"in_flight" default:"20000" min:"1" doc:"Requests at once; fewer while they take long."`
	InFlightTarget  time.Duration `hcl:"in_flight_target" default:"2s" min:"1" doc:"Time of a request that means that there are too many at once."`
	LoginRate       float64       `hcl:"login_rate" default:"10" min:"0" doc:"Failed logins a second from one address; 0 is no bound."`
	LoginBurst      int           `hcl:"login_burst" default:"30" min:"1" doc:"Failed logins at once from one address."`
	AccountFailures int           `hcl:"account_failures" default:"5" min:"0" doc:"Failed logins for one account before each further one waits; 0 is no bound."`
	AccountWindow   time.Duration `hcl:"account_window" default:"5m" min:"1" doc:"Time after which the failures of an account are forgotten."`
	TokenRate       float64       `hcl:"token_rate" default:"0" min:"0" doc:"Requests a second of one token; 0 is no bound."`
	GlobalRate      float64       `hcl:"global_rate" default:"0" min:"0" doc:"Requests a second; 0 is 50000 for each core."`
	RefusalRate     float64       `hcl:"refusal_rate" default:"50" min:"0" doc:"Malformed requests a second from one address that are recorded; ten times that at once; 0 is no bound."`

	BatchItems       int  `hcl:"batch_items" default:"128" min:"1" doc:"Items of a list in a request, such as the versions of kv's destroy or the paths of sys/capabilities."`
	ListPage         int  `hcl:"list_page" default:"1000" min:"1" doc:"Largest limit that a list can be asked for; without one it lists all."`
	PolicyBytes      Size `hcl:"policy_bytes" default:"64KiB" min:"256" max:"524288" doc:"Bytes of a policy."`
	PoliciesPerToken int  `hcl:"policies_per_token" default:"100" min:"1" max:"1000" doc:"Policies of a token, beside default."`
	MetadataItems    int  `hcl:"metadata_items" default:"64" min:"1" max:"256" doc:"Items of the metadata of a secret or a token."`
	MetadataBytes    Size `hcl:"metadata_bytes" default:"512" min:"16" max:"2048" doc:"Bytes of an item of metadata."`
	SecretBytes      Size `hcl:"secret_bytes" default:"512KiB" min:"1024" max:"786432" doc:"Bytes of a secret's value."`
	SecretVersions   int  `hcl:"secret_versions" default:"10" min:"1" max:"1000" doc:"Versions kept of a secret that says nothing else."`
}

// unbind makes the zeros that stand for no bound negative.
func (l *Limits) unbind() {
	if l.BodyRate == 0 {
		l.BodyRate = -1
	}
	if l.LoginRate == 0 {
		l.LoginRate = -1
	}
	if l.AccountFailures == 0 {
		l.AccountFailures = -1
	}
	if l.RefusalRate == 0 {
		l.RefusalRate = -1
	}
}

// Warning is something in the file that has no effect.
type Warning struct {
	Pos  tree.Pos
	Text string
}

// String returns "FILE:3:5: text".
func (w Warning) String() string { return w.Pos.String() + ": " + w.Text }

// Load reads the configuration at path, which is a file or a directory whose
// files that end in .hcl or .json are read in the order of their names as if
// they were one.
func Load(path string) (Server, []Warning, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Server{}, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	files := []string{path}
	if info.IsDir() {
		files = nil
		entries, err := os.ReadDir(path)
		if err != nil {
			return Server{}, nil, fmt.Errorf("reading the configuration: %w", err)
		}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".hcl" || ext == ".json") {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
		if len(files) == 0 {
			return Server{}, nil, fmt.Errorf("reading the configuration: %s has no file that ends in .hcl or .json", path)
		}
	}
	root := &tree.Block{Pos: tree.Pos{File: path, Line: 1, Column: 1}}
	for _, f := range files {
		text, err := readText(f)
		if err != nil {
			return Server{}, nil, fmt.Errorf("reading the configuration: %w", err)
		}
		b, err := tree.Parse(f, text)
		if err != nil {
			return Server{}, nil, err
		}
		root.Items = append(root.Items, b.Items...)
	}
	return read(path, root)
}

// Parse reads a configuration from text; name is the file's in errors and warnings.
func Parse(name, text string) (Server, []Warning, error) {
	if len(text) > MaxText {
		return Server{}, nil, &tree.Error{Pos: tree.Pos{File: name, Line: 1, Column: 1}, Text: fmt.Sprintf("more than %d bytes", MaxText)}
	}
	root, err := tree.Parse(name, text)
	if err != nil {
		return Server{}, nil, err
	}
	return read(name, root)
}

func readText(path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxText+1))
	if err != nil {
		return "", err
	}
	if len(b) > MaxText {
		return "", fmt.Errorf("%s has more than %d bytes", path, MaxText)
	}
	return string(b), nil
}
