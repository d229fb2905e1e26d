package server

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync/atomic"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/audit/file"
	"rotunda.dev/rotunda/internal/conf"
	"rotunda.dev/rotunda/internal/engine/system"
	"rotunda.dev/rotunda/internal/fault"
)

// sinks are the audit sinks of one unsealed node.
type sinks struct {
	*file.Set
	declared []audit.SinkConfig
}

var _ system.Sinks = sinks{}

// Declared returns the sinks of the configuration.
func (s sinks) Declared() []audit.SinkConfig { return s.declared }

// live is the sinks of a node that is unsealed; nil while it is sealed.
type live struct{ p atomic.Pointer[sinks] }

func (n *Node) newSinks(hasher *audit.Hasher) sinks {
	s := sinks{file.NewSet(n.journal, hasher, n.c.Audit.FileDir, n.c.own()), n.c.Audit.Sinks}
	n.sinks.p.Store(&s)
	return s
}

// own returns what is the node's own, where no audit sink may write.
func (c Config) own() file.Own {
	return ownOf(c.Audit.Others, c.Data, c.Keys, c.Audit.Dir, c.Backups.Dir)
}

// ownOf returns what is the node's, of directories that may be none.
func ownOf(files []string, dirs ...string) file.Own {
	return file.Own{Dirs: slices.DeleteFunc(dirs, func(dir string) bool { return dir == "" }), Files: files}
}

// othersOf returns the files of a configuration that are the node's and lie
// anywhere.
func othersOf(config conf.Server) []string {
	all := []string{config.LogFile, config.PIDFile, config.File}
	for _, l := range config.Listeners {
		all = append(all, l.TLSCertFile, l.TLSKeyFile, l.TLSClientCAFile)
		if l.Kind == "unix" {
			all = append(all, l.Address)
		}
	}
	for _, s := range config.Seals {
		all = append(all, s.Path, s.Identity.Path)
	}
	return slices.DeleteFunc(all, func(path string) bool { return path == "" })
}

// ready tries what opening the store will need: the files of sinks that the
// configuration names. That the journal takes records was seen when it was
// recorded that an initialization begins.
func (n *Node) ready(ctx context.Context) error {
	try := file.NewSet(nil, nil, "", n.c.own())
	for _, c := range n.c.Audit.Sinks {
		if err := try.Try(c); err != nil {
			n.c.Log.LogAttrs(ctx, slog.LevelError, "an audit sink cannot be written", slog.String("sink", c.Name), slog.Any("cause", err))
			return fault.Wrap(fault.Unavailable, err, "the audit sink %q cannot be written; the server's log says why", c.Name)
		}
	}
	return nil
}

// reopenSinks opens the files of sinks again, after they were rotated.
func (n *Node) reopenSinks() error {
	if s := n.sinks.p.Load(); s != nil {
		return s.Reopen()
	}
	return nil
}

// sinksOf returns the sinks of a configuration.
func sinksOf(configured []conf.Audit) ([]audit.SinkConfig, error) {
	var all []audit.SinkConfig
	for _, c := range configured {
		if c.FilePath == "" {
			return nil, errors.New("audit " + strconv.Quote(c.Name) + ": file_path is required")
		}
		all = append(all, audit.SinkConfig{
			Name: c.Name, Kind: c.Kind, Description: c.Description, Declared: true,
			Options: map[string]string{"file_path": c.FilePath, "mode": c.Mode, "format": c.Format, "hmac_accessor": strconv.FormatBool(c.HMACAccessor)},
		})
	}
	return all, nil
}
