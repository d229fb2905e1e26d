package system

import (
	"context"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/wire"
)

// Ceremonies is what people may do with their shares beside unsealing.
type Ceremonies struct {
	GenerateRoot bool // make a root token
	OpenRekey    bool // replace the shares without a token, as older clients do
}

type rekeyStatus struct {
	Nonce                string    `json:"nonce" doc:"Nonce of what is under way."`
	Started              bool      `json:"started" doc:"Something is under way."`
	T                    int       `json:"t" doc:"Shares that will open the store."`
	N                    int       `json:"n" doc:"Shares that there will be."`
	Progress             int       `json:"progress" doc:"Shares that were brought."`
	Required             int       `json:"required" doc:"Shares that are needed."`
	PGPFingerprints      *[]string `json:"pgp_fingerprints" doc:"Always null."`
	Backup               bool      `json:"backup" doc:"Always false."`
	VerificationRequired bool      `json:"verification_required" doc:"The new shares are to be proved."`
	VerificationNonce    string    `json:"verification_nonce,omitzero" doc:"Nonce of that proof."`
}

type rekeyIn struct {
	SecretShares        *int         `json:"secret_shares" doc:"Number of shares that there will be."`
	SecretThreshold     *int         `json:"secret_threshold" doc:"Number of them that open the store."`
	StoredShares        *int         `json:"stored_shares" doc:"Ignored."`
	PGPKeys             wire.Strings `json:"pgp_keys" doc:"Refused: shares are not encrypted to PGP keys."`
	Backup              bool         `json:"backup" doc:"Refused: shares are kept nowhere."`
	BackupSpelled       bool         `json:"Backup" doc:"The same, as a client in use spells it."`
	RequireVerification *bool        `json:"require_verification" doc:"Ignored: the new shares are always to be proved before the old ones are worth nothing."`
}

type shareIn struct {
	Key   secret.Text `json:"key" doc:"One share, in hexadecimal or base64."`
	Nonce string      `json:"nonce" audit:"clear" doc:"Nonce of what is under way."`
}

// Validate refuses a request without a share.
func (in shareIn) Validate() error {
	if in.Key.Empty() {
		return fault.New(fault.Invalid, "'key' must be specified in request body as JSON")
	}
	return nil
}

type nonceIn struct {
	Nonce string `json:"nonce" audit:"clear" doc:"Nonce of what is under way; what is there is ended where there is none."`
}

// rekeyOut is the status, and with the last share what was made.
type rekeyOut struct {
	Nonce                string        `json:"nonce" doc:"Nonce of what is under way."`
	Started              bool          `json:"started,omitzero" doc:"Something is under way."`
	T                    int           `json:"t,omitzero" doc:"Shares that will open the store."`
	N                    int           `json:"n,omitzero" doc:"Shares that there will be."`
	Progress             int           `json:"progress,omitzero" doc:"Shares that were brought."`
	Required             int           `json:"required,omitzero" doc:"Shares that are needed."`
	Complete             bool          `json:"complete" doc:"Enough shares were brought."`
	Keys                 []secret.Text `json:"keys,omitempty" doc:"The new shares in hexadecimal, told once."`
	KeysBase64           []secret.Text `json:"keys_base64,omitempty" doc:"The same in base64."`
	PGPFingerprints      *[]string     `json:"pgp_fingerprints" doc:"Always null."`
	Backup               bool          `json:"backup" doc:"Always false."`
	VerificationRequired bool          `json:"verification_required" doc:"The new shares are to be proved."`
	VerificationNonce    string        `json:"verification_nonce,omitzero" doc:"Nonce of that proof."`
}

type proofOut struct {
	Nonce    string `json:"nonce" doc:"Nonce of what is under way."`
	Started  bool   `json:"started" doc:"Something is under way."`
	T        int    `json:"t" doc:"Shares that will open the store."`
	N        int    `json:"n" doc:"Shares that there will be."`
	Progress int    `json:"progress" doc:"Shares that were brought."`
	Complete bool   `json:"complete,omitzero" doc:"Enough shares were brought."`
}

type generateIn struct {
	OTP    secret.Text `json:"otp" doc:"One-time pad as long as a token; one is made where there is none."`
	PGPKey string      `json:"pgp_key" doc:"Refused: the token is not encrypted to a PGP key."`
}

