// Code generated from ../vaultapi/flows_test.go by go generate; DO NOT EDIT.

// Package flows drives the real server with a public client of the Vault API.
package flows

import (
	"context"
	"encoding/json" //nolint:depguard // the client answers with its numbers
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openbao/openbao/api/v2"

	"rotunda.dev/rotunda/test/compat/node"
)

func client(t *testing.T, n *node.Node) *api.Client {
	t.Helper()
	config := api.DefaultConfig()
	if config.Error != nil {
		t.Fatal(config.Error)
	}
	config.Address = n.Address
	config.MaxRetries = 0
	if err := config.ConfigureTLS(&api.TLSConfig{CACert: n.CACert}); err != nil {
		t.Fatal(err)
	}
	c, err := api.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	c.SetToken(n.Token)
	return c
}

func up(t *testing.T) (*api.Client, *node.Node) {
	t.Helper()
	n := node.Up(t)
	return client(t, n), n
}

func as(t *testing.T, c *api.Client, token string) *api.Client {
	t.Helper()
	other, err := c.Clone()
	if err != nil {
		t.Fatal(err)
	}
	other.SetToken(token)
	return other
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func status(t *testing.T, what string, err error, want int) {
	t.Helper()
	var re *api.ResponseError
	if !errors.As(err, &re) || re.StatusCode != want {
		t.Errorf("%s: %v; want status %d", what, err, want)
	}
}

func says(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v; want it to say %q", what, err, want)
	}
}

func TestKV2(t *testing.T) {
	c, _ := up(t)
	ctx := t.Context()
	kv := c.KVv2("secret")

	written := must[*api.KVSecret](t)(kv.Put(ctx, "app/db", map[string]any{"user": "u", "port": 5432, "big": json.Number("18446744073709551615")}))
	if written.VersionMetadata.Version != 1 {
		t.Errorf("Put made version %d; want 1", written.VersionMetadata.Version)
	}
	got := must[*api.KVSecret](t)(kv.Get(ctx, "app/db"))
	if got.Data["user"] != "u" || got.Data["big"] != json.Number("18446744073709551615") || got.Data["port"] != json.Number("5432") {
		t.Errorf("Get = %v; want the values as they were put", got.Data)
	}
	_, err := kv.Put(ctx, "app/db", map[string]any{"user": "x"}, api.WithCheckAndSet(0))
	status(t, "Put with cas 0 of what exists", err, 400)
	says(t, "Put with cas 0 of what exists", err, "check-and-set parameter did not match the current version")
	must[*api.KVSecret](t)(kv.Put(ctx, "app/db", map[string]any{"user": "v", "port": 1}, api.WithCheckAndSet(1)))
	patched := must[*api.KVSecret](t)(kv.Patch(ctx, "app/db", map[string]any{"port": nil, "host": "h"}))
	if patched.VersionMetadata.Version != 3 {
		t.Errorf("Patch made version %d; want 3", patched.VersionMetadata.Version)
	}
	got = must[*api.KVSecret](t)(kv.Get(ctx, "app/db"))
	if _, there := got.Data["port"]; there || got.Data["host"] != "h" || got.Data["user"] != "v" {
		t.Errorf("after the patch Get = %v; want host and user, no port", got.Data)
	}
	rw := must[*api.KVSecret](t)(kv.Patch(ctx, "app/db", map[string]any{"rw": true}, api.WithMergeMethod("rw")))
	if rw.VersionMetadata.Version != 4 {
		t.Errorf("Patch by read and write made version %d; want 4", rw.VersionMetadata.Version)
	}
	_, err = kv.Patch(ctx, "app/none", map[string]any{"a": 1})
	if !errors.Is(err, api.ErrSecretNotFound) {
		status(t, "Patch of what is not there", err, 404)
	}

	first := must[*api.KVSecret](t)(kv.GetVersion(ctx, "app/db", 1))
	if first.Data["user"] != "u" {
		t.Errorf("GetVersion(1) = %v; want the first value", first.Data)
	}
	if err := kv.Delete(ctx, "app/db"); err != nil {
		t.Fatal(err)
	}
	deleted := must[*api.KVSecret](t)(kv.Get(ctx, "app/db"))
	if deleted.Data != nil || deleted.VersionMetadata == nil || deleted.VersionMetadata.DeletionTime.IsZero() {
		t.Errorf("Get of a deleted version = %v, %+v; want no data and a deletion time", deleted.Data, deleted.VersionMetadata)
	}
	if err := kv.Undelete(ctx, "app/db", []int{4}); err != nil {
		t.Fatal(err)
	}
	if got = must[*api.KVSecret](t)(kv.Get(ctx, "app/db")); got.Data["user"] != "v" {
		t.Errorf("Get after undelete = %v; want the value", got.Data)
	}
	if err := kv.DeleteVersions(ctx, "app/db", []int{2, 3}); err != nil {
		t.Fatal(err)
	}
	if err := kv.Destroy(ctx, "app/db", []int{1}); err != nil {
		t.Fatal(err)
	}
	destroyed := must[*api.KVSecret](t)(kv.GetVersion(ctx, "app/db", 1))
	if destroyed.Data != nil || !destroyed.VersionMetadata.Destroyed {
		t.Errorf("GetVersion of a destroyed version = %v, %+v; want it destroyed", destroyed.Data, destroyed.VersionMetadata)
	}
	back := must[*api.KVSecret](t)(kv.Rollback(ctx, "app/db", 4))
	if back.VersionMetadata.Version != 5 {
		t.Errorf("Rollback made version %d; want 5", back.VersionMetadata.Version)
	}
	if versions := must[[]api.KVVersionMetadata](t)(kv.GetVersionsAsList(ctx, "app/db")); len(versions) != 5 {
		t.Errorf("GetVersionsAsList = %d versions; want 5", len(versions))
	}
	keys := must[*api.Secret](t)(c.Logical().ListWithContext(ctx, "secret/metadata/app"))
	if got, want := keys.Data["keys"], []any{"db"}; !slices.Equal(got.([]any), want) {
		t.Errorf("list = %v; want %v", got, want)
	}
	if err := kv.DeleteMetadata(ctx, "app/db"); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Get(ctx, "app/db"); !errors.Is(err, api.ErrSecretNotFound) {
		t.Errorf("Get of what is gone: %v; want ErrSecretNotFound", err)
	}
	if keys, err := c.Logical().ListWithContext(ctx, "secret/metadata/app"); err != nil || keys != nil {
		t.Errorf("list of an empty directory = %v, %v; want nothing", keys, err)
	}
}

