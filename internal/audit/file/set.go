package file

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/fault"
)

// Set is the file sinks of one unsealed server. Make it with [NewSet].
type Set struct {
	journal *audit.Journal
	hasher  *audit.Hasher
	dir     string
	own     Own

	mu    sync.Mutex
	sinks map[string]*Sink
}

// NewSet returns an empty set. Sinks that the API defines lie below dir; where
// dir is empty it can define none. No sink writes to what is in own, and no two
// write to one file.
func NewSet(j *audit.Journal, h *audit.Hasher, dir string, own Own) *Set {
	return &Set{journal: j, hasher: h, dir: dir, own: own, sinks: map[string]*Sink{}}
}

// Check reports a sink that the API must not define, as a fault of kind
// Invalid. Every spelling of an option is held to the same rules, and an
// option that is not known is refused.
func (s *Set) Check(c audit.SinkConfig) error {
	config, err := s.config(c)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.apart(c.Name, config)
}

// Start opens a sink and feeds it.
func (s *Set) Start(c audit.SinkConfig) error {
	config, err := s.config(c)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sinks[c.Name] != nil {
		return fault.New(fault.Invalid, "path already in use")
	}
	if err := s.apart(c.Name, config); err != nil {
		return err
	}
	sink, err := Open(config)
	if err != nil {
		if fault.Is(err, fault.Invalid) {
			return err
		}
		return fault.Wrap(fault.Invalid, err, "the audit file cannot be opened")
	}
	if err := s.journal.Feed(c.Name, sink); err != nil {
		return errors.Join(err, sink.Close())
	}
	s.sinks[c.Name] = sink
	return nil
}

// Try opens the file of a sink, and makes it where it is missing, as
// [Set.Start] will. What is tried after it may not write to the same file; a set
// that tries starts nothing.
func (s *Set) Try(c audit.SinkConfig) error {
	config, err := s.config(c)
	if err != nil {
		return err
	}
	if err := s.Check(c); err != nil {
		return err
	}
	if config.Path != Stdout {
		f, err := openFile(config.clean())
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sinks[c.Name] = &Sink{c: config}
	return nil
}

// Stop ends a sink and forgets where it stood.
func (s *Set) Stop(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sinks, name)
	return s.journal.Unfeed(name)
}

// Reopen opens every file by its name again.
func (s *Set) Reopen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.sinks)) {
		if err := s.sinks[name].Reopen(); err != nil {
			errs = append(errs, fmt.Errorf("reopening audit sink %q: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// config reads the options of a sink.
func (s *Set) config(c audit.SinkConfig) (Config, error) {
	out := Config{Dir: s.dir, HMACAccessor: true, Hasher: s.hasher}
	if c.Kind != "file" {
		return out, fault.New(fault.Invalid, "unknown audit device type; only file is offered")
	}
	if !c.Declared && s.dir == "" {
		return out, fault.New(fault.Invalid, "cannot enable audit device via API: the configuration names no audit_file_dir")
	}
	path := ""
	for _, key := range slices.Sorted(maps.Keys(c.Options)) {
		var err error
		switch v := c.Options[key]; key {
		case "file_path", "path":
			if path != "" && path != v {
				return out, fault.New(fault.Invalid, "file_path and path differ")
			}
			path = v
		case "mode":
			out.Mode, err = parseMode(v)
		case "hmac_accessor":
			out.HMACAccessor, err = parseBool(key, v)
		case "format":
			if v != "json" && v != "" {
				err = fault.New(fault.Invalid, "only the format json is offered")
			}
		case "log_raw":
			var raw bool
			if raw, err = parseBool(key, v); raw {
				err = fault.New(fault.Invalid, "log_raw is not offered: no sink gets values in clear")
			}
		case "elide_list_responses":
			var elide bool
			if elide, err = parseBool(key, v); elide {
				err = fault.New(fault.Invalid, "elide_list_responses is not offered")
			}
		case "prefix":
			if v != "" {
				err = fault.New(fault.Invalid, "prefix is not offered")
			}
		default:
			err = fault.New(fault.Invalid, "unknown option of a file sink")
		}
		if err != nil {
			return out, err
		}
	}
	return s.place(out, path, c.Declared)
}

// place says where the file of path is. One that the API names is below the
// set's directory, as text and as the file system has it.
func (s *Set) place(out Config, path string, declared bool) (Config, error) {
	switch {
	case path == "":
		return out, fault.New(fault.Invalid, "file_path is required")
	case strings.ContainsRune(path, 0) || len(path) > 4096:
		return out, fault.New(fault.Invalid, "malformed file_path")
	case declared && path == Stdout:
		out.Dir, out.Path = "", Stdout
		return out, nil
	case declared:
		abs, err := filepath.Abs(path)
		if err != nil {
			return out, fault.Wrap(fault.Invalid, err, "malformed file_path")
		}
		out.Dir, out.Path = filepath.Dir(abs), filepath.Base(abs)
		return out, nil
	}
	outside := fault.New(fault.Invalid, "file_path must be a file in the directory that audit_file_dir names")
	if slices.Contains(strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == os.PathSeparator }), "..") {
		return out, outside
	}
	if filepath.IsAbs(path) {
		rel, err := filepath.Rel(s.dir, path)
		if err != nil {
			return out, outside
		}
		path = rel
	}
	if !filepath.IsLocal(path) || path == "." || path == Stdout || path == "discard" {
		return out, outside
	}
	out.Path = path
	return out, nil
}

func parseMode(v string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(v, 8, 32)
	switch {
	case v == "":
		return 0, nil
	case err != nil || n > 0o777:
		return 0, fault.New(fault.Invalid, "mode must be an octal number such as 0600")
	case n&0o111 != 0:
		return 0, fault.New(fault.Invalid, "mode must not have execute bits")
	case n&0o022 != 0:
		return 0, fault.New(fault.Invalid, "mode must not let others write")
	}
	return fs.FileMode(n), nil
}

func parseBool(key, v string) (bool, error) {
	b, err := strconv.ParseBool(v)
	if err != nil && v != "" {
		return false, fault.New(fault.Invalid, "%s must be true or false", key)
	}
	return b, nil
}