type generateOut struct {
	Nonce            string      `json:"nonce" doc:"Nonce of what is under way."`
	Started          bool        `json:"started" doc:"Something is under way."`
	Progress         int         `json:"progress" doc:"Shares that were brought."`
	Required         int         `json:"required" doc:"Shares that are needed."`
	Complete         bool        `json:"complete" doc:"Enough shares were brought."`
	EncodedToken     secret.Text `json:"encoded_token" doc:"The exclusive or of the token and the one-time pad, in base64."`
	EncodedRootToken secret.Text `json:"encoded_root_token" doc:"The same."`
	PGPFingerprint   string      `json:"pgp_fingerprint" doc:"Always empty."`
	OTP              secret.Text `json:"otp" doc:"The one-time pad, where it was made here; told once."`
	OTPLength        int         `json:"otp_length" doc:"Length that a one-time pad must have."`
}

// place is where a ceremony is served, and for whom.
type place struct {
	name, path string
	open       bool // no token, and the older layout
}

func (p place) auth() op.Auth {
	if p.open {
		return op.Open
	}
	return op.Token
}

func (p place) shape() op.Shape {
	if p.open {
		return op.Bare
	}
	return op.Enveloped
}

// peopleOps are what people do with their shares while the store is open.
func peopleOps(p *Parts) []op.Op {
	// The shares are the same, whether they are the way to open the store or
	// the one for recovery.
	ops := append(rekeyOps(p.Gate, place{"rotate.root", "rotate/root", false}), rekeyOps(p.Gate, place{"rotate.recovery", "rotate/recovery", false})...)
	if p.Ceremonies.OpenRekey {
		ops = append(ops, rekeyOps(p.Gate, place{"rekey", "rekey", true})...)
		ops = append(ops, rekeyOps(p.Gate, place{"rekey-recovery-key", "rekey-recovery-key", true})...)
	}
	if p.Ceremonies.GenerateRoot {
		ops = append(ops, generateOps(p.Gate, place{"generate-root", "generate-root", true})...)
		ops = append(ops, generateOps(p.Gate, place{"generate-root-token", "generate-root-token", false})...)
	}
	return ops
}

func rekeyOps(g *gate.Gate, at place) []op.Op {
	status := func(ctx context.Context, _ *op.Call, _ op.Nothing) (rekeyStatus, error) {
		s, err := g.Rekey(ctx)
		return statusOf(s), err
	}
	return []op.Op{
		op.Def[op.Nothing, rekeyStatus]{
			Name: "system." + at.name + ".status", Verb: op.Read, Path: at.path + "/init", Auth: at.auth(), Shape: at.shape(), Sudo: !at.open,
			Does: "Say how the replacement of the shares stands.",
		}.With(status),
		op.Def[rekeyIn, rekeyStatus]{
			Name: "system." + at.name + ".begin", Verb: op.Update, Path: at.path + "/init", Auth: at.auth(), Shape: at.shape(), Sudo: !at.open,
			Does: "Begin to replace the shares of the root key by others.",
		}.With(func(ctx context.Context, _ *op.Call, in rekeyIn) (rekeyStatus, error) {
			if len(in.PGPKeys) > 0 || in.Backup || in.BackupSpelled {
				return rekeyStatus{}, fault.New(fault.Invalid, "shares cannot be encrypted to PGP keys here, nor kept; leave pgp_keys and backup out")
			}
			shares, threshold := 5, 3
			if in.SecretShares != nil {
				shares = *in.SecretShares
			}
			if in.SecretThreshold != nil {
				threshold = *in.SecretThreshold
			}
			s, err := g.BeginRekey(ctx, shares, threshold)
			return statusOf(s), err
		}),
		op.Def[nonceIn, op.Empty]{
			Name: "system." + at.name + ".cancel", Verb: op.Delete, Path: at.path + "/init", Auth: at.auth(), Sudo: !at.open,
			Does: "End the replacement of the shares; those that opened the store before do so still.",
		}.With(func(_ context.Context, _ *op.Call, in nonceIn) (op.Empty, error) {
			return op.Empty{}, g.CancelRekey(in.Nonce)
		}),
		op.Def[shareIn, rekeyOut]{
			Name: "system." + at.name + ".update", Verb: op.Update, Path: at.path + "/update", Auth: at.auth(), Shape: at.shape(), Sudo: !at.open,
			Does: "Bring one of the shares that are to be replaced; the last one is answered by the new ones.",
		}.With(func(ctx context.Context, _ *op.Call, in shareIn) (rekeyOut, error) {
			made, err := g.BringRekey(ctx, in.Nonce, in.Key)
			if err != nil {
				return rekeyOut{}, err
			}
			if made == nil {
				s, err := g.Rekey(ctx)
				x := statusOf(s)
				return rekeyOut{Nonce: x.Nonce, Started: x.Started, T: x.T, N: x.N, Progress: x.Progress, Required: x.Required, VerificationRequired: true}, err
			}
			out := rekeyOut{Nonce: made.Nonce, Complete: true, VerificationRequired: true, VerificationNonce: made.ProofNonce}
			out.Keys, out.KeysBase64 = textsOf(made.Shares)
			return out, nil
		}),
		op.Def[op.Nothing, proofOut]{
			Name: "system." + at.name + ".verify.status", Verb: op.Read, Path: at.path + "/verify", Auth: at.auth(), Shape: at.shape(), Sudo: !at.open,
			Does: "Say how the proof of the new shares stands.",
		}.With(func(context.Context, *op.Call, op.Nothing) (proofOut, error) {
			s, err := g.RekeyProof()
			return proofOf(s), err
		}),
		op.Def[shareIn, proofOut]{
			Name: "system." + at.name + ".verify", Verb: op.Update, Path: at.path + "/verify", Auth: at.auth(), Shape: at.shape(), Sudo: !at.open,
			Does: "Bring one of the new shares; with the last one they take the place of the old ones.",
		}.With(func(ctx context.Context, _ *op.Call, in shareIn) (proofOut, error) {
			done, err := g.ProveRekey(ctx, in.Nonce, in.Key)
			if err != nil || done {
				return proofOut{Nonce: in.Nonce, Complete: done}, err
			}
			s, err := g.RekeyProof()
			return proofOf(s), err
		}),
		op.Def[nonceIn, proofOut]{
			Name: "system." + at.name + ".verify.restart", Verb: op.Delete, Path: at.path + "/verify", Auth: at.auth(), Shape: at.shape(), Sudo: !at.open,
			Does: "Forget the new shares that were brought as proof.",
		}.With(func(_ context.Context, _ *op.Call, in nonceIn) (proofOut, error) {
			s, err := g.RestartProof(in.Nonce)
			return proofOf(s), err
		}),
	}
}

