package cli

import (
	"context"
	"flag"
	"io"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/secret"
)

// Server is what the command line asks of the server that is built into the
// same program. A nil function makes its commands say that this build has no
// server.
type Server struct {
	// Up starts the persistent single node of `rotunda up`, calls c.Ready once
	// it answers requests, and returns when ctx is done and it is shut down.
	Up func(ctx context.Context, c UpConfig) error

	// Serve runs `rotunda server` until ctx is done, or only checks the
	// configuration. Problems name file and line.
	Serve func(ctx context.Context, c ServeConfig) error

	// Recover makes an owner token for a node that is stopped, with the key
	// file that seals it. It is recorded in the audit journal.
	Recover func(ctx context.Context, c RecoverConfig) (Node, error)

	// AcceptRollback accepts an old copy of the store of a stopped node, and
	// revokes all that it has lent.
	AcceptRollback func(ctx context.Context, c AcceptConfig) (Accepted, error)

	// AuditSearch calls emit with each record of a stopped node's journal that
	// q asks for, oldest first. Where the journal is damaged, the error is
	// Damages of package audit, and all records that are whole were given to emit.
	AuditSearch func(ctx context.Context, q AuditQuery, emit func(record jsontext.Value) error) error

	// AuditVerify checks the whole journal of a stopped node.
	AuditVerify func(ctx context.Context, q AuditQuery) (AuditReport, error)

	// AuditKey returns the public key of a stopped node's journal.
	AuditKey func(ctx context.Context, q AuditQuery) (string, error)

	// AuditProve returns the proof, as JSON, that a stopped node's journal has
	// the record with the given id or sequence.
	AuditProve func(ctx context.Context, q AuditQuery, record string) (jsontext.Value, error)

	// AuditAcceptLoss lets a stopped node go on without what is lost of its
	// journal, which is put aside. The error wraps ErrWhole of package audit where nothing is.
	AuditAcceptLoss func(ctx context.Context, n StoppedNode) (AuditLoss, error)

	// Doctor looks at a data directory and what belongs to it, running or not.
	Doctor func(ctx context.Context, data, config string) []Finding

	// Verify reads and opens all that a stopped node keeps in a data directory.
	Verify func(ctx context.Context, data, config string) []Finding

	// Backups writes backups of stopped nodes, and reads and restores backups.
	Backups Backups

	// More are commands of their own that are listed beside the others.
	More []Command
}

// UpConfig is what `rotunda up` was asked for.
type UpConfig struct {
	Data   string      // absolute path of the data directory
	Config string      // absolute path of the configuration directory; keys are kept in Config/keys/CLUSTER-ID
	Listen string      // "127.0.0.1:8200"; port 0 takes any that is free
	Owner  secret.Text // the owner's token as saved on this machine; empty where there is none
	Log    io.Writer   // for structured logs

	// Ready is called once, when requests are answered. It saves what n says
	// and greets the person; an error of it ends the node.
	Ready func(n Node) error
}

// Node is a node that `up` has started or `operator recover` has opened.
type Node struct {
	Address   string      // "https://127.0.0.1:8200"
	ClusterID string      // 32 hex digits
	CACert    []byte      // PEM of the certificates to trust for Address, and no other
	Owner     secret.Text // a good owner token: the one given in UpConfig, renewed, or another
	Created   bool        // the data directory was empty before
	Done      []string    // what was done, one line each: "Created data in /home/a/.local/share/rotunda (mode 0700)"
}

// ServeConfig is what `rotunda server` was asked for.
type ServeConfig struct {
	File  string    // path of the configuration
	Check bool      // only read and check it; warnings go to Out
	Out   io.Writer // for people
	Log   io.Writer // for structured logs
}

// RecoverConfig is what `rotunda operator recover` was asked for.
type RecoverConfig struct {
	Data   string // absolute path of the data directory
	Config string // absolute path of the configuration directory
}

// AuditQuery selects records of a journal. Zero fields select everything.
type AuditQuery struct {
	Data   string // absolute path of a stopped node's data directory
	Config string // absolute path of the configuration directory
	File   string // path of the server's configuration, where Data is not from `up`
	Dir    string // directory to read in place of the node's own; empty for that

	Since, Until time.Time
	Actor        string      // display name, entity id, accessor or token hash
	Op           string      // "kv.get"
	Path         string      // a path, or a prefix that ends in '*'
	Outcome      string      // "ok" or the kind of a fault
	Request      string      // request id
	Hash         string      // keyed hash of a value that is in the request or the answer
	Value        secret.Text // likewise, the value itself; for a stopped node
	After        uint64      // only records with a greater sequence number
	Last         int         // only the newest so many; 0 is all
}

// AuditReport is what verifying a journal found.
type AuditReport struct {
	Records  uint64
	Segments int
	Last     uint64   // sequence of the last record
	Problems []string // empty where the journal is whole

	// What checkpoints vouch for, where they were looked at.
	Checkpoints int       // that were verified
	Signed      uint64    // sequence of the last record that one has
	SignedAt    time.Time // when the last was signed
	Stale       int       // files of the tree that are missing or damaged; the node makes them anew
}

// AuditLoss is the loss of records that was accepted.
type AuditLoss struct {
	At    time.Time
	Found string // what is missing or damaged
	Kept  string // path of the directory of what is left
}

// Finding is one result of `rotunda doctor`.
type Finding struct {
	Check  string // "file modes"
	State  State
	Detail string // "/home/a/.local/share/rotunda is 0755, so others can list it"
	Fix    string // a command; empty where State is Good
}

// State is how good or bad a [Finding] is.
type State string

// The states of a [Finding].
const (
	Good    State = "ok"
	Warning State = "warning"
	Bad     State = "bad"
)

// Command is a command that another package performs, with arguments that it
// reads itself.
type Command struct {
	Name    string // "bench"
	Short   string // one line for the list of commands
	Long    string
	Example string
	Flags   func() *flag.FlagSet                  // its own; --output, where it is one of them, is the one that all commands have
	Run     func(ctx context.Context, c Call) int // returns the exit code
}

// Call is one call of a [Command].
type Call struct {
	Args    []string
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Address string      // of the server that the environment and the context name
	Token   secret.Text // for that server; may be empty
	CACert  []byte      // PEM; may be empty
}
