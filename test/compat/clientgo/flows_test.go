// Package clientgo drives the real server with the client that is generated
// from the OpenAPI document of the Vault API, whose answers have fixed types.
package clientgo

import (
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/vault-client-go"
	"github.com/hashicorp/vault-client-go/schema"

	"rotunda.dev/rotunda/test/compat/node"
)

func up(t *testing.T) *vault.Client {
	t.Helper()
	n := node.Up(t)
	c, err := vault.New(
		vault.WithAddress(n.Address), vault.WithRequestTimeout(30*time.Second), vault.WithRetryConfiguration(vault.RetryConfiguration{}),
		vault.WithTLS(vault.TLSConfiguration{ServerCertificate: vault.ServerCertificateEntry{FromFile: n.CACert}}),
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetToken(n.Token); err != nil {
		t.Fatal(err)
	}
	return c
}

// must returns the data of an answer. Warnings are of fields that mean nothing
// here, and none of these flows sends one.
func must[T any](t *testing.T) func(*vault.Response[T], error) T {
	return func(r *vault.Response[T], err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if r == nil { // 204
			return *new(T)
		}
		if len(r.Warnings) > 0 {
			t.Errorf("warnings: %v", r.Warnings)
		}
		return r.Data
	}
}

type untyped = map[string]any

func status(t *testing.T, what string, err error, want int) {
	t.Helper()
	if !vault.IsErrorStatus(err, want) {
		t.Errorf("%s: %v; want status %d", what, err, want)
	}
}

func TestSecrets(t *testing.T) {
	c, ctx := up(t), t.Context()
	at := vault.WithMountPath("secret")
	must[untyped](t)(c.Secrets.KvV2WriteMetadata(ctx, "a/b", schema.KvV2WriteMetadataRequest{MaxVersions: 5, DeleteVersionAfter: "1h", CustomMetadata: untyped{"k": "v"}}, at))
	made := must[schema.KvV2WriteResponse](t)(c.Secrets.KvV2Write(ctx, "a/b", schema.KvV2WriteRequest{Data: untyped{"x": "y"}, Options: untyped{"cas": 0}}, at))
	if made.Version != 1 || made.CreatedTime.IsZero() || made.Destroyed {
		t.Errorf("KvV2Write = %+v; want version 1", made)
	}
	got := must[schema.KvV2ReadResponse](t)(c.Secrets.KvV2Read(ctx, "a/b", at))
	if got.Data["x"] != "y" || got.Metadata["version"] == nil {
		t.Errorf("KvV2Read = %+v; want what was written", got)
	}
	meta := must[schema.KvV2ReadMetadataResponse](t)(c.Secrets.KvV2ReadMetadata(ctx, "a/b", at))
	if meta.CurrentVersion != 1 || meta.MaxVersions != 5 || meta.CustomMetadata["k"] != "v" || len(meta.Versions) != 1 {
		t.Errorf("KvV2ReadMetadata = %+v; want what was written", meta)
	}
	must[schema.KvV2ReadSubkeysResponse](t)(c.Secrets.KvV2ReadSubkeys(ctx, "a/b", at))
	must[untyped](t)(c.Secrets.KvV2Delete(ctx, "a/b", at))
	_, err := c.Secrets.KvV2Read(ctx, "a/b", at)
	status(t, "reading a deleted version", err, 404)
	must[untyped](t)(c.Secrets.KvV2UndeleteVersions(ctx, "a/b", schema.KvV2UndeleteVersionsRequest{Versions: []int32{1}}, at))
	must[untyped](t)(c.Secrets.KvV2DestroyVersions(ctx, "a/b", schema.KvV2DestroyVersionsRequest{Versions: []int32{1}}, at))
	must[untyped](t)(c.Secrets.KvV2WriteMetadata(ctx, "a/c/d", schema.KvV2WriteMetadataRequest{MaxVersions: 2}, at))
	if keys := must[schema.StandardListResponse](t)(c.Secrets.KvV2List(ctx, "a", at)).Keys; !slices.Equal(keys, []string{"b", "c/"}) {
		t.Errorf("KvV2List = %v; want b and c/", keys)
	}
	must[untyped](t)(c.Secrets.KvV2Configure(ctx, schema.KvV2ConfigureRequest{MaxVersions: 3, DeleteVersionAfter: "2h"}, at))
	if conf := must[schema.KvV2ReadConfigurationResponse](t)(c.Secrets.KvV2ReadConfiguration(ctx, at)); conf.MaxVersions != 3 {
		t.Errorf("KvV2ReadConfiguration = %+v; want what was written", conf)
	}
	must[untyped](t)(c.Secrets.KvV2DeleteMetadataAndAllVersions(ctx, "a/b", at))

	must[untyped](t)(c.System.MountsEnableSecretsEngine(ctx, "one", schema.MountsEnableSecretsEngineRequest{Type: "kv", Options: untyped{"version": "1"}}))
	one := vault.WithMountPath("one")
	must[untyped](t)(c.Secrets.KvV1Write(ctx, "a/b", untyped{"x": 1}, one))
	must[untyped](t)(c.Secrets.KvV1Read(ctx, "a/b", one))
	must[untyped](t)(c.Secrets.KvV1Delete(ctx, "a/b", one))
}

func TestSystem(t *testing.T) {
	c, ctx := up(t), t.Context()
	if s := must[schema.SealStatusResponse](t)(c.System.SealStatus(ctx)); s.Sealed || s.Version == "" {
		t.Errorf("SealStatus = %+v; want an unsealed server", s)
	}
	must[schema.LeaderStatusResponse](t)(c.System.LeaderStatus(ctx))
	must[schema.HaStatusResponse](t)(c.System.HaStatus(ctx))
	if v := must[schema.VersionHistoryResponse](t)(c.System.VersionHistory(ctx)); len(v.Keys) != 1 || v.KeyInfo[v.Keys[0]] == nil {
		t.Errorf("VersionHistory = %+v; want this version", v)
	}
	if cors := must[schema.CorsReadConfigurationResponse](t)(c.System.CorsReadConfiguration(ctx)); cors.Enabled {
		t.Errorf("CorsReadConfiguration = %+v; want it off", cors)
	}
	if kv := must[schema.PluginsCatalogReadPluginConfigurationWithTypeResponse](t)(c.System.PluginsCatalogReadPluginConfigurationWithType(ctx, "kv", "secret")); kv.Name != "kv" || !kv.Builtin {
		t.Errorf("PluginsCatalogReadPluginConfigurationWithType = %+v; want kv", kv)
	}
	must[schema.EncryptionKeyReadRotationConfigurationResponse](t)(c.System.EncryptionKeyReadRotationConfiguration(ctx))
	must[untyped](t)(c.System.EncryptionKeyRotate(ctx))
	must[schema.GenerateHashWithAlgorithmResponse](t)(c.System.GenerateHashWithAlgorithm(ctx, "sha2-256", schema.GenerateHashWithAlgorithmRequest{Input: "YQ==", Format: "hex"}))
	must[schema.GenerateRandomWithBytesResponse](t)(c.System.GenerateRandomWithBytes(ctx, "16", schema.GenerateRandomWithBytesRequest{Format: "hex"}))
	must[schema.GenerateRandomWithSourceAndBytesResponse](t)(c.System.GenerateRandomWithSourceAndBytes(ctx, "platform", "16", schema.GenerateRandomWithSourceAndBytesRequest{Format: "hex"}))
	must[untyped](t)(c.System.LeasesRevokeLease(ctx, schema.LeasesRevokeLeaseRequest{LeaseId: "no/lease", Sync: true}))
	must[untyped](t)(c.System.LeasesForceRevokeLeaseWithPrefix(ctx, "no"))
	must[untyped](t)(c.System.PoliciesWriteAclPolicy(ctx, "p", schema.PoliciesWriteAclPolicyRequest{Policy: `path "secret/*" { capabilities = ["read"] }`}))
	if p := must[schema.PoliciesReadAclPolicyResponse](t)(c.System.PoliciesReadAclPolicy(ctx, "p")); p.Name != "p" || p.Policy == "" {
		t.Errorf("PoliciesReadAclPolicy = %+v; want p", p)
	}
	if list := must[schema.PoliciesListAclPoliciesResponse](t)(c.System.PoliciesListAclPolicies(ctx)); !slices.Contains(list.Keys, "p") {
		t.Errorf("PoliciesListAclPolicies = %+v; want p in it", list)
	}
	must[untyped](t)(c.System.PoliciesDeleteAclPolicy(ctx, "p"))
	must[untyped](t)(c.System.QueryTokenSelfCapabilities(ctx, schema.QueryTokenSelfCapabilitiesRequest{Paths: []string{"secret/a"}}))
	must[untyped](t)(c.System.StepDownLeader(ctx))
	_, err := c.System.CollectHostInformation(ctx)
	status(t, "host information, which is not told", err, 404)
}

func TestMounts(t *testing.T) {
	c, ctx := up(t), t.Context()
	must[untyped](t)(c.System.MountsEnableSecretsEngine(ctx, "team", schema.MountsEnableSecretsEngineRequest{Type: "kv-v2", Description: "of a team"}))
	m := must[schema.MountsReadConfigurationResponse](t)(c.System.MountsReadConfiguration(ctx, "team"))
	if m.Type != "kv" || m.Description != "of a team" || m.Options["version"] != "2" || m.Uuid == "" {
		t.Errorf("MountsReadConfiguration = %+v; want what was mounted", m)
	}
	must[untyped](t)(c.System.MountsTuneConfigurationParameters(ctx, "team", schema.MountsTuneConfigurationParametersRequest{DefaultLeaseTtl: "1h", MaxLeaseTtl: "2h"}))
	if tuned := must[schema.MountsReadTuningInformationResponse](t)(c.System.MountsReadTuningInformation(ctx, "team")); tuned.DefaultLeaseTtl != 3600 || tuned.MaxLeaseTtl != 7200 {
		t.Errorf("MountsReadTuningInformation = %+v; want what was tuned", tuned)
	}
	must[schema.InternalUiListEnabledVisibleMountsResponse](t)(c.System.InternalUiListEnabledVisibleMounts(ctx))
	if ui := must[schema.InternalUiReadMountInformationResponse](t)(c.System.InternalUiReadMountInformation(ctx, "team/x/y")); ui.Path != "team/" {
		t.Errorf("InternalUiReadMountInformation = %+v; want team/", ui)
	}
	must[schema.InternalUiReadResultantAclResponse](t)(c.System.InternalUiReadResultantAcl(ctx))
	moved := must[schema.RemountResponse](t)(c.System.Remount(ctx, schema.RemountRequest{From: "team", To: "moved"}))
	ended := must[schema.RemountStatusResponse](t)(c.System.RemountStatus(ctx, moved.MigrationId))
	if ended.MigrationInfo["status"] != "success" || ended.MigrationInfo["target_mount"] != "moved/" {
		t.Errorf("RemountStatus = %+v; want success", ended)
	}
	must[untyped](t)(c.System.MountsDisableSecretsEngine(ctx, "moved"))
}

func TestTokens(t *testing.T) {
	c, ctx := up(t), t.Context()
	made, err := c.Auth.TokenCreate(ctx, schema.TokenCreateRequest{Policies: []string{"default"}, Ttl: "1h", DisplayName: "t"})
	if err != nil {
		t.Fatal(err)
	}
	mine := vault.WithToken(made.Auth.ClientToken)
	if me := must[untyped](t)(c.Auth.TokenLookUpSelf(ctx, mine)); me["display_name"] != "token-t" {
		t.Errorf("TokenLookUpSelf = %v; want token-t", me)
	}
	renewed, err := c.Auth.TokenRenewSelf(ctx, schema.TokenRenewSelfRequest{Increment: "30m"}, mine)
	if err != nil || renewed.Auth.LeaseDuration != 1800 {
		t.Errorf("TokenRenewSelf = %+v, %v; want 1800 s", renewed, err)
	}
	must[untyped](t)(c.Auth.TokenWriteRole(ctx, "r", schema.TokenWriteRoleRequest{AllowedPolicies: []string{"default"}, Orphan: true, TokenPeriod: "1h", Renewable: true}))
	must[untyped](t)(c.Auth.TokenReadRole(ctx, "r"))
	if list := must[schema.StandardListResponse](t)(c.Auth.TokenListRoles(ctx)); !slices.Equal(list.Keys, []string{"r"}) {
		t.Errorf("TokenListRoles = %v; want r", list.Keys)
	}
	must[untyped](t)(c.Auth.TokenDeleteRole(ctx, "r"))
	must[untyped](t)(c.Auth.TokenRevokeAccessor(ctx, schema.TokenRevokeAccessorRequest{Accessor: made.Auth.Accessor}))
	_, err = c.Auth.TokenLookUpSelf(ctx, mine)
	status(t, "looking up a revoked token", err, 403)

	wrapped, err := c.System.SealStatus(ctx)
	if err != nil || wrapped.WrapInfo != nil {
		t.Fatalf("SealStatus = %+v, %v", wrapped, err)
	}
	held, err := c.Auth.TokenCreate(ctx, schema.TokenCreateRequest{Policies: []string{"default"}}, vault.WithResponseWrapping(time.Minute))
	if err != nil || held.WrapInfo == nil || held.Auth != nil {
		t.Fatalf("a wrapped TokenCreate = %+v, %v; want a wrapping token alone", held, err)
	}
	inner, err := vault.Unwrap[untyped](ctx, c, held.WrapInfo.Token)
	if err != nil || inner.Auth == nil || inner.Auth.ClientToken == "" {
		t.Errorf("Unwrap = %+v, %v; want the token", inner, err)
	}
	_, err = vault.Unwrap[untyped](ctx, c, held.WrapInfo.Token)
	status(t, "unwrapping twice", err, 400)
}
