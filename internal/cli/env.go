package cli

import (
	"path/filepath"
	"strings"

	"rotunda.dev/rotunda/internal/cli/profile"
)

// environment is the process's environment, read once.
type environment map[string]string

func newEnvironment(environ []string) environment {
	e := environment{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && k != "" {
			e[k] = v
		}
	}
	return e
}

// prefixes are the spellings under which a setting is looked for, in order:
// ours, OpenBao's, Vault's.
var prefixes = [...]string{"ROTUNDA_", "BAO_", "VAULT_"}

// setting returns the first of ROTUNDA_name, BAO_name and VAULT_name that is
// set and not empty.
func (e environment) setting(name string) string {
	v, _ := e.settingFrom(name)
	return v
}

// settingFrom is setting with the name of the variable that it came from.
func (e environment) settingFrom(name string) (value, variable string) {
	for _, p := range prefixes {
		if v := e[p+name]; v != "" {
			return v, p + name
		}
	}
	return "", ""
}

// flag reports whether a setting is switched on.
func (e environment) flag(name string) bool {
	switch strings.ToLower(e.setting(name)) {
	case "1", "t", "true", "yes", "on":
		return true
	}
	return false
}

// dir returns an XDG base directory: the variable where it holds an absolute
// path, else fallback under the home directory.
func (e environment) dir(variable string, fallback ...string) string {
	if v := e[variable]; filepath.IsAbs(v) {
		return v
	}
	home := e["HOME"]
	if home == "" {
		home = e["USERPROFILE"]
	}
	if !filepath.IsAbs(home) {
		return ""
	}
	return filepath.Join(append([]string{home}, fallback...)...)
}

// configDir, stateDir and dataDir are where this program keeps its things. They
// are empty where there is no home directory: what lies in the directory that
// someone happens to stand in is not theirs.
func (e environment) configDir() string { return ours(e.dir("XDG_CONFIG_HOME", ".config")) }

func (e environment) stateDir() string { return ours(e.dir("XDG_STATE_HOME", ".local", "state")) }

func (e environment) dataDir() string { return ours(e.dir("XDG_DATA_HOME", ".local", "share")) }

func ours(dir string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "rotunda")
}

func (e environment) profiles() profile.Store {
	return profile.Store{Config: e.configDir(), State: e.stateDir()}
}

// scrubbed are the variables that a child of `run` does not inherit: with them
// it could read every secret instead of those that it was given.
func scrubbed(name string) bool {
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(strings.ToUpper(name), p); ok {
			return strings.Contains(rest, "TOKEN") || rest == "CLIENT_KEY" || rest == "UNSEAL_KEY"
		}
	}
	return false
}
