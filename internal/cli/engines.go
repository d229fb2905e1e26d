package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
)

// mount is what sys/mounts and sys/auth say of one mount.
type mount struct {
	Type        string         `json:"type"`
	Accessor    string         `json:"accessor"`
	Description string         `json:"description"`
	UUID        string         `json:"uuid"`
	Options     map[string]any `json:"options"`
	Config      struct {
		DefaultLeaseTTL int64 `json:"default_lease_ttl"`
		MaxLeaseTTL     int64 `json:"max_lease_ttl"`
	} `json:"config"`
}

// mountList lists what sys/mounts or sys/auth says.
func (a *app) mountList(path string) *cobra.Command {
	var detailed bool
	c := &cobra.Command{Use: "list", Short: "List what is mounted", Args: atMost(0)}
	c.Flags().BoolVar(&detailed, "detailed", false, "print more of each")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: path})
		if err != nil {
			return err
		}
		if resp.Data.Kind() != '{' {
			return oddAnswer{"what is mounted", nil}
		}
		a.warn(resp)
		return a.print(view{doc: resp.Data, people: func(w io.Writer) error {
			t := show.Table{Header: []string{"Path", "Type", "Accessor", "Description"}}
			if detailed {
				t.Header = []string{"Path", "Type", "Accessor", "Default TTL", "Max TTL", "Options", "UUID", "Description"}
			}
			for _, m := range show.Sorted(resp.Data) {
				var one mount
				if err := unpack(m.Value, &one, "what is mounted"); err != nil {
					return err
				}
				if !detailed {
					t.Add(m.Name, one.Type, one.Accessor, first(one.Description, "n/a"))
					continue
				}
				options, _ := show.Field(m.Value, "options")
				t.Add(m.Name, one.Type, one.Accessor, ttl(one.Config.DefaultLeaseTTL), ttl(one.Config.MaxLeaseTTL), show.Text(options), one.UUID, first(one.Description, "n/a"))
			}
			return a.table(w, &t)
		}})
	}
	return c
}

func ttl(n int64) string {
	if n == 0 {
		return "system"
	}
	return (time.Duration(n) * time.Second).String()
}

func (a *app) secretsCommand() *cobra.Command {
	disable := &cobra.Command{
		Use: "disable PATH", Short: "Take a mount away with everything in it", Args: exactly(1, "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := strings.Trim(args[0], "/")
			if a.canAsk() {
				if err := a.confirm("Destroy everything in " + show.Clean(path) + "/? It cannot be brought back."); err != nil {
					return err
				}
			}
			return a.send(cmd, api.Request{Method: "DELETE", Path: "sys/mounts/" + path}, "Success! Disabled the secrets engine (if it existed) at: "+path+"/")
		},
	}
	move := &cobra.Command{
		Use: "move FROM TO", Short: "Give a mount another path", Args: exactly(2, "FROM or TO"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.move(cmd, args[0], args[1]) },
	}
	return group("secrets", "What is mounted: list, enable, tune, move, disable", a.mountList("sys/mounts"), a.secretsEnable(), a.secretsTune(), move, disable)
}

// mountFlags are the settings of a mount.
type mountFlags struct {
	description, defaultTTL, maxTTL, visibility string
	options                                     []string
	auditIn, auditOut                           []string
	headersIn, headersOut, managedKeys          []string
	pluginName, pluginVersion                   string
}

func (m *mountFlags) define(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&m.description, "description", "", "what it is for")
	f.StringVar(&m.defaultTTL, "default-lease-ttl", "", "how `long` leases last where nothing else is said")
	f.StringVar(&m.maxTTL, "max-lease-ttl", "", "how `long` leases may last")
	f.StringVar(&m.visibility, "listing-visibility", "", "unauth or hidden: whether it is listed for those who are not logged in")
	f.StringArrayVar(&m.options, "options", nil, "an option of the engine, as `KEY=VALUE`")
	f.StringSliceVar(&m.auditIn, "audit-non-hmac-request-keys", nil, "`keys` of requests that are audited in clear")
	f.StringSliceVar(&m.auditOut, "audit-non-hmac-response-keys", nil, "`keys` of answers that are audited in clear")
	f.StringSliceVar(&m.headersIn, "passthrough-request-headers", nil, "`headers` of requests that the engine is given, where the server does that")
	f.StringSliceVar(&m.headersOut, "allowed-response-headers", nil, "`headers` that the engine may answer with, where the server does that")
	f.StringSliceVar(&m.managedKeys, "allowed-managed-keys", nil, "managed `keys` that the engine may use, where the server has them")
	f.StringVar(&m.pluginName, "plugin-name", "", "`plugin` that does the work, where the server loads them")
	f.StringVar(&m.pluginVersion, "plugin-version", "", "its `version`")
}

