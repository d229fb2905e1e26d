package flows

import (
	"encoding/base64"
	"testing"

	"github.com/hashicorp/vault/api"

	"rotunda.dev/rotunda/test/compat/node"
)

const withCeremonies = `
enable_generate_root = true
enable_unauthenticated_rekey = true
`

func TestRotate(t *testing.T) {
	c, _ := up(t)
	ctx := t.Context()
	must[*api.KVSecret](t)(c.KVv2("secret").Put(ctx, "a", map[string]any{"b": "c"}))
	before := must[*api.KeyStatus](t)(c.Sys().KeyStatusWithContext(ctx))
	if err := c.Sys().RotateWithContext(ctx); err != nil {
		t.Fatal(err)
	}
	after := must[*api.KeyStatus](t)(c.Sys().KeyStatusWithContext(ctx))
	if before.Term != 1 || before.Encryptions == 0 || after.Term != 2 || after.Encryptions >= before.Encryptions {
		t.Errorf("key-status = %+v, then %+v", before, after)
	}
	config := must[*api.Secret](t)(c.Logical().ReadWithContext(ctx, "sys/rotate/config"))
	if config.Data["enabled"] != true {
		t.Errorf("rotate/config = %v", config.Data)
	}
	if got := must[*api.KVSecret](t)(c.KVv2("secret").Get(ctx, "a")); got.Data["b"] != "c" {
		t.Errorf("Get = %v", got.Data)
	}
}

func TestRekeyAndGenerateRoot(t *testing.T) {
	n := node.Configured(t, `seal "shamir" {}`, withCeremonies)
	c := client(t, n)
	ctx := t.Context()
	made := must[*api.InitResponse](t)(c.Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 3, SecretThreshold: 2}))
	for _, key := range made.Keys[:2] {
		must[*api.SealStatusResponse](t)(c.Sys().UnsealWithContext(ctx, key))
	}
	s := must[*api.RekeyStatusResponse](t)(c.Sys().RekeyInitWithContext(ctx, &api.RekeyInitRequest{SecretShares: 4, SecretThreshold: 3}))
	if !s.Started || s.N != 4 || s.T != 3 || s.Required != 2 || !s.VerificationRequired {
		t.Errorf("RekeyInit = %+v", s)
	}
	if err := c.Sys().RekeyCancelWithContextWithNonce(ctx, s.Nonce); err != nil {
		t.Fatal(err)
	}
	s = must[*api.RekeyStatusResponse](t)(c.Sys().RekeyInitWithContext(ctx, &api.RekeyInitRequest{SecretShares: 4, SecretThreshold: 3, RequireVerification: true}))
	must[*api.RekeyUpdateResponse](t)(c.Sys().RekeyUpdateWithContext(ctx, made.Keys[0], s.Nonce))
	if s = must[*api.RekeyStatusResponse](t)(c.Sys().RekeyStatusWithContext(ctx)); s.Progress != 1 {
		t.Errorf("RekeyStatus after a share = %+v", s)
	}
	_, err := c.Sys().RekeyUpdateWithContext(ctx, made.Keys[1], "another nonce")
	status(t, "a share with another nonce", err, 400)
	out := must[*api.RekeyUpdateResponse](t)(c.Sys().RekeyUpdateWithContext(ctx, made.KeysB64[1], s.Nonce))
	if !out.Complete || len(out.Keys) != 4 || len(out.KeysB64) != 4 || !out.VerificationRequired || out.VerificationNonce == "" {
		t.Fatalf("RekeyUpdate = complete %t, %d keys", out.Complete, len(out.Keys))
	}
	v := must[*api.RekeyVerificationStatusResponse](t)(c.Sys().RekeyVerificationStatusWithContext(ctx))
	if v.Nonce != out.VerificationNonce || v.T != 3 || v.N != 4 {
		t.Errorf("RekeyVerificationStatus = %+v", v)
	}
	for i, key := range out.Keys[:3] {
		p := must[*api.RekeyVerificationUpdateResponse](t)(c.Sys().RekeyVerificationUpdateWithContext(ctx, key, out.VerificationNonce))
		if p.Complete != (i == 2) {
			t.Errorf("proof %d = %+v", i, p)
		}
	}
	c.SetToken(made.RootToken)
	if err := c.Sys().SealWithContext(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = c.Sys().UnsealWithContext(ctx, made.Keys[0])
	status(t, "an old share", err, 400)
	for _, key := range out.Keys[1:] {
		must[*api.SealStatusResponse](t)(c.Sys().UnsealWithContext(ctx, key))
	}

	c.ClearToken()
	g := must[*api.GenerateRootStatusResponse](t)(c.Sys().GenerateRootInitWithContext(ctx, "", ""))
	if !g.Started || len(g.OTP) != g.OTPLength || g.Required != 3 {
		t.Errorf("GenerateRootInit = %+v", g)
	}
	otp := g.OTP
	for i, key := range out.Keys[:3] {
		g = must[*api.GenerateRootStatusResponse](t)(c.Sys().GenerateRootUpdateWithContext(ctx, key, g.Nonce))
		if g.Complete != (i == 2) {
			t.Errorf("share %d = %+v", i, g)
		}
	}
	token := must[[]byte](t)(base64.RawStdEncoding.DecodeString(g.EncodedToken))
	for i := range token {
		token[i] ^= otp[i]
	}
	c.SetToken(string(token))
	self := must[*api.Secret](t)(c.Auth().Token().LookupSelfWithContext(ctx))
	if policies := must[[]string](t)(self.TokenPolicies()); len(policies) != 1 || policies[0] != "root" {
		t.Errorf("the policies of the token are %q", policies)
	}
}
