package flows

import (
	"encoding/base64"
	"testing"

	"github.com/openbao/openbao/api/v2"

	"rotunda.dev/rotunda/test/compat/node"
)

// TestRotateRootAndGenerateRoot is what this client does by routes of its own, with a token.
func TestRotateRootAndGenerateRoot(t *testing.T) {
	n := node.Configured(t, `seal "shamir" {}`, "enable_generate_root = true")
	c := client(t, n)
	ctx := t.Context()
	made := must[*api.InitResponse](t)(c.Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 3, SecretThreshold: 2}))
	for _, key := range made.Keys[:2] {
		must[*api.SealStatusResponse](t)(c.Sys().UnsealWithContext(ctx, key))
	}
	c.SetToken(made.RootToken)
	before := must[*api.KeyStatus](t)(c.Sys().KeyStatusWithContext(ctx))
	must[*api.Secret](t)(c.Logical().WriteWithContext(ctx, "sys/rotate/keyring", nil))
	if after := must[*api.KeyStatus](t)(c.Sys().KeyStatusWithContext(ctx)); after.Term != before.Term+1 {
		t.Errorf("key-status = %+v, then %+v", before, after)
	}

	s := must[*api.RotateStatusResponse](t)(c.Sys().RotateRootInitWithContext(ctx, &api.RotateInitRequest{SecretShares: 4, SecretThreshold: 3}))
	if !s.Started || s.N != 4 || s.T != 3 || s.Required != 2 || !s.VerificationRequired {
		t.Errorf("RotateRootInit = %+v", s)
	}
	if err := c.Sys().RotateRootCancelWithContext(ctx); err != nil {
		t.Fatal(err)
	}
	s = must[*api.RotateStatusResponse](t)(c.Sys().RotateRootInitWithContext(ctx, &api.RotateInitRequest{SecretShares: 4, SecretThreshold: 3}))
	must[*api.RotateUpdateResponse](t)(c.Sys().RotateRootUpdateWithContext(ctx, made.Keys[2], s.Nonce))
	if s = must[*api.RotateStatusResponse](t)(c.Sys().RotateRootStatusWithContext(ctx)); s.Progress != 1 {
		t.Errorf("RotateRootStatus after a share = %+v", s)
	}
	out := must[*api.RotateUpdateResponse](t)(c.Sys().RotateRootUpdateWithContext(ctx, made.KeysB64[1], s.Nonce))
	if !out.Complete || len(out.Keys) != 4 || !out.VerificationRequired {
		t.Fatalf("RotateRootUpdate = complete %t, %d keys", out.Complete, len(out.Keys))
	}
	v := must[*api.RotateVerificationStatusResponse](t)(c.Sys().RotateRootVerificationStatusWithContext(ctx))
	if v.Nonce != out.VerificationNonce || v.N != 4 {
		t.Errorf("RotateRootVerificationStatus = %+v", v)
	}
	for i, key := range out.KeysB64[1:] {
		p := must[*api.RotateVerificationUpdateResponse](t)(c.Sys().RotateRootVerificationUpdateWithContext(ctx, key, out.VerificationNonce))
		if p.Complete != (i == 2) {
			t.Errorf("proof %d = %+v", i, p)
		}
	}
	if st := must[*api.SealStatusResponse](t)(c.Sys().SealStatusWithContext(ctx)); st.N != 4 || st.T != 3 {
		t.Errorf("seal-status = %+v", st)
	}

	g := must[*api.GenerateRootStatusResponse](t)(c.Sys().GenerateRootInitWithContext(ctx, "", ""))
	if !g.Started || len(g.OTP) != g.OTPLength || g.Required != 3 {
		t.Errorf("GenerateRootInit = %+v", g)
	}
	otp := g.OTP
	for _, key := range out.Keys[:3] {
		g = must[*api.GenerateRootStatusResponse](t)(c.Sys().GenerateRootUpdateWithContext(ctx, key, g.Nonce))
	}
	token := must[[]byte](t)(base64.RawStdEncoding.DecodeString(g.EncodedToken))
	for i := range token {
		token[i] ^= otp[i]
	}
	self := must[*api.Secret](t)(as(t, c, string(token)).Auth().Token().LookupSelfWithContext(ctx))
	if policies := must[[]string](t)(self.TokenPolicies()); !g.Complete || len(policies) != 1 || policies[0] != "root" {
		t.Errorf("the policies of the token are %q", policies)
	}
}
