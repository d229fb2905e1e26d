package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
)

// mountInfo says where an engine is mounted and which KV it is.
type mountInfo struct {
	path string // "secret/"
	v2   bool
	kind string // "kv"; empty where the server does not say
}

// noVersions is the refusal of what a KV mount of version 1 has not; next are
// commands that may help instead.
func (m mountInfo) noVersions(what string, next ...string) error {
	if m.kind != "kv" && m.kind != "" {
		return failure{err: fmt.Errorf("%s is a mount of type %s, which keeps no versions and no metadata: %s has no meaning there", m.path, show.Clean(m.kind), what), next: next}
	}
	return failure{
		err:  fmt.Errorf("%s is KV version 1, which keeps no versions and no metadata: %s has no meaning there", m.path, what),
		next: append(next, "rotunda kv enable-versioning "+show.Shell(strings.TrimSuffix(m.path, "/"))+"   (keeps them from then on, and what is there)"),
	}
}

// holdsSecrets refuses a mount that is known to be no place for secrets.
func (m mountInfo) holdsSecrets() error {
	switch m.kind {
	case "", "kv", "generic", "cubbyhole":
		return nil
	}
	return failure{
		err:  fmt.Errorf("%s is a mount of type %s and holds no secrets to set and get", m.path, show.Clean(m.kind)),
		next: []string{"rotunda secrets list", "rotunda read " + show.Shell(m.path+"PATH")},
	}
}

// at returns the path of a request for rel: kind is "data", "metadata" and so
// on, and has no meaning in version 1.
func (m mountInfo) at(kind, rel string) string {
	rel = strings.Trim(rel, "/")
	if m.v2 {
		return strings.TrimSuffix(m.path+kind+"/"+rel, "/")
	}
	return strings.TrimSuffix(m.path+rel, "/")
}

// preflight asks which mount answers at path, as Vault's commands do before
// they touch KV. A server that does not know the question has KV version 1.
func (a *app) preflight(ctx context.Context, c *api.Client, path string) (mountInfo, error) {
	path = strings.Trim(path, "/")
	resp, err := c.Do(ctx, api.Request{Method: "GET", Path: preflightPath + path, NoWrap: true})
	if api.StatusOf(err) == 404 {
		return mountInfo{}, nil
	}
	if err != nil {
		return mountInfo{}, err
	}
	var data struct {
		Path    string         `json:"path"`
		Type    string         `json:"type"`
		Options map[string]any `json:"options"`
	}
	if err := unpack(resp.Data, &data, "what is mounted"); err != nil {
		return mountInfo{}, err
	}
	return mountInfo{path: data.Path, v2: data.Options["version"] == "2", kind: data.Type}, nil
}

// kv finds the mount for a command of `kv`: the one of -mount, or the one that
// path begins with. It returns what of path is under the mount.
func (a *app) kv(ctx context.Context, c *api.Client, mount, path string) (mountInfo, string, error) {
	asked := path
	if mount != "" {
		asked = strings.Trim(mount, "/") + "/"
	}
	if a.curl || a.policy {
		m, rel := a.guess(mount, path)
		return m, rel, nil
	}
	m, err := a.preflight(ctx, c, asked)
	if err != nil {
		return m, "", err
	}
	if m.path == "" {
		m.path, _, _ = strings.Cut(strings.Trim(asked, "/"), "/")
		m.path += "/"
	}
	if mount != "" {
		return m, strings.Trim(path, "/"), nil
	}
	full := strings.Trim(path, "/") + "/"
	return m, strings.Trim(strings.TrimPrefix(full, m.path), "/"), nil
}

// guess is kv for a request that is only shown: the mount is the first
// segment and has versions.
func (a *app) guess(mount, path string) (mountInfo, string) {
	path = strings.Trim(path, "/")
	if mount != "" {
		return mountInfo{path: strings.Trim(mount, "/") + "/", v2: true}, path
	}
	head, rest, _ := strings.Cut(path, "/")
	return mountInfo{path: head + "/", v2: true}, rest
}

// short finds the mount of the short commands: -m, ROTUNDA_MOUNT, the
// context's, or secret. It is asked for once a run.
func (a *app) short(ctx context.Context, c *api.Client) (mountInfo, error) {
	name, err := a.mountName()
	if err != nil {
		return mountInfo{}, err
	}
	if m, ok := a.mounts[name]; ok {
		return m, nil
	}
	m, _, err := a.kv(ctx, c, name, "")
	if err == nil {
		err = m.holdsSecrets()
	}
	if err != nil {
		return m, err
	}
	a.mounts[name] = m
	return m, nil
}