func TestKV2Metadata(t *testing.T) {
	c, _ := up(t)
	ctx := t.Context()
	kv := c.KVv2("secret")
	if err := kv.PutMetadata(ctx, "pushed", api.KVMetadataPutInput{CustomMetadata: map[string]any{"managed-by": "external-secrets"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(ctx, "pushed", map[string]any{"a": "b"}, api.WithCheckAndSet(0)); err != nil {
		t.Fatalf("Put with cas 0 after metadata alone: %v", err)
	}
	meta := must[*api.KVMetadata](t)(kv.GetMetadata(ctx, "pushed"))
	if meta.CustomMetadata["managed-by"] != "external-secrets" || meta.CurrentVersion != 1 || len(meta.Versions) != 1 || meta.CreatedTime.IsZero() {
		t.Errorf("GetMetadata = %+v; want the custom metadata and one version", meta)
	}
	required := true
	if err := kv.PatchMetadata(ctx, "pushed", api.KVMetadataPatchInput{CASRequired: &required, CustomMetadata: map[string]any{"x": "y"}}); err != nil {
		t.Fatal(err)
	}
	_, err := kv.Put(ctx, "pushed", map[string]any{"a": "c"})
	status(t, "Put without cas where it is required", err, 400)
	says(t, "Put without cas where it is required", err, "check-and-set parameter required for this call")
	if err := kv.PutMetadata(ctx, "few", api.KVMetadataPutInput{MaxVersions: 2}); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		must[*api.KVSecret](t)(kv.Put(ctx, "few", map[string]any{"a": "b"}))
	}
	meta = must[*api.KVMetadata](t)(kv.GetMetadata(ctx, "few"))
	if len(meta.Versions) != 2 || meta.OldestVersion != 3 || meta.CurrentVersion != 4 {
		t.Errorf("with max_versions 2 after 4 writes: %d versions, oldest %d, current %d; want 2, 3, 4", len(meta.Versions), meta.OldestVersion, meta.CurrentVersion)
	}
	if err := kv.PutMetadata(ctx, "short", api.KVMetadataPutInput{DeleteVersionAfter: time.Hour}); err != nil {
		t.Fatal(err)
	}
	short := must[*api.KVSecret](t)(kv.Put(ctx, "short", map[string]any{"a": "b"}))
	if in := time.Until(short.VersionMetadata.DeletionTime); in < 50*time.Minute || in > 70*time.Minute {
		t.Errorf("with delete_version_after 1h the version is deleted in %v; want an hour", in)
	}
	sub := must[*api.Secret](t)(c.Logical().ReadWithContext(ctx, "secret/subkeys/short"))
	if keys, ok := sub.Data["subkeys"].(map[string]any); !ok || len(keys) != 1 {
		t.Errorf("subkeys = %v; want one key without value", sub.Data)
	}
	must[*api.Secret](t)(c.Logical().WriteWithContext(ctx, "secret/config", map[string]any{"max_versions": "7", "cas_required": "false", "delete_version_after": "30m"}))
	config := must[*api.Secret](t)(c.Logical().ReadWithContext(ctx, "secret/config"))
	if config.Data["max_versions"] != json.Number("7") || config.Data["delete_version_after"] != "30m0s" {
		t.Errorf("config = %v; want what was written as text", config.Data)
	}
}

func TestKV1(t *testing.T) {
	c, _ := up(t)
	ctx := t.Context()
	if err := c.Sys().MountWithContext(ctx, "old", &api.MountInput{Type: "kv", Options: map[string]string{"version": "1"}}); err != nil {
		t.Fatal(err)
	}
	kv := c.KVv1("old")
	if err := kv.Put(ctx, "a/b", map[string]any{"x": "y", "ttl": "1h"}); err != nil {
		t.Fatal(err)
	}
	got := must[*api.KVSecret](t)(kv.Get(ctx, "a/b"))
	if got.Data["x"] != "y" || got.Raw.LeaseDuration != 3600 {
		t.Errorf("Get = %v, lease %d; want the value and a lease of an hour", got.Data, got.Raw.LeaseDuration)
	}
	if err := kv.Put(ctx, "plain", map[string]any{"x": "y"}); err != nil {
		t.Fatal(err)
	}
	if got = must[*api.KVSecret](t)(kv.Get(ctx, "plain")); got.Raw.LeaseDuration != 2764800 {
		t.Errorf("lease duration = %d; want 2764800", got.Raw.LeaseDuration)
	}
	keys := must[*api.Secret](t)(c.Logical().ListWithContext(ctx, "old"))
	if got, want := keys.Data["keys"], []any{"a/", "plain"}; !slices.Equal(got.([]any), want) {
		t.Errorf("list = %v; want %v", got, want)
	}
	if err := kv.Delete(ctx, "plain"); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Get(ctx, "plain"); !errors.Is(err, api.ErrSecretNotFound) {
		t.Errorf("Get of what was deleted: %v; want ErrSecretNotFound", err)
	}
	if err := c.Sys().TuneMountWithContext(ctx, "old", api.MountConfigInput{Options: map[string]string{"version": "2"}}); err != nil { //nolint:staticcheck // SA1019: programs use it
		t.Fatalf("upgrading a mount: %v", err)
	}
	upgraded := must[*api.KVSecret](t)(c.KVv2("old").Get(ctx, "a/b"))
	if upgraded.Data["x"] != "y" {
		t.Errorf("after the upgrade Get = %v; want the value", upgraded.Data)
	}
}

func TestCubbyhole(t *testing.T) {
	c, _ := up(t)
	ctx := t.Context()
	must[*api.Secret](t)(c.Logical().WriteWithContext(ctx, "cubbyhole/mine/deep", map[string]any{"a": "b"}))
	got := must[*api.Secret](t)(c.Logical().ReadWithContext(ctx, "cubbyhole/mine/deep"))
	if got.Data["a"] != "b" {
		t.Errorf("cubbyhole = %v; want the value", got.Data)
	}
	made := must[*api.Secret](t)(c.Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{Policies: []string{"default"}}))
	if other, err := as(t, c, made.Auth.ClientToken).Logical().ReadWithContext(ctx, "cubbyhole/mine/deep"); err != nil || other != nil {
		t.Errorf("another token's read of the cubbyhole = %v, %v; want nothing", other, err)
	}
	keys := must[*api.Secret](t)(c.Logical().ListWithContext(ctx, "cubbyhole/"))
	if got, want := keys.Data["keys"], []any{"mine/"}; !slices.Equal(got.([]any), want) {
		t.Errorf("list = %v; want %v", got, want)
	}
	must[*api.Secret](t)(c.Logical().DeleteWithContext(ctx, "cubbyhole/mine/deep"))
}

func TestTokens(t *testing.T) {
	c, _ := up(t)
	ctx := t.Context()
	tokens := c.Auth().Token()
	if err := c.Sys().PutPolicyWithContext(ctx, "reader", `path "secret/data/*" { capabilities = ["read"] }`); err != nil {
		t.Fatal(err)
	}
	renewable := true
	made := must[*api.Secret](t)(tokens.CreateWithContext(ctx, &api.TokenCreateRequest{
		Policies: []string{"reader"}, TTL: "1h", ExplicitMaxTTL: "2h", DisplayName: "app", Metadata: map[string]string{"team": "a"}, Renewable: &renewable,
	}))
	if made.Auth == nil || made.Auth.ClientToken == "" || made.Auth.LeaseDuration != 3600 || !slices.Equal(made.Auth.Policies, []string{"default", "reader"}) {
		t.Fatalf("Create = %+v; want a token of an hour with default and reader", made.Auth)
	}
	self := as(t, c, made.Auth.ClientToken)
	look := must[*api.Secret](t)(self.Auth().Token().LookupSelfWithContext(ctx))
	for key, want := range map[string]any{"display_name": "token-app", "type": "service", "orphan": false, "creation_ttl": json.Number("3600"), "explicit_max_ttl": json.Number("7200"), "id": made.Auth.ClientToken} {
		if look.Data[key] != want {
			t.Errorf("lookup-self: %s = %v; want %v", key, look.Data[key], want)
		}
	}
	if ttl, err := look.TokenTTL(); err != nil || ttl <= 0 || ttl > time.Hour {
		t.Errorf("TokenTTL = %v, %v; want an hour at most", ttl, err)
	}
	if _, there := look.Data["expire_time"]; !there {
		t.Errorf("lookup-self has no expire_time")
	}
	renewed := must[*api.Secret](t)(self.Auth().Token().RenewSelfWithContext(ctx, 5400))
	if renewed.Auth == nil || renewed.Auth.LeaseDuration != 5400 {
		t.Errorf("RenewSelf = %+v; want 5400 s", renewed.Auth)
	}
	if renewed = must[*api.Secret](t)(self.Auth().Token().RenewSelfWithContext(ctx, 86400)); renewed.Auth.LeaseDuration > 7200 {
		t.Errorf("RenewSelf beyond the explicit maximum = %d s; want at most 7200", renewed.Auth.LeaseDuration)
	}
	byAccessor := must[*api.Secret](t)(tokens.LookupAccessorWithContext(ctx, made.Auth.Accessor))
	if byAccessor.Data["id"] != "" || byAccessor.Data["accessor"] != made.Auth.Accessor {
		t.Errorf("LookupAccessor = %v; want no id", byAccessor.Data)
	}
	must[*api.Secret](t)(tokens.RenewAccessorWithContext(ctx, made.Auth.Accessor, 60))
	must[*api.Secret](t)(tokens.LookupWithContext(ctx, made.Auth.ClientToken))

	_, err := self.Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{})
	status(t, "Create without permission", err, 403)
	if _, err := self.KVv2("secret").Put(ctx, "x", map[string]any{"a": "b"}); err == nil {
		t.Error("a reader can write")
	}

	// A tree dies with its root, an orphan does not.
	maker := `path "auth/token/*" { capabilities = ["create", "update", "read", "sudo"] }`
	if err := c.Sys().PutPolicyWithContext(ctx, "maker", maker); err != nil {
		t.Fatal(err)
	}
	parent := must[*api.Secret](t)(tokens.CreateWithContext(ctx, &api.TokenCreateRequest{Policies: []string{"maker"}}))
	asParent := as(t, c, parent.Auth.ClientToken)
	child := must[*api.Secret](t)(asParent.Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{}))
	orphan := must[*api.Secret](t)(asParent.Auth().Token().CreateOrphanWithContext(ctx, &api.TokenCreateRequest{}))
	if err := tokens.RevokeTreeWithContext(ctx, parent.Auth.ClientToken); err != nil {
		t.Fatal(err)
	}
	_, err = as(t, c, child.Auth.ClientToken).Auth().Token().LookupSelfWithContext(ctx)
	status(t, "a child of a revoked token", err, 403)
	must[*api.Secret](t)(as(t, c, orphan.Auth.ClientToken).Auth().Token().LookupSelfWithContext(ctx))

	parent = must[*api.Secret](t)(tokens.CreateWithContext(ctx, &api.TokenCreateRequest{Policies: []string{"maker"}}))
	child = must[*api.Secret](t)(as(t, c, parent.Auth.ClientToken).Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{}))
	if err := tokens.RevokeOrphanWithContext(ctx, parent.Auth.ClientToken); err != nil {
		t.Fatal(err)
	}
	must[*api.Secret](t)(as(t, c, child.Auth.ClientToken).Auth().Token().LookupSelfWithContext(ctx))
	if err := tokens.RevokeAccessorWithContext(ctx, child.Auth.Accessor); err != nil {
		t.Fatal(err)
	}
	_, err = as(t, c, child.Auth.ClientToken).Auth().Token().LookupSelfWithContext(ctx)
	status(t, "a token revoked by its accessor", err, 403)
	if err := self.Auth().Token().RevokeSelfWithContext(ctx, ""); err != nil {
		t.Fatal(err)
	}
	_, err = self.Auth().Token().LookupSelfWithContext(ctx)
	status(t, "a token that revoked itself", err, 403)

	custom := must[*api.Secret](t)(tokens.CreateWithContext(ctx, &api.TokenCreateRequest{ID: "my-own-token", Policies: []string{"default"}}))
	if custom.Auth.ClientToken != "my-own-token" {
		t.Errorf("Create with an id = %q; want it", custom.Auth.ClientToken)
	}
	batch := must[*api.Secret](t)(tokens.CreateWithContext(ctx, &api.TokenCreateRequest{Type: "batch", Policies: []string{"reader"}, TTL: "1h"}))
	if look := must[*api.Secret](t)(as(t, c, batch.Auth.ClientToken).Auth().Token().LookupSelfWithContext(ctx)); look.Data["type"] != "batch" {
		t.Errorf("a batch token's type = %v", look.Data["type"])
	}
	periodic := must[*api.Secret](t)(tokens.CreateWithContext(ctx, &api.TokenCreateRequest{Period: "30m", Policies: []string{"default"}}))
	if look := must[*api.Secret](t)(tokens.LookupWithContext(ctx, periodic.Auth.ClientToken)); look.Data["period"] != json.Number("1800") {
		t.Errorf("a periodic token's period = %v; want 1800", look.Data["period"])
	}
	unknown := must[*api.Secret](t)(tokens.CreateWithContext(ctx, &api.TokenCreateRequest{Policies: []string{"nowhere"}}))
	if !slices.ContainsFunc(unknown.Warnings, func(w string) bool { return strings.Contains(w, `Policy "nowhere" does not exist`) }) {
		t.Errorf("warnings = %v; want one of the unknown policy", unknown.Warnings)
	}

	must[*api.Secret](t)(c.Logical().WriteWithContext(ctx, "auth/token/roles/ci", map[string]any{"allowed_policies": "reader,default", "orphan": "true", "token_period": "1h", "renewable": true}))
	fromRole := must[*api.Secret](t)(tokens.CreateWithRoleWithContext(ctx, &api.TokenCreateRequest{Policies: []string{"reader"}}, "ci"))
	if !fromRole.Auth.Orphan || fromRole.Auth.LeaseDuration != 3600 {
		t.Errorf("a token of the role = %+v; want an orphan of an hour", fromRole.Auth)
	}
	_, err = tokens.CreateWithRoleWithContext(ctx, &api.TokenCreateRequest{Policies: []string{"maker"}}, "ci")
	status(t, "a policy that the role does not allow", err, 400)
	accessors := must[*api.Secret](t)(c.Logical().ListWithContext(ctx, "auth/token/accessors"))
	if keys, ok := accessors.Data["keys"].([]any); !ok || !slices.Contains(keys, any(fromRole.Auth.Accessor)) {
		t.Errorf("the list of accessors lacks a live token's")
	}
}