func statusOf(s gate.RekeyStatus) rekeyStatus {
	return rekeyStatus{
		Nonce: s.Nonce, Started: s.Started, T: s.Threshold, N: s.Shares, Progress: s.Progress, Required: s.Required,
		VerificationRequired: s.Started, VerificationNonce: s.ProofNonce,
	}
}

func proofOf(s gate.ProofStatus) proofOut {
	return proofOut{Nonce: s.Nonce, Started: s.Started, T: s.Threshold, N: s.Shares, Progress: s.Progress}
}

func generateOps(g *gate.Gate, at place) []op.Op {
	return []op.Op{
		op.Def[op.Nothing, generateOut]{
			Name: "system." + at.name + ".status", Verb: op.Read, Path: at.path + "/attempt", Auth: at.auth(), Shape: at.shape(), Sudo: !at.open,
			Does: "Say how the making of a root token stands.",
		}.With(func(ctx context.Context, _ *op.Call, _ op.Nothing) (generateOut, error) {
			s, err := g.Generate(ctx)
			return generatedOf(s), err
		}),
		op.Def[generateIn, generateOut]{
			Name: "system." + at.name + ".begin", Verb: op.Update, Path: at.path + "/attempt", Auth: at.auth(), Shape: at.shape(), Sudo: !at.open,
			Does: "Begin to make a root token by shares.",
		}.With(func(ctx context.Context, _ *op.Call, in generateIn) (generateOut, error) {
			if in.PGPKey != "" {
				return generateOut{}, fault.New(fault.Invalid, "the token cannot be encrypted to a PGP key here; leave pgp_key out")
			}
			s, err := g.BeginGenerate(ctx, in.OTP)
			return generatedOf(s), err
		}),
		op.Def[op.Nothing, op.Empty]{
			Name: "system." + at.name + ".cancel", Verb: op.Delete, Path: at.path + "/attempt", Auth: at.auth(), Sudo: !at.open,
			Does: "End the making of a root token.",
		}.With(func(context.Context, *op.Call, op.Nothing) (op.Empty, error) { return op.Empty{}, g.CancelGenerate() }),
		op.Def[shareIn, generateOut]{
			Name: "system." + at.name + ".update", Verb: op.Update, Path: at.path + "/update", Auth: at.auth(), Shape: at.shape(), Sudo: !at.open,
			Does: "Bring one share; the last one is answered by the token under the one-time pad.",
		}.With(func(ctx context.Context, c *op.Call, in shareIn) (generateOut, error) {
			s, err := g.BringGenerate(ctx, c.Time, in.Nonce, in.Key)
			return generatedOf(s), err
		}),
	}
}

func generatedOf(s gate.GenerateStatus) generateOut {
	return generateOut{
		Nonce: s.Nonce, Started: s.Started, Progress: s.Progress, Required: s.Required, Complete: !s.Encoded.Empty(),
		EncodedToken: s.Encoded, EncodedRootToken: s.Encoded, OTP: s.OTP, OTPLength: s.OTPLength,
	}
}