func (a *app) mountName() (string, error) {
	t, err := a.target()
	if err != nil {
		return "", err
	}
	return strings.Trim(first(a.mount, a.env.setting("MOUNT"), t.context.Mount, "secret"), "/"), nil
}

// stored is one version of a secret.
type stored struct {
	path     string
	data     jsontext.Value // the object that was stored
	metadata jsontext.Value // null in version 1
	version  int64          // 0 in version 1
	resp     *api.Response
}

// deletedError is a version whose data is gone.
type deletedError struct {
	path      string
	version   int64
	when      string
	destroyed bool
	mount     string
}

func (d deletedError) Error() string {
	if d.destroyed {
		return fmt.Sprintf("version %d of %s was destroyed", d.version, d.path)
	}
	return fmt.Sprintf("version %d of %s was deleted at %s", d.version, d.path, d.when)
}

// errMissing says that a secret, or a version of it, is not there. A person is
// told by [app.nothing] instead.
var errMissing = errors.New("there is no such secret")

// read returns a version of a secret; 0 is the current one. It is never
// wrapped: who calls it needs what is in it. The error says what helps.
func (a *app) read(ctx context.Context, c *api.Client, m mountInfo, rel string, version int64) (stored, error) {
	s, err := a.find(ctx, c, m, rel, version)
	if errors.Is(err, errMissing) {
		err = a.nothing(ctx, c, m, rel, version)
	}
	return s, err
}

// handOver is read for a command that prints the answer: it is wrapped where
// that was asked for.
func (a *app) handOver(ctx context.Context, c *api.Client, m mountInfo, rel string, version int64) (stored, error) {
	s, err := a.fetch(ctx, c, api.Request{}, m, rel, version)
	if errors.Is(err, errMissing) {
		err = a.nothing(ctx, c, m, rel, version)
	}
	return s, err
}

// find is read that answers [errMissing] where nothing is there, without
// looking for what was meant.
func (a *app) find(ctx context.Context, c *api.Client, m mountInfo, rel string, version int64) (stored, error) {
	return a.fetch(ctx, c, api.Request{NoWrap: true}, m, rel, version)
}

func (a *app) fetch(ctx context.Context, c *api.Client, req api.Request, m mountInfo, rel string, version int64) (stored, error) {
	s := stored{path: rel}
	req.Method, req.Path = "GET", m.at("data", rel)
	if version != 0 {
		if !m.v2 {
			return s, m.noVersions("--version")
		}
		req.Query = url.Values{"version": {strconv.FormatInt(version, 10)}}
	}
	resp, err := c.Do(ctx, req)
	if e, ok := errors.AsType[*api.Error](err); ok && e.Status == 404 && e.Response != nil {
		if md, ok := show.Field(e.Response.Data, "metadata"); ok && md.Kind() == '{' {
			return s, a.deleted(m, rel, md)
		}
		return s, errMissing
	}
	if err != nil {
		return s, err
	}
	s.resp = resp
	s.data = resp.Data
	if m.v2 && resp.WrapInfo == nil {
		data, _ := show.Field(resp.Data, "data")
		s.metadata, _ = show.Field(resp.Data, "metadata")
		if data.Kind() != '{' {
			return s, a.deleted(m, rel, s.metadata)
		}
		s.data = data
		if v, ok := show.Field(s.metadata, "version"); ok {
			s.version, _ = strconv.ParseInt(string(v), 10, 64) // 0 where it is no number
		}
	}
	return s, nil
}

func (a *app) deleted(m mountInfo, rel string, md jsontext.Value) error {
	var meta struct {
		Version      int64  `json:"version"`
		DeletionTime string `json:"deletion_time"`
		Destroyed    bool   `json:"destroyed"`
	}
	if err := unpack(md, &meta, "metadata"); err != nil {
		return err
	}
	d := deletedError{rel, meta.Version, meta.DeletionTime, meta.Destroyed, m.path}
	next := []string{"rotunda history" + a.mountFlag() + " " + show.Shell(rel)}
	if !d.destroyed {
		next = append(next, undelete(m, rel, d.version))
	}
	return failure{err: d, code: 2, next: next}
}