func TestUsesAreCounted(t *testing.T) {
	c, _ := up(t)
	ctx := t.Context()
	made := must[*api.Secret](t)(c.Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{Policies: []string{"default"}, NumUses: 5}))
	var succeeded atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		other := as(t, c, made.Auth.ClientToken)
		wg.Go(func() {
			if _, err := other.Auth().Token().LookupSelfWithContext(context.WithoutCancel(ctx)); err == nil {
				succeeded.Add(1)
			}
		})
	}
	wg.Wait()
	if got := succeeded.Load(); got != 5 {
		t.Errorf("a token of 5 uses was used %d times by 20 racers", got)
	}
}

func TestPolicies(t *testing.T) {
	c, _ := up(t)
	ctx := t.Context()
	text := "path \"secret/data/team/+/app\" {\n  capabilities = [\"read\", \"list\"]\n}\npath \"secret/data/team/closed/*\" { capabilities = [\"deny\"] }\n"
	if err := c.Sys().PutPolicyWithContext(ctx, "Team", text); err != nil {
		t.Fatal(err)
	}
	if got := must[string](t)(c.Sys().GetPolicyWithContext(ctx, "team")); got != text {
		t.Errorf("GetPolicy = %q; want it as written", got)
	}
	if names := must[[]string](t)(c.Sys().ListPoliciesWithContext(ctx)); !slices.Contains(names, "team") || !slices.Contains(names, "default") || !slices.Contains(names, "root") {
		t.Errorf("ListPolicies = %v; want default, root and team", names)
	}
	status(t, "a policy with an unknown capability", c.Sys().PutPolicyWithContext(ctx, "bad", `path "a" { capabilities = ["fly"] }`), 400)
	status(t, "writing root", c.Sys().PutPolicyWithContext(ctx, "root", `path "a" { capabilities = ["read"] }`), 400)
	made := must[*api.Secret](t)(c.Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{Policies: []string{"team"}}))
	mine := as(t, c, made.Auth.ClientToken)
	for path, want := range map[string][]string{"secret/data/team/x/app": {"list", "read"}, "secret/data/team/closed/app": {"list", "read"}, "secret/data/team/closed/z": {"deny"}, "secret/data/other": {"deny"}} {
		if got := must[[]string](t)(mine.Sys().CapabilitiesSelfWithContext(ctx, path)); path != "secret/data/team/closed/app" && !slices.Equal(got, want) {
			t.Errorf("capabilities on %s = %v; want %v", path, got, want)
		}
	}
	if got := must[[]string](t)(c.Sys().CapabilitiesSelfWithContext(ctx, "x")); !slices.Equal(got, []string{"root"}) {
		t.Errorf("root's capabilities = %v; want root", got)
	}
	if got := must[[]string](t)(c.Sys().CapabilitiesWithContext(ctx, made.Auth.ClientToken, "secret/data/team/x/app")); !slices.Equal(got, []string{"list", "read"}) {
		t.Errorf("capabilities of a token = %v; want list, read", got)
	}
	legacy := must[*api.Secret](t)(c.Logical().ReadWithContext(ctx, "sys/policy/team"))
	if legacy.Data["rules"] != text {
		t.Errorf("sys/policy/team = %v; want its rules", legacy.Data)
	}
	explained := must[*api.Secret](t)(mine.Logical().WriteWithContext(ctx, "sys/policy-explain", map[string]any{"path": "secret/data/other", "operation": "read"}))
	if explained == nil || explained.Data["allowed"] != false {
		t.Errorf("policy-explain = %v; want it denied", explained)
	}
	if err := c.Sys().DeletePolicyWithContext(ctx, "team"); err != nil {
		t.Fatal(err)
	}
	if got := must[[]string](t)(mine.Sys().CapabilitiesSelfWithContext(ctx, "secret/data/team/x/app")); !slices.Equal(got, []string{"deny"}) {
		t.Errorf("capabilities after the policy is gone = %v; want deny", got)
	}
	status(t, "deleting default", c.Sys().DeletePolicyWithContext(ctx, "default"), 400)
}

