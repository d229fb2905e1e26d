// Package profile keeps what the command line knows between calls: contexts,
// which say where servers are and whom to trust there, and one token for each.
//
// Contexts hold no secret and lie in the configuration directory. Tokens lie
// in the state directory, in a directory of mode 0700, in files of mode 0600;
// where either is wider, reading and writing refuse rather than go on.
package profile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/durable"
	"rotunda.dev/rotunda/internal/secret"
)

// Context is one server as this person uses it.
type Context struct {
	Address   string `json:"address"`
	CACert    string `json:"ca_cert,omitempty"` // PEM; trusted for Address, and no other
	Namespace string `json:"namespace,omitempty"`
	Mount     string `json:"mount,omitempty"` // of the short commands; "secret" where empty
	Data      string `json:"data,omitempty"`  // data directory of a node that `up` started here
	Cluster   string `json:"cluster,omitempty"`
}

// Contexts are all that a person has.
type Contexts struct {
	SchemaVersion int                `json:"schema_version"`
	Current       string             `json:"current,omitempty"`
	Contexts      map[string]Context `json:"contexts"`
}

const schemaVersion = 1

// Store reads and writes contexts and tokens. Where a directory is empty there
// is none: nothing is saved there, and saving is refused with [ErrNoHome].
type Store struct {
	Config string // directory of contexts.json
	State  string // directory of tokens/
}

// ErrNoToken is returned where a context has no token: the person has to log in.
var ErrNoToken = errors.New("no token is saved")

// ErrNoHome is returned where something is to be kept and there is no home
// directory: the person has to set HOME.
var ErrNoHome = errors.New("there is no home directory to keep it in")