// undelete is the command that brings a deleted version back.
func undelete(m mountInfo, rel string, version int64) string {
	return fmt.Sprintf("rotunda kv undelete -mount=%s -versions=%d %s", show.Shell(strings.TrimSuffix(m.path, "/")), version, show.Shell(rel))
}

// nothing says that rel is not there, and looks whether a near spelling is.
func (a *app) nothing(ctx context.Context, c *api.Client, m mountInfo, rel string, version int64) error {
	what := show.Clean(rel)
	if version != 0 {
		return failure{err: fmt.Errorf("there is no version %d of %s in %s", version, what, m.path), code: 2, next: []string{"rotunda history" + a.mountFlag() + " " + show.Shell(rel)}}
	}
	if m.v2 {
		if versions, _, err := a.versions(ctx, c, m, rel); err == nil && len(versions) == 0 {
			return a.valueless(m, rel)
		}
	}
	f := failure{err: fmt.Errorf("there is no secret %s in %s", what, m.path), code: 2}
	if rest, ok := strings.CutPrefix(rel+"/", m.path); ok && rest != "" {
		f.next = append(f.next, "rotunda get "+show.Shell(strings.Trim(rest, "/"))+"   (paths do not begin with the mount; see rotunda help paths)")
		return f
	}
	if keys, err := a.list(ctx, c, m, rel); err == nil && len(keys) > 0 {
		f.next = append(f.next, "rotunda ls"+a.mountFlag()+" "+show.Shell(rel))
		return f
	}
	f.next = append(f.next, "rotunda ls"+a.mountFlag(), "rotunda set"+a.mountFlag()+" "+show.Shell(rel))
	return f
}

// A valuelessError is a secret that has metadata and no version.
type valuelessError struct{ path, mount string }

func (v valuelessError) Error() string {
	return fmt.Sprintf("%s in %s has metadata and no value yet", show.Clean(v.path), v.mount)
}

func (a *app) valueless(m mountInfo, rel string) error {
	return failure{err: valuelessError{rel, m.path}, code: 2, next: []string{
		"rotunda set" + a.mountFlag() + " " + show.Shell(rel),
		"rotunda kv metadata get -mount=" + show.Shell(strings.TrimSuffix(m.path, "/")) + " " + show.Shell(rel),
	}}
}

// mountFlag returns " -m NAME" where commands need it to mean the same mount.
func (a *app) mountFlag() string {
	if a.mount == "" {
		return ""
	}
	return " -m " + show.Shell(strings.Trim(a.mount, "/"))
}

// list returns the names under a directory: those that end in a slash are
// directories. The error has status 404 where there are none.
func (a *app) list(ctx context.Context, c *api.Client, m mountInfo, rel string) ([]string, error) {
	path := m.at("metadata", rel) + "/"
	resp, err := c.Do(ctx, api.Request{Method: "GET", Path: strings.TrimSuffix(path, "/"), Query: url.Values{"list": {"true"}}, NoWrap: true})
	if err != nil {
		return nil, asList(err)
	}
	var data struct {
		Keys []string `json:"keys"`
	}
	if err := unpack(resp.Data, &data, "a list"); err != nil {
		return nil, err
	}
	return data.Keys, nil
}

// maxDepth bounds how deep directories are followed, so that a server which
// makes them up as it is asked does not keep us for ever.
const maxDepth = 128

// walk returns the paths of all secrets under a directory.
func (a *app) walk(ctx context.Context, c *api.Client, m mountInfo, dir string) ([]string, error) {
	return a.walkFrom(ctx, c, m, dir, 0)
}

func (a *app) walkFrom(ctx context.Context, c *api.Client, m mountInfo, dir string, depth int) ([]string, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("directories are nested more than %d deep", maxDepth)
	}
	keys, err := a.list(ctx, c, m, dir)
	if api.StatusOf(err) == 404 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, k := range keys {
		full := join(dir, k)
		if !strings.HasSuffix(k, "/") {
			out = append(out, full)
			continue
		}
		below, err := a.walkFrom(ctx, c, m, full, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, below...)
	}
	return out, nil
}

func join(dir, name string) string {
	if dir = strings.Trim(dir, "/"); dir == "" {
		return name
	}
	return dir + "/" + name
}