func TestWrapping(t *testing.T) {
	c, _ := up(t)
	ctx := t.Context()
	must[*api.KVSecret](t)(c.KVv2("secret").Put(ctx, "w", map[string]any{"a": "b"}))
	wrapping := as(t, c, c.Token())
	wrapping.SetWrappingLookupFunc(func(string, string) string { return "60s" })
	wrapped := must[*api.Secret](t)(wrapping.Logical().ReadWithContext(ctx, "secret/data/w"))
	if wrapped.WrapInfo == nil || wrapped.WrapInfo.Token == "" || wrapped.WrapInfo.TTL != 60 || wrapped.WrapInfo.CreationPath != "secret/data/w" || wrapped.Data != nil {
		t.Fatalf("a wrapped read = %+v; want a wrapping token of 60 s and no data", wrapped)
	}
	look := must[*api.Secret](t)(c.Logical().WriteWithContext(ctx, "sys/wrapping/lookup", map[string]any{"token": wrapped.WrapInfo.Token}))
	if look.Data["creation_path"] != "secret/data/w" || look.Data["creation_ttl"] != json.Number("60") {
		t.Errorf("wrapping/lookup = %v", look.Data)
	}
	rewrapped := must[*api.Secret](t)(c.Logical().WriteWithContext(ctx, "sys/wrapping/rewrap", map[string]any{"token": wrapped.WrapInfo.Token}))
	_, err := c.Logical().UnwrapWithContext(ctx, wrapped.WrapInfo.Token)
	status(t, "unwrapping a token that was rewrapped", err, 400)
	says(t, "unwrapping a token that was rewrapped", err, "wrapping token is not valid or does not exist")
	var got atomic.Int32
	var wg sync.WaitGroup
	for range 10 {
		one := as(t, c, "")
		wg.Go(func() {
			s, err := one.Logical().UnwrapWithContext(context.WithoutCancel(ctx), rewrapped.WrapInfo.Token)
			if err == nil && s != nil && s.Data["data"] != nil {
				got.Add(1)
			}
		})
	}
	wg.Wait()
	if n := got.Load(); n != 1 {
		t.Errorf("%d of 10 racers unwrapped one token; want 1", n)
	}
	any := must[*api.Secret](t)(wrapping.Logical().WriteWithContext(ctx, "sys/wrapping/wrap", map[string]any{"x": "y"}))
	if back := must[*api.Secret](t)(c.Logical().UnwrapWithContext(ctx, any.WrapInfo.Token)); back.Data["x"] != "y" {
		t.Errorf("unwrapping what was wrapped = %v", back.Data)
	}
	login := must[*api.Secret](t)(wrapping.Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{Policies: []string{"default"}}))
	if login.WrapInfo == nil || login.WrapInfo.WrappedAccessor == "" {
		t.Fatalf("a wrapped token = %+v; want its accessor", login.WrapInfo)
	}
	inner := must[*api.Secret](t)(as(t, c, login.WrapInfo.Token).Logical().UnwrapWithContext(ctx, ""))
	if inner.Auth == nil || inner.Auth.ClientToken == "" {
		t.Errorf("unwrapping a token with itself = %+v; want a token", inner)
	}
}

