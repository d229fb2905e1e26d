package conf

import "rotunda.dev/rotunda/internal/secret"

// prefixes are tried in this order for each variable: ours, OpenBao's, Vault's.
var prefixes = [...]string{"ROTUNDA_", "BAO_", "VAULT_"}

// Env is what the environment says. Of a variable that is named here by its
// end, ROTUNDA_…, BAO_… and VAULT_… are tried in this order, and the first
// that is not empty counts.
type Env struct {
	Addr             string      `env:"ADDR" doc:"URL of the server."`
	AgentAddr        string      `env:"AGENT_ADDR" doc:"URL of an agent, instead of the server's."`
	Token            secret.Text `env:"TOKEN" doc:"The token that requests carry."`
	TokenPath        string      `env:"TOKEN_PATH" doc:"File that holds the token."`
	Namespace        string      `env:"NAMESPACE" doc:"Namespace of requests."`
	CACert           string      `env:"CACERT" doc:"PEM file of the CAs to trust."`
	CACertBytes      string      `env:"CACERT_BYTES" doc:"The CAs to trust, as PEM."`
	CAPath           string      `env:"CAPATH" doc:"Directory of PEM files of the CAs to trust."`
	ClientCert       string      `env:"CLIENT_CERT" doc:"PEM file of the client's certificate."`
	ClientKey        string      `env:"CLIENT_KEY" doc:"PEM file of the client's key."`
	ClientTimeout    string      `env:"CLIENT_TIMEOUT" doc:"Time for a request."`
	TLSServerName    string      `env:"TLS_SERVER_NAME" doc:"Name that the server's certificate must have."`
	SkipVerify       string      `env:"SKIP_VERIFY" doc:"Do not verify the server's certificate."`
	WrapTTL          string      `env:"WRAP_TTL" doc:"Wrap answers for so long."`
	MaxRetries       string      `env:"MAX_RETRIES" doc:"Times to try again after a 5xx."`
	Format           string      `env:"FORMAT" doc:"Format of output."`
	HTTPProxy        string      `env:"HTTP_PROXY" doc:"Proxy for requests to the server."`
	ProxyAddr        string      `env:"PROXY_ADDR" doc:"The same, before HTTP_PROXY."`
	RateLimit        string      `env:"RATE_LIMIT" doc:"Requests a second: rate or rate:burst."`
	DisableRedirects string      `env:"DISABLE_REDIRECTS" doc:"Follow no redirect."`
	SRVLookup        string      `env:"SRV_LOOKUP" doc:"Find the server by an SRV record."`
	MFA              string      `env:"MFA" doc:"Second factor: method[:passcode]."`

	LogLevel  string `env:"LOG_LEVEL" doc:"As log_level in the file."`
	LogFormat string `env:"LOG_FORMAT" doc:"As log_format in the file."`
	APIAddr   string `env:"API_ADDR" doc:"As api_addr in the file."`
	UI        string `env:"UI" doc:"As ui in the file."`

	NotifySocket         string // NOTIFY_SOCKET, of systemd
	WatchdogUsec         string // WATCHDOG_USEC
	ListenPID, ListenFDs string // LISTEN_PID and LISTEN_FDS
	CredentialsDirectory string // CREDENTIALS_DIRECTORY
	ConfigHome           string // XDG_CONFIG_HOME
	StateHome            string // XDG_STATE_HOME
	Home                 string // HOME
}

// ReadEnv returns what getenv, such as [os.Getenv], says.
func ReadEnv(getenv func(string) string) Env {
	first := func(name string) string {
		for _, p := range prefixes {
			if v := getenv(p + name); v != "" {
				return v
			}
		}
		return ""
	}
	return Env{
		Addr: first("ADDR"), AgentAddr: first("AGENT_ADDR"), Token: secret.New(first("TOKEN")), TokenPath: first("TOKEN_PATH"),
		Namespace: first("NAMESPACE"), CACert: first("CACERT"), CACertBytes: first("CACERT_BYTES"), CAPath: first("CAPATH"),
		ClientCert: first("CLIENT_CERT"), ClientKey: first("CLIENT_KEY"), ClientTimeout: first("CLIENT_TIMEOUT"),
		TLSServerName: first("TLS_SERVER_NAME"), SkipVerify: first("SKIP_VERIFY"), WrapTTL: first("WRAP_TTL"),
		MaxRetries: first("MAX_RETRIES"), Format: first("FORMAT"), HTTPProxy: first("HTTP_PROXY"), ProxyAddr: first("PROXY_ADDR"),
		RateLimit: first("RATE_LIMIT"), DisableRedirects: first("DISABLE_REDIRECTS"), SRVLookup: first("SRV_LOOKUP"), MFA: first("MFA"),
		LogLevel: first("LOG_LEVEL"), LogFormat: first("LOG_FORMAT"), APIAddr: first("API_ADDR"), UI: first("UI"),
		NotifySocket: getenv("NOTIFY_SOCKET"), WatchdogUsec: getenv("WATCHDOG_USEC"), ListenPID: getenv("LISTEN_PID"), ListenFDs: getenv("LISTEN_FDS"),
		CredentialsDirectory: getenv("CREDENTIALS_DIRECTORY"), ConfigHome: getenv("XDG_CONFIG_HOME"), StateHome: getenv("XDG_STATE_HOME"), Home: getenv("HOME"),
	}
}