// write stores data as a new version and returns its number, 0 in version 1.
// Where cas is not nil it must be the number of the current version.
func (a *app) write(ctx context.Context, c *api.Client, m mountInfo, rel string, data object, cas *int64) (int64, *api.Response, error) {
	body := object(nil)
	if m.v2 {
		body.set("data", data)
		options := object{}
		if cas != nil {
			options.set("cas", *cas)
		}
		body.set("options", options)
	} else {
		if cas != nil {
			return 0, nil, m.noVersions("--cas")
		}
		body = data
	}
	resp, err := c.Do(ctx, api.Request{Method: "PUT", Path: m.at("data", rel), Body: body.json()})
	if err != nil {
		return 0, nil, err
	}
	a.warn(resp)
	return versionOf(resp), resp, nil
}

// merge changes the members of the current version that are in data, and keeps
// the others.
func (a *app) merge(ctx context.Context, c *api.Client, m mountInfo, rel string, data object, cas *int64) (int64, *api.Response, error) {
	if !m.v2 {
		resp, err := c.Do(ctx, api.Request{Method: "GET", Path: m.at("data", rel), NoWrap: true})
		if err != nil && api.StatusOf(err) != 404 {
			return 0, nil, err
		}
		var all object
		if err == nil {
			all = object(show.Members(resp.Data))
		}
		for _, d := range data {
			all.put(d.Name, d.Value)
		}
		return a.write(ctx, c, m, rel, all, cas)
	}
	body := object(nil)
	body.set("data", data)
	options := object{}
	if cas != nil {
		options.set("cas", *cas)
	}
	body.set("options", options)
	resp, err := c.Do(ctx, api.Request{Method: "PATCH", Path: m.at("data", rel), Body: body.json(), ContentType: api.MergePatch})
	if err != nil {
		return 0, nil, err
	}
	a.warn(resp)
	return versionOf(resp), resp, nil
}

func versionOf(r *api.Response) int64 {
	v, ok := show.Field(r.Data, "version")
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// versionInfo is one version in the metadata of a secret.
type versionInfo struct {
	Number       int64  `json:"version"`
	CreatedTime  string `json:"created_time"`
	DeletionTime string `json:"deletion_time"`
	Destroyed    bool   `json:"destroyed"`
}

// deleted reports whether v is deleted by now: a version that ends by itself
// tells its end beforehand.
func (v versionInfo) deleted(now time.Time) bool {
	if v.DeletionTime == "" {
		return false
	}
	end, err := time.Parse(time.RFC3339Nano, v.DeletionTime)
	return err != nil || !end.After(now)
}

// readable reports whether v has its data.
func (v versionInfo) readable(now time.Time) bool { return !v.Destroyed && !v.deleted(now) }

// state returns what became of v: current is the number of the newest.
func (v versionInfo) state(current int64, now time.Time) string {
	state := ""
	switch {
	case v.Destroyed:
		return "destroyed"
	case v.deleted(now):
		return "deleted " + v.DeletionTime
	case v.Number == current:
		state = "current"
	}
	if v.DeletionTime != "" {
		state = strings.TrimPrefix(state+", until "+v.DeletionTime, ", ")
	}
	return state
}

// history returns the versions of a secret, oldest first, and the number of
// the current one.
func (a *app) history(ctx context.Context, c *api.Client, m mountInfo, rel string) ([]versionInfo, int64, error) {
	if !m.v2 {
		return nil, 0, m.noVersions("a history")
	}
	versions, current, err := a.versions(ctx, c, m, rel)
	if api.StatusOf(err) == 404 {
		return nil, 0, a.nothing(ctx, c, m, rel, 0)
	}
	return versions, current, err
}

// versions is history that does not look for advice.
func (a *app) versions(ctx context.Context, c *api.Client, m mountInfo, rel string) ([]versionInfo, int64, error) {
	resp, err := c.Do(ctx, api.Request{Method: "GET", Path: m.at("metadata", rel), NoWrap: true})
	if err != nil {
		return nil, 0, err
	}
	var data struct {
		Current  int64                  `json:"current_version"`
		Versions map[string]versionInfo `json:"versions"`
	}
	if err := unpack(resp.Data, &data, "metadata"); err != nil {
		return nil, 0, err
	}
	out := make([]versionInfo, 0, len(data.Versions))
	for k, v := range data.Versions {
		if v.Number, err = strconv.ParseInt(k, 10, 64); err != nil {
			return nil, 0, fmt.Errorf("reading metadata: %w", err)
		}
		out = append(out, v)
	}
	sortBy(out, func(v versionInfo) int64 { return v.Number })
	return out, data.Current, nil
}