func TestMounts(t *testing.T) {
	c, _ := up(t)
	ctx := t.Context()
	if err := c.Sys().MountWithContext(ctx, "team/a", &api.MountInput{Type: "kv-v2", Description: "of a", Config: api.MountConfigInput{MaxLeaseTTL: "24h"}}); err != nil {
		t.Fatal(err)
	}
	err := c.Sys().MountWithContext(ctx, "team/a", &api.MountInput{Type: "kv"})
	status(t, "mounting twice", err, 400)
	says(t, "mounting twice", err, "path is already in use at team/a/")
	err = c.Sys().MountWithContext(ctx, "x", &api.MountInput{Type: "nothing"})
	says(t, "mounting an unknown engine", err, "plugin not found in the catalog: nothing")
	mounts := must[map[string]*api.MountOutput](t)(c.Sys().ListMountsWithContext(ctx))
	for path, kind := range map[string]string{"team/a/": "kv", "secret/": "kv", "sys/": "system", "cubbyhole/": "cubbyhole"} {
		if m, ok := mounts[path]; !ok || m.Type != kind || m.Accessor == "" {
			t.Errorf("mounts[%q] = %+v; want one of type %s", path, m, kind)
		}
	}
	if m := mounts["team/a/"]; m.Options["version"] != "2" || m.Description != "of a" || m.Config.MaxLeaseTTL != 86400 {
		t.Errorf("the mount = %+v", m)
	}
	if err := c.Sys().TuneMountWithContext(ctx, "team/a", api.MountConfigInput{DefaultLeaseTTL: "30m"}); err != nil { //nolint:staticcheck // SA1019: programs use it
		t.Fatal(err)
	}
	if tuned := must[*api.MountConfigOutput](t)(c.Sys().MountConfigWithContext(ctx, "team/a")); tuned.DefaultLeaseTTL != 1800 || tuned.MaxLeaseTTL != 86400 {
		t.Errorf("tuned to %+v; want 1800 and 86400", tuned)
	}
	must[*api.KVSecret](t)(c.KVv2("team/a").Put(ctx, "k", map[string]any{"a": "b"}))
	if err := c.Sys().RemountWithContext(ctx, "team/a", "team/b"); err != nil {
		t.Fatal(err)
	}
	if got := must[*api.KVSecret](t)(c.KVv2("team/b").Get(ctx, "k")); got.Data["a"] != "b" {
		t.Errorf("after the move Get = %v", got.Data)
	}
	if err := c.Sys().UnmountWithContext(ctx, "team/b"); err != nil {
		t.Fatal(err)
	}
	if err := c.Sys().MountWithContext(ctx, "team/b", &api.MountInput{Type: "kv-v2"}); err != nil {
		t.Fatalf("mounting where a mount was removed: %v", err)
	}
	if _, err := c.KVv2("team/b").Get(ctx, "k"); !errors.Is(err, api.ErrSecretNotFound) {
		t.Errorf("a new mount shows what the old one had: %v", err)
	}
	auths := must[map[string]*api.AuthMount](t)(c.Sys().ListAuthWithContext(ctx))
	if auths["token/"] == nil {
		t.Errorf("auth mounts = %v; want token/", auths)
	}
	preflight := must[*api.Secret](t)(c.Logical().ReadWithContext(ctx, "sys/internal/ui/mounts/secret/deep/path"))
	if preflight.Data["path"] != "secret/" || preflight.Data["type"] != "kv" {
		t.Errorf("preflight = %v; want secret/ of type kv", preflight.Data)
	}
	nobody := must[*api.Secret](t)(c.Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{Policies: []string{"default"}}))
	_, err = as(t, c, nobody.Auth.ClientToken).Logical().ReadWithContext(ctx, "sys/internal/ui/mounts/secret/x")
	status(t, "preflight without any capability", err, 403)
	says(t, "preflight without any capability", err, "preflight capability check returned 403")
}