var validName = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,63}$`)

// CheckName refuses a name that could not be a file's.
func CheckName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("%q cannot name a context: use 1 to 64 letters, digits, '.', '_' and '-'", name)
	}
	return nil
}

// Load returns the contexts; none where nothing has been saved.
func (s Store) Load() (Contexts, error) {
	out := Contexts{SchemaVersion: schemaVersion, Contexts: map[string]Context{}}
	if s.Config == "" {
		return out, nil
	}
	b, err := os.ReadFile(s.contexts())
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("reading contexts: %w", err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, fmt.Errorf("reading %s, which is damaged: %w", s.contexts(), err)
	}
	if out.SchemaVersion > schemaVersion {
		return out, fmt.Errorf("%s is of a newer version of this program", s.contexts())
	}
	if out.Contexts == nil {
		out.Contexts = map[string]Context{}
	}
	return out, nil
}

// Save writes the contexts in one step. Next to them it keeps the certificates
// of each in a file of its own, for other clients; see [Store.CAFile].
func (s Store) Save(c Contexts) error {
	if s.Config == "" {
		return ErrNoHome
	}
	c.SchemaVersion = schemaVersion
	for name, one := range c.Contexts {
		if err := CheckName(name); err != nil {
			return err
		}
		if one.CACert != "" {
			if err := write(filepath.Join(s.Config, "ca"), name+".pem", []byte(one.CACert), 0o755); err != nil {
				return fmt.Errorf("saving the certificates of context %s: %w", name, err)
			}
		}
	}
	b, err := json.Marshal(c, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("encoding contexts: %w", err)
	}
	if err := write(s.Config, "contexts.json", append(b, '\n'), 0o755); err != nil {
		return fmt.Errorf("saving contexts: %w", err)
	}
	return nil
}

// CAFile returns the path of the file that holds the certificates of a context.
func (s Store) CAFile(name string) string { return filepath.Join(s.Config, "ca", name+".pem") }

// TokenFile returns the path of the file that holds the token of a context.
func (s Store) TokenFile(name string) string { return filepath.Join(s.State, "tokens", name) }

// Token returns the token saved for a context. The error is [ErrNoToken] where
// there is none.
func (s Store) Token(name string) (secret.Text, error) {
	if err := CheckName(name); err != nil {
		return secret.Text{}, err
	}
	if s.State == "" {
		return secret.Text{}, ErrNoToken
	}
	if info, err := os.Lstat(filepath.Join(s.State, "tokens")); err == nil {
		if err := narrow(filepath.Join(s.State, "tokens"), info, 0o700); err != nil {
			return secret.Text{}, err
		}
	}
	return ReadToken(s.TokenFile(name))
}

// ReadToken reads a file that holds a token and refuses one that others may
// read, a link, and anything that is no plain file.
func ReadToken(path string) (secret.Text, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return secret.Text{}, ErrNoToken
	case err != nil:
		return secret.Text{}, fmt.Errorf("reading a token: %w", err)
	case !info.Mode().IsRegular():
		return secret.Text{}, fmt.Errorf("reading a token: %s is not a plain file", path)
	}
	if err := narrow(path, info, 0o600); err != nil {
		return secret.Text{}, err
	}
	f, err := os.Open(path) //nolint:gosec // the caller names its own file
	if err != nil {
		return secret.Text{}, fmt.Errorf("reading a token: %w", err)
	}
	defer f.Close() // it is only read
	opened, err := f.Stat()
	if err != nil || !os.SameFile(info, opened) {
		return secret.Text{}, fmt.Errorf("reading a token: %s changed while it was opened", path)
	}
	buf := make([]byte, 16<<10)
	n, err := f.Read(buf)
	if err != nil && n == 0 {
		return secret.Text{}, ErrNoToken
	}
	t := strings.TrimSpace(string(buf[:n]))
	if t == "" {
		return secret.Text{}, ErrNoToken
	}
	return secret.New(t), nil
}

// SaveToken keeps the token of a context.
func (s Store) SaveToken(name string, t secret.Text) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if s.State == "" {
		return ErrNoHome
	}
	if err := write(filepath.Join(s.State, "tokens"), name, []byte(t.Reveal()), 0o700); err != nil {
		return fmt.Errorf("saving a token: %w", err)
	}
	return nil
}

// DropToken forgets the token of a context. Nothing happens where there is none.
func (s Store) DropToken(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if s.State == "" {
		return nil
	}
	if err := os.Remove(s.TokenFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a token: %w", err)
	}
	return nil
}

// Wide returns a sentence for each file or directory of s that others may
// read or change, and the command that mends it.
func (s Store) Wide() (wide, fixes []string) {
	check := func(path string, allowed fs.FileMode) {
		if info, err := os.Lstat(path); err == nil {
			if err := narrow(path, info, allowed); err != nil {
				wide, fixes = append(wide, err.Error()), append(fixes, fmt.Sprintf("chmod %o %s", allowed, path))
			}
		}
	}
	if s.State == "" || s.Config == "" {
		return nil, nil
	}
	check(filepath.Join(s.State, "tokens"), 0o700)
	if entries, err := os.ReadDir(filepath.Join(s.State, "tokens")); err == nil {
		for _, e := range entries {
			check(filepath.Join(s.State, "tokens", e.Name()), 0o600)
		}
	}
	check(s.Config, 0o755)
	check(s.contexts(), 0o644)
	return wide, fixes
}

func (s Store) contexts() string { return filepath.Join(s.Config, "contexts.json") }

// narrow refuses what has a permission beyond allowed. Windows keeps its
// permissions elsewhere: a profile's directories are its user's own there.
func narrow(path string, info fs.FileInfo, allowed fs.FileMode) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	if got := info.Mode().Perm(); got&^allowed != 0 {
		return fmt.Errorf("%s has mode %04o, so others can use it; make it %04o: chmod %o %s", path, got, allowed, allowed, path)
	}
	return nil
}

// write puts data into dir/name, mode 0600, in one step: a reader sees the old
// file or the new. Dir is made 0700 where it is missing and refused where it is
// wider than allowed. The name is resolved inside dir and never through a link.
func write(dir, name string, data []byte, allowed fs.FileMode) error {
	if err := durable.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fmt.Errorf("making %s: %w", filepath.Dir(dir), err)
	}
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
		if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory; the umask may have taken more away
			return fmt.Errorf("making %s: %w", dir, err)
		}
		if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
			return fmt.Errorf("making %s: %w", dir, err)
		}
	case !errors.Is(err, fs.ErrExist):
		return fmt.Errorf("making %s: %w", dir, err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", dir, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if err := narrow(dir, info, allowed); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("opening %s: %w", dir, err)
	}
	defer root.Close() // nothing is lost
	opened, err := root.Stat(".")
	if err != nil || !os.SameFile(info, opened) {
		return fmt.Errorf("%s changed while it was opened", dir)
	}
	temp := "." + name + "." + rand.Text()
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("creating a file in %s: %w", dir, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = root.Rename(temp, name)
	}
	if err != nil {
		_ = root.Remove(temp) // the first error is the one to tell
		return fmt.Errorf("writing %s: %w", filepath.Join(dir, name), err)
	}
	if err := durable.SyncDir(dir); err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Join(dir, name), err)
	}
	return nil
}
