package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/audit/file"
	"rotunda.dev/rotunda/internal/conf"
	"rotunda.dev/rotunda/internal/conf/tree"
	"rotunda.dev/rotunda/internal/listen"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/seal/age"
	"rotunda.dev/rotunda/internal/seal/keyfile"
	"rotunda.dev/rotunda/internal/seal/passphrase"
	"rotunda.dev/rotunda/internal/secret"
)

// checker looks at what a configuration names, changes nothing, and keeps what
// is wrong with it.
type checker struct {
	config conf.Server
	errs   []error
}

// check reports everything that would keep a server with this configuration
// from starting or from being initialized, each with where it stands in the
// file. It makes nothing and leaves all as it is.
func check(ctx context.Context, config conf.Server) error {
	c := &checker{config: config}
	c.private("storage.path", config.Storage.Path)
	if keys, err := keysDir(config); err != nil {
		c.bad("keys_dir", err)
	} else {
		c.private("keys_dir", keys)
	}
	if config.Journal.Path != "" {
		c.bad("journal.path", usable(config.Journal.Path))
	}
	if config.Backup.Dir != "" {
		c.bad("backup.dir", usable(config.Backup.Dir))
	}
	for i, l := range config.Listeners {
		c.listener(fmt.Sprintf("listener[%d].", i), l)
	}
	for i, s := range config.Seals {
		c.seal(ctx, fmt.Sprintf("seal[%d].", i), s)
	}
	c.sinks()
	if dir := config.AuditFileDir; dir != "" {
		if info, err := os.Stat(dir); err != nil {
			c.bad("audit_file_dir", fmt.Errorf("%w; make it: mkdir -p %s", err, dir))
		} else if !info.IsDir() {
			c.bad("audit_file_dir", fmt.Errorf("%s is not a directory", dir))
		} else {
			c.bad("audit_file_dir", enterable(dir))
		}
	}
	if config.LogFile != "" {
		c.bad("log_file", appendable(config.LogFile))
	}
	if config.PIDFile != "" {
		c.bad("pid_file", appendable(config.PIDFile))
	}
	return errors.Join(c.errs...)
}

// bad keeps what is wrong with a setting; nil is nothing.
func (c *checker) bad(setting string, err error) {
	if err == nil {
		return
	}
	name := setting[strings.LastIndexByte(setting, '.')+1:]
	c.errs = append(c.errs, &tree.Error{Pos: c.config.At(setting), Text: name + ": " + err.Error()})
}

// private checks a directory that is the server's alone.
func (c *checker) private(setting, dir string) {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		if err := checkPrivate(dir, info); err != nil {
			c.bad(setting, err)
			return
		}
	}
	c.bad(setting, usable(dir))
}

// sinks checks that the files of audit sinks can be written, and that each is
// the sink's alone.
func (c *checker) sinks() {
	own := c.own()
	var taken []file.Place
	for i, a := range c.config.Audits {
		at := fmt.Sprintf("audit[%d].file_path", i)
		p, err := file.Locate(a.FilePath)
		if err != nil {
			c.bad(at, err)
			continue
		}
		if other := slices.IndexFunc(taken, p.Same); other >= 0 {
			c.bad(at, fmt.Errorf("%s is the file of audit %q already; give each sink a file of its own", a.FilePath, c.config.Audits[other].Name))
		}
		taken = append(taken, p)
		if a.FilePath == file.Stdout {
			continue
		}
		switch has, err := own.Has(p); {
		case err != nil:
			c.bad(at, err)
		case has:
			c.bad(at, fmt.Errorf("%s is one of the server's own files, or lies where they are; name a file elsewhere", a.FilePath))
		default:
			c.bad(at, sinkFile(a.FilePath))
		}
	}
}

// own returns what is the server's own.
func (c *checker) own() file.Own {
	keys, err := keysDir(c.config)
	if err != nil {
		keys = "" // that was said
	}
	return ownOf(othersOf(c.config), c.config.Storage.Path, keys, c.config.Journal.Path, c.config.Backup.Dir)
}

// sinkFile reports whether an audit sink can write to a file.
func sinkFile(path string) error {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSymlink {
		return fmt.Errorf("%s is a symbolic link, behind which no audit sink writes; name the file itself", path)
	}
	return appendable(path)
}

func (c *checker) listener(at string, l conf.Listener) {
	if l.Kind == "unix" {
		c.bad(at+"address", usable(filepath.Dir(l.Address)))
	}
	if l.TLSCertFile == "" {
		return
	}
	if _, err := listen.LoadTLS(tlsOf(l)); err != nil {
		setting := "tls_cert_file"
		if at, ok := errors.AsType[*fs.PathError](err); ok {
			switch at.Path {
			case l.TLSKeyFile:
				setting = "tls_key_file"
			case l.TLSClientCAFile:
				setting = "tls_client_ca_file"
			}
		}
		c.bad(at+setting, err)
	}
}

func (c *checker) seal(ctx context.Context, at string, s conf.Seal) {
	switch s.Kind {
	case keyfile.Kind:
		c.bad(at+"path", c.keyFile(s.Path))
	case passphrase.Kind:
		_, err := s.Passphrase.Read()
		c.bad(at+"passphrase", err)
	case age.Kind:
		c.age(ctx, at, s)
	}
}

// age seals a key that nobody needs to the recipients, and opens it with the
// identity.
func (c *checker) age(ctx context.Context, at string, s conf.Seal) {
	sealer := age.New(age.Config{Recipients: s.Recipients, IdentityFile: s.Identity.Path})
	key := secret.NewBytes(aead.NewKey())
	defer key.Wipe()
	stanza, err := sealer.Seal(ctx, key, nil)
	c.bad(at+"recipients", err)
	if err != nil || s.Identity.IsZero() {
		return
	}
	opened, err := sealer.Unseal(ctx, []seal.Stanza{stanza}, nil)
	opened.Wipe()
	c.bad(at+"identity", err)
}

// keyFile checks the key file of a seal. One that is missing is made with a new
// store, and never for a store that is there.
func (c *checker) keyFile(path string) error {
	key, err := seal.ReadPrivate(path, aead.KeySize)
	defer key.Wipe()
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(storeDir(c.config.Storage.Path)); err == nil {
			return fmt.Errorf("the key file %s is missing, and there is a store that it may have to open; put it back from a copy, it cannot be made again", path)
		}
		return usable(filepath.Dir(path))
	}
	if err == nil && key.Len() != aead.KeySize {
		err = fmt.Errorf("%s is not a key file: it has %d bytes, not %d; put it back from a copy", path, key.Len(), aead.KeySize)
	}
	return err
}

// usable reports whether a directory can be used, or can be made.
func usable(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	case err == nil:
		return enterable(dir)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	up := filepath.Dir(dir)
	for {
		info, err := os.Stat(up)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s cannot be made: %s is not a directory", dir, up)
		}
		if err == nil || up == filepath.Dir(up) {
			break
		}
		up = filepath.Dir(up)
	}
	if err := enterable(up); err != nil {
		return fmt.Errorf("%s is not there and cannot be made: %w; make it for the user that the server runs as: install -d -m 0700 -o USER %s", dir, err, dir)
	}
	return nil
}

// appendable reports whether a file can be written to, or made.
func appendable(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		dir := filepath.Dir(path)
		if info, err := os.Stat(dir); err != nil {
			return fmt.Errorf("%w; make the directory: mkdir -p %s", err, dir)
		} else if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		return enterable(dir)
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a directory; name a file in it", path)
	}
	return writable(path)
}