func (m *mountFlags) config(cmd *cobra.Command) object {
	var o object
	if m.defaultTTL != "" {
		o.set("default_lease_ttl", m.defaultTTL)
	}
	if m.maxTTL != "" {
		o.set("max_lease_ttl", m.maxTTL)
	}
	if m.visibility != "" {
		o.set("listing_visibility", m.visibility)
	}
	for _, list := range []struct {
		flag   string
		values []string
	}{
		{"audit-non-hmac-request-keys", m.auditIn},
		{"audit-non-hmac-response-keys", m.auditOut},
		{"passthrough-request-headers", m.headersIn},
		{"allowed-response-headers", m.headersOut},
		{"allowed-managed-keys", m.managedKeys},
	} {
		if cmd.Flags().Changed(list.flag) {
			o.set(strings.ReplaceAll(list.flag, "-", "_"), list.values)
		}
	}
	if m.pluginName != "" {
		o.set("plugin_name", m.pluginName)
	}
	if m.pluginVersion != "" {
		o.set("plugin_version", m.pluginVersion)
	}
	return o
}

func (a *app) secretsEnable() *cobra.Command {
	var m mountFlags
	var path string
	var version int
	var local, sealWrap, noCache, entropy bool
	c := &cobra.Command{
		Use: "enable TYPE", Short: "Mount a secrets engine", Args: exactly(1, "TYPE"),
		Example: "  rotunda secrets enable -path=team -version=2 kv",
	}
	f := c.Flags()
	m.define(c)
	f.StringVar(&path, "path", "", "where; without, the type is the path")
	f.IntVar(&version, "version", 0, "of the engine: 1 or 2 for kv")
	f.BoolVar(&local, "local", false, "do not replicate it")
	f.BoolVar(&sealWrap, "seal-wrap", false, "wrap its values with the seal, too")
	f.BoolVar(&noCache, "force-no-cache", false, "read from the store each time, where the server has a cache of it")
	f.BoolVar(&entropy, "external-entropy-access", false, "let it draw from the seal's randomness, where the server does that")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		kind := args[0]
		if path == "" {
			path = kind
		}
		path = strings.Trim(path, "/")
		options, err := pairs(m.options)
		if err != nil {
			return err
		}
		if version != 0 {
			options.set("version", strconv.Itoa(version))
		}
		body := object{}
		body.set("type", kind).set("description", m.description).set("local", local).set("seal_wrap", sealWrap)
		config := m.config(cmd)
		if noCache {
			config.set("force_no_cache", true)
		}
		body.set("config", config)
		if entropy {
			body.set("external_entropy_access", true)
		}
		if len(options) > 0 {
			body.set("options", options)
		}
		return a.send(cmd, api.Request{Method: "POST", Path: "sys/mounts/" + path, Body: body.json()}, fmt.Sprintf("Success! Enabled the %s secrets engine at: %s/", kind, path))
	}
	return c
}

func pairs(args []string) (object, error) {
	o := object{}
	for _, kv := range args {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, usageError{fmt.Errorf("%q is not KEY=VALUE", show.Clean(kv)), ""}
		}
		o.set(k, v)
	}
	return o, nil
}

func (a *app) secretsTune() *cobra.Command {
	var m mountFlags
	var version int
	c := &cobra.Command{Use: "tune PATH", Short: "Change the settings of a mount", Args: exactly(1, "PATH")}
	m.define(c)
	c.Flags().IntVar(&version, "version", 0, "have kv keep versions from here on: 2")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		path := strings.Trim(args[0], "/")
		body := m.config(cmd)
		if cmd.Flags().Changed("description") {
			body.set("description", m.description)
		}
		options, err := pairs(m.options)
		if err != nil {
			return err
		}
		if version != 0 {
			options.set("version", strconv.Itoa(version))
		}
		if len(options) > 0 {
			body.set("options", options)
		}
		return a.send(cmd, api.Request{Method: "POST", Path: "sys/mounts/" + path + "/tune", Body: body.json()}, "Success! Tuned the secrets engine at: "+path+"/")
	}
	return c
}

// move moves a mount and waits until it answers at its new path.
func (a *app) move(cmd *cobra.Command, from, to string) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	from, to = strings.Trim(from, "/"), strings.Trim(to, "/")
	resp, err := cl.Do(ctx, api.Request{Method: "POST", Path: "sys/remount", Body: new(object).set("from", from).set("to", to).json()})
	if err != nil {
		return err
	}
	id, _ := show.Field(resp.Data, "migration_id")
	for id.Kind() == '"' {
		resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: "sys/remount/status/" + show.Text(id)})
		if err != nil {
			return err
		}
		status, _ := show.Field(resp.Data, "migration_info.status")
		switch show.Text(status) {
		case "success":
			a.note("Success! Finished moving %s/ to %s/", show.Clean(from), show.Clean(to))
			return nil
		case "failure":
			return failure{err: fmt.Errorf("moving %s/ to %s/ did not work", show.Clean(from), show.Clean(to)), code: 2, next: []string{"rotunda secrets list"}}
		}
		if err := a.Clock.Wait(ctx, a.Clock.Now().Add(200*time.Millisecond)); err != nil {
			return fmt.Errorf("waiting for the move: %w", err)
		}
	}
	a.note("Success! Moved %s/ to %s/", show.Clean(from), show.Clean(to))
	return nil
}