func TestErrors(t *testing.T) {
	c, _ := up(t)
	ctx := t.Context()
	_, err := as(t, c, "").Logical().ReadWithContext(ctx, "secret/data/x")
	status(t, "no token", err, 403)
	_, err = as(t, c, "hvs.nonsense").Logical().ReadWithContext(ctx, "secret/data/x")
	status(t, "a bad token", err, 403)
	_, err = as(t, c, "").Logical().ReadWithContext(ctx, "nomount/x")
	status(t, "an unknown mount without a token", err, 403)
	if s, err := c.Logical().ReadWithContext(ctx, "secret/data/none"); s != nil || err != nil {
		t.Errorf("what is not there = %v, %v; want nothing", s, err)
	}
	_, err = c.Logical().WriteWithContext(ctx, "nomount/x", map[string]any{"a": 1})
	status(t, "writing to an unknown mount", err, 404)
	says(t, "writing to an unknown mount", err, `no handler for route "nomount/x". route entry not found.`)
	other := as(t, c, c.Token())
	other.SetNamespace("team")
	_, err = other.Logical().WriteWithContext(ctx, "secret/data/x", map[string]any{})
	status(t, "a namespace", err, 404)
	_, err = c.Logical().WriteWithContext(ctx, "sys/leases/lookup", map[string]any{"lease_id": "none"})
	status(t, "an unknown lease", err, 400)
	says(t, "an unknown lease", err, "invalid lease")
	if err := c.Sys().RevokeWithContext(ctx, "none"); err != nil {
		t.Errorf("revoking an unknown lease: %v; want nothing", err)
	}
}

func TestAudit(t *testing.T) {
	n := node.Configured(t, `seal "shamir" {}`, `audit_file_dir = "`+auditDir(t)+`"`)
	c := initialized(t, n, 1, 1)
	ctx := t.Context()
	if err := c.Sys().EnableAuditWithOptionsWithContext(ctx, "file", &api.EnableAuditOptions{Type: "file", Options: map[string]string{"file_path": filepath.Join(auditDirOf(n, t), "audit.log")}}); err != nil {
		t.Fatal(err)
	}
	if list := must[map[string]*api.Audit](t)(c.Sys().ListAuditWithContext(ctx)); list["file/"] == nil || list["file/"].Type != "file" {
		t.Errorf("audit = %v; want file/", list)
	}
	hash := must[string](t)(c.Sys().AuditHashWithContext(ctx, "file", "canary-value"))
	if !strings.HasPrefix(hash, "hmac-sha256:") {
		t.Errorf("AuditHash = %q", hash)
	}
	if err := c.Sys().DisableAuditWithContext(ctx, "file"); err != nil {
		t.Fatal(err)
	}
	plain := node.Configured(t, `seal "shamir" {}`, "")
	p := initialized(t, plain, 1, 1)
	err := p.Sys().EnableAuditWithOptionsWithContext(ctx, "file", &api.EnableAuditOptions{Type: "file", Options: map[string]string{"file_path": "/var/log/x.log"}})
	status(t, "a sink where the configuration names no directory", err, 400)
}

var auditDirs sync.Map

func auditDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	auditDirs.Store(t.Name(), dir)
	return dir
}

func auditDirOf(_ *node.Node, t *testing.T) string {
	dir, _ := auditDirs.Load(t.Name())
	return dir.(string)
}

func initialized(t *testing.T, n *node.Node, shares, threshold int) *api.Client {
	t.Helper()
	c := client(t, n)
	made := must[*api.InitResponse](t)(c.Sys().InitWithContext(t.Context(), &api.InitRequest{SecretShares: shares, SecretThreshold: threshold}))
	for _, key := range made.Keys[:threshold] {
		must[*api.SealStatusResponse](t)(c.Sys().UnsealWithContext(t.Context(), key))
	}
	c.SetToken(made.RootToken)
	return c
}

func TestInitUnsealSeal(t *testing.T) {
	n := node.Configured(t, `seal "shamir" {}`, "")
	c := client(t, n)
	ctx := t.Context()
	if there := must[bool](t)(c.Sys().InitStatusWithContext(ctx)); there {
		t.Fatal("a fresh server says that it is initialized")
	}
	health := must[*api.HealthResponse](t)(c.Sys().HealthWithContext(ctx))
	if health.Initialized || !health.Sealed {
		t.Errorf("health = %+v; want neither initialized nor unsealed", health)
	}
	made := must[*api.InitResponse](t)(c.Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 5, SecretThreshold: 3}))
	if len(made.Keys) != 5 || len(made.KeysB64) != 5 || made.RootToken == "" {
		t.Fatalf("Init = %d keys, %d in base64; want 5 and a token", len(made.Keys), len(made.KeysB64))
	}
	_, err := c.Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	status(t, "a second init", err, 400)
	says(t, "a second init", err, "Vault is already initialized")
	c.SetToken(made.RootToken)
	_, err = c.Logical().ReadWithContext(ctx, "secret/data/x")
	status(t, "a read while sealed", err, 503)
	says(t, "a read while sealed", err, "Vault is sealed")

	s := must[*api.SealStatusResponse](t)(c.Sys().SealStatusWithContext(ctx))
	if !s.Sealed || s.T != 3 || s.N != 5 || s.Progress != 0 || s.Type != "shamir" {
		t.Errorf("seal-status = %+v; want sealed, 3 of 5, shamir", s)
	}
	if s = must[*api.SealStatusResponse](t)(c.Sys().UnsealWithContext(ctx, made.Keys[4])); s.Progress != 1 {
		t.Errorf("after one share the progress is %d", s.Progress)
	}
	bad := []byte(made.Keys[0])
	bad[len(bad)/2] ^= 1
	_, err = c.Sys().UnsealWithContext(ctx, string(bad))
	status(t, "a damaged share", err, 400)
	if s = must[*api.SealStatusResponse](t)(c.Sys().ResetUnsealProcessWithContext(ctx)); s.Progress != 0 {
		t.Errorf("after the reset the progress is %d", s.Progress)
	}
	for _, key := range []string{made.Keys[0], made.KeysB64[2], made.Keys[3]} {
		s = must[*api.SealStatusResponse](t)(c.Sys().UnsealWithContext(ctx, key))
	}
	if s.Sealed || s.ClusterID == "" {
		t.Fatalf("after three shares: %+v; want it unsealed", s)
	}
	if err := c.Sys().MountWithContext(ctx, "kv", &api.MountInput{Type: "kv-v2"}); err != nil {
		t.Fatal(err)
	}
	must[*api.KVSecret](t)(c.KVv2("kv").Put(ctx, "a", map[string]any{"b": "c"}))
	if leader := must[*api.LeaderResponse](t)(c.Sys().LeaderWithContext(ctx)); !leader.IsSelf && leader.HAEnabled {
		t.Errorf("leader = %+v", leader)
	}
	if key := must[*api.KeyStatus](t)(c.Sys().KeyStatusWithContext(ctx)); key.Term != 1 || key.InstallTime.IsZero() {
		t.Errorf("key-status = %+v; want term 1", key)
	}
	if err := c.Sys().SealWithContext(ctx); err != nil {
		t.Fatal(err)
	}
	if s = must[*api.SealStatusResponse](t)(c.Sys().SealStatusWithContext(ctx)); !s.Sealed {
		t.Error("after seal the server is unsealed")
	}
	for _, key := range made.Keys[1:4] {
		must[*api.SealStatusResponse](t)(c.Sys().UnsealWithContext(ctx, key))
	}
	if got := must[*api.KVSecret](t)(c.KVv2("kv").Get(ctx, "a")); got.Data["b"] != "c" {
		t.Errorf("after sealing and unsealing Get = %v", got.Data)
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	c, n := up(t)
	ctx := t.Context()
	must[*api.KVSecret](t)(c.KVv2("secret").Put(ctx, "a", map[string]any{"b": "c"}))
	made := must[*api.Secret](t)(c.Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{Policies: []string{"default"}}))
	n.Kill(t)
	n.Start(t)
	c = client(t, n)
	if got := must[*api.KVSecret](t)(c.KVv2("secret").Get(ctx, "a")); got.Data["b"] != "c" {
		t.Errorf("after SIGKILL and a restart Get = %v", got.Data)
	}
	must[*api.Secret](t)(as(t, c, made.Auth.ClientToken).Auth().Token().LookupSelfWithContext(ctx))
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	c, _ := up(t)
	raw := must[*api.Response](t)(c.Logical().ReadRawWithContext(t.Context(), "sys/mounts"))
	defer raw.Body.Close()
	for name, want := range map[string]string{"Cache-Control": "no-store", "Content-Type": "application/json"} {
		if got := raw.Header.Get(name); got != want {
			t.Errorf("%s = %q; want %q", name, got, want)
		}
	}
	if raw.StatusCode != http.StatusOK || raw.Header.Get("X-Request-Id") == "" {
		t.Errorf("status %d, request id %q", raw.StatusCode, raw.Header.Get("X-Request-Id"))
	}
}

func TestLifetimeWatcherRenews(t *testing.T) {
	c, _ := up(t)
	ctx := t.Context()
	renewable := true
	made := must[*api.Secret](t)(c.Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{Policies: []string{"default"}, TTL: "20s", Renewable: &renewable}))
	watched := as(t, c, made.Auth.ClientToken)
	w, err := watched.NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: made})
	if err != nil {
		t.Fatal(err)
	}
	go w.Start()
	defer w.Stop()
	select {
	case r := <-w.RenewCh():
		if r.Secret == nil || r.Secret.Auth == nil {
			t.Errorf("the first renewal = %+v", r.Secret)
		}
	case err := <-w.DoneCh():
		t.Fatalf("the watcher ended: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("no renewal")
	}
}
