package system

import (
	"context"
	"slices"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/wire"
)

// SealStatus is how the seal stands, as clients read it.
type SealStatus struct {
	Type           string `json:"type"`
	Initialized    bool   `json:"initialized"`
	Sealed         bool   `json:"sealed"`
	T              int    `json:"t"`
	N              int    `json:"n"`
	Progress       int    `json:"progress"`
	Nonce          string `json:"nonce"`
	Version        string `json:"version"`
	RotundaVersion string `json:"rotunda_version"`
	BuildDate      string `json:"build_date"`
	CommitDate     string `json:"commit_date"`
	Migration      bool   `json:"migration"`
	ClusterName    string `json:"cluster_name,omitzero"`
	ClusterID      string `json:"cluster_id,omitzero"`
	RecoverySeal   bool   `json:"recovery_seal"`
	StorageType    string `json:"storage_type"`

	Troubles []Trouble `json:"rotunda_troubles,omitempty"`
}

type initStatus struct {
	Initialized bool `json:"initialized"`
}

type initIn struct {
	SecretShares      *int         `json:"secret_shares" doc:"Number of shares that the root key is split into."`
	SecretThreshold   *int         `json:"secret_threshold" doc:"Number of shares that open the store."`
	RecoveryShares    *int         `json:"recovery_shares" doc:"The same, where the store is opened without people: a second way in. 0 makes none."`
	RecoveryThreshold *int         `json:"recovery_threshold" doc:"Number of recovery shares that open the store."`
	PGPKeys           wire.Strings `json:"pgp_keys" doc:"Refused: shares are not encrypted to PGP keys."`
	RecoveryPGPKeys   wire.Strings `json:"recovery_pgp_keys" doc:"Refused: shares are not encrypted to PGP keys."`
	RootTokenPGPKey   string       `json:"root_token_pgp_key" doc:"Refused: the root token is not encrypted to a PGP key."`
	StoredShares      *int         `json:"stored_shares" doc:"Ignored."`
}

type initOut struct {
	Keys               []secret.Text `json:"keys"`
	KeysBase64         []secret.Text `json:"keys_base64"`
	RecoveryKeys       []secret.Text `json:"recovery_keys,omitempty"`
	RecoveryKeysBase64 []secret.Text `json:"recovery_keys_base64,omitempty"`
	RootToken          secret.Text   `json:"root_token"`
}

type unsealIn struct {
	Key     secret.Text `json:"key" doc:"One share of the root key, in hexadecimal or base64."`
	Reset   bool        `json:"reset" doc:"Forget the shares submitted so far."`
	Migrate bool        `json:"migrate" doc:"Refused: a seal is added and removed online."`
}

type leaderOut struct {
	HAEnabled bool   `json:"ha_enabled"`
	IsSelf    bool   `json:"is_self"`
	Address   string `json:"leader_address"`
	Cluster   string `json:"leader_cluster_address"`
}

type healthIn struct {
	StandbyOK   string `query:"standbyok" doc:"Kept for clients: there are no standbys."`
	ActiveCode  int    `query:"activecode" doc:"Status for an unsealed server; 0 is 200."`
	SealedCode  int    `query:"sealedcode" doc:"Status for a sealed server; 0 is 503."`
	UninitCode  int    `query:"uninitcode" doc:"Status for a server with an empty store; 0 is 501."`
	StandbyCode int    `query:"standbycode" doc:"Kept for clients: there are no standbys."`
}

// Validate reports codes that are not HTTP statuses.
func (in healthIn) Validate() error {
	for _, code := range []int{in.ActiveCode, in.SealedCode, in.UninitCode, in.StandbyCode} {
		if code != 0 && (code < 200 || code > 599) {
			return fault.New(fault.Invalid, "a status code must be 200 to 599")
		}
	}
	return nil
}

// Health is what load balancers and clients ask before anything else.
type Health struct {
	Initialized                bool   `json:"initialized"`
	Sealed                     bool   `json:"sealed"`
	Standby                    bool   `json:"standby"`
	PerformanceStandby         bool   `json:"performance_standby"`
	ReplicationPerformanceMode string `json:"replication_performance_mode"`
	ReplicationDRMode          string `json:"replication_dr_mode"`
	ServerTimeUTC              int64  `json:"server_time_utc"`
	Version                    string `json:"version"`
	RotundaVersion             string `json:"rotunda_version"`
	Enterprise                 bool   `json:"enterprise"`
	ClusterName                string `json:"cluster_name,omitzero"`
	ClusterID                  string `json:"cluster_id,omitzero"`

	Troubles []Trouble `json:"rotunda_troubles,omitempty"`
}

type sealer struct {
	g    *gate.Gate
	info Info
}

// SealOps returns the operations that can be called while the server is sealed,
// and the one that seals it.
func SealOps(g *gate.Gate, info Info) []op.Op {
	s := sealer{g, info}
	return []op.Op{
		op.Def[op.Nothing, SealStatus]{
			Name: "system.seal-status", Verb: op.Read, Path: "seal-status", Auth: op.Open, Sealed: true, Shape: op.Bare,
			Does: "Say whether the server is initialized and sealed, and how far unsealing has come.",
		}.With(s.status),
		op.Def[healthIn, Health]{
			Name: "system.health", Verb: op.Read, Path: "health", Auth: op.Open, Sealed: true, Shape: op.Bare,
			Does: "Say how the server is, by the status of the answer.",
		}.With(s.health),
		op.Def[op.Nothing, leaderOut]{
			Name: "system.leader", Verb: op.Read, Path: "leader", Auth: op.Open, Sealed: true, Shape: op.Bare, Does: "Say which node is active: every node is.",
		}.With(s.leader),
		op.Def[op.Nothing, initStatus]{
			Name: "system.init.status", Verb: op.Read, Path: "init", Auth: op.Open, Sealed: true, Shape: op.Bare, Does: "Say whether the store has been initialized.",
		}.With(s.initialized),
		op.Def[initIn, initOut]{
			Name: "system.init", Verb: op.Update, Path: "init", Auth: op.Open, Sealed: true, Shape: op.Bare, Effects: op.Outside, Does: "Make the keys of an empty store.",
		}.With(s.init),
		op.Def[unsealIn, SealStatus]{
			Name: "system.unseal", Verb: op.Update, Path: "unseal", Auth: op.Open, Sealed: true, Shape: op.Bare, Does: "Bring one share of the root key.",
		}.With(s.unseal),
		op.Def[op.Nothing, op.Empty]{
			Name: "system.seal", Verb: op.Update, Path: "seal", Sudo: true, Repairs: true, Does: "Seal the server: it forgets every key and answers nothing until unsealed.",
		}.With(func(context.Context, *op.Call, op.Nothing) (op.Empty, error) {
			g.ShutSoon()
			return op.Empty{}, nil
		}),
		op.Def[op.Nothing, op.Empty]{
			Name: "system.step-down", Verb: op.Update, Path: "step-down", Sudo: true, Does: "Kept for clients: every node is active, so there is nothing to step down from.",
		}.With(func(context.Context, *op.Call, op.Nothing) (op.Empty, error) { return op.Empty{}, nil }),
	}
}

// standing returns how things stand, and what is the matter. A store that cannot
// be read because it has failed is told of, as one that had been initialized.
func (s sealer) standing(ctx context.Context) (gate.Status, []Trouble, error) {
	st, err := s.g.Status(ctx)
	troubles := s.info.troubles()
	if err != nil && slices.Contains(troubles, StoreFailed) {
		st.Initialized, st.Sealed = true, s.g.Sealed()
		err = nil
	}
	return st, troubles, err
}

func (s sealer) status(ctx context.Context, _ *op.Call, _ op.Nothing) (SealStatus, error) {
	st, troubles, err := s.standing(ctx)
	if err != nil {
		return SealStatus{}, err
	}
	out := SealStatus{
		Type: st.Kind, Initialized: st.Initialized, Sealed: st.Sealed, T: st.Threshold, N: st.Shares, Progress: st.Progress, Nonce: st.Nonce,
		Version: s.info.CompatVersion, RotundaVersion: s.info.Version, BuildDate: s.info.BuildDate, CommitDate: s.info.BuildDate,
		RecoverySeal: st.RecoverySeal, StorageType: s.info.StorageType, Troubles: troubles,
	}
	if !st.Sealed {
		out.ClusterName, out.ClusterID = s.info.ClusterName, st.ClusterID
	}
	return out, nil
}

func (s sealer) health(ctx context.Context, c *op.Call, in healthIn) (Health, error) {
	st, troubles, err := s.standing(ctx)
	if err != nil {
		return Health{}, err
	}
	or := func(given, usual int) int {
		if given != 0 {
			return given
		}
		return usual
	}
	switch {
	case !st.Initialized:
		c.Reply.Status = or(in.UninitCode, 501)
	case st.Sealed:
		c.Reply.Status = or(in.SealedCode, 503)
	case slices.ContainsFunc(troubles, Trouble.stops):
		c.Reply.Status = 503
	default:
		c.Reply.Status = or(in.ActiveCode, 200)
	}
	h := Health{
		Initialized: st.Initialized, Sealed: st.Sealed, ReplicationPerformanceMode: "disabled", ReplicationDRMode: "disabled",
		ServerTimeUTC: c.Time.Unix(), Version: s.info.CompatVersion, RotundaVersion: s.info.Version, Troubles: troubles,
	}
	if !st.Sealed {
		h.ClusterName, h.ClusterID = s.info.ClusterName, st.ClusterID
	}
	return h, nil
}

func (s sealer) leader(context.Context, *op.Call, op.Nothing) (leaderOut, error) {
	if s.g.Sealed() {
		return leaderOut{}, gate.ErrSealed
	}
	return leaderOut{IsSelf: true, Address: s.info.APIAddr}, nil
}

func (s sealer) initialized(ctx context.Context, _ *op.Call, _ op.Nothing) (initStatus, error) {
	st, err := s.g.Status(ctx)
	return initStatus{st.Initialized}, err
}

func (s sealer) init(ctx context.Context, c *op.Call, in initIn) (initOut, error) {
	st, err := s.g.Status(ctx)
	switch {
	case err != nil:
		return initOut{}, err
	case st.Initialized:
		return initOut{}, fault.New(fault.Invalid, "Vault is already initialized")
	case len(in.PGPKeys)+len(in.RecoveryPGPKeys) > 0 || in.RootTokenPGPKey != "":
		return initOut{}, fault.New(fault.Invalid, "shares cannot be encrypted to PGP keys here; leave pgp_keys out")
	}
	// Who asks by accident is not to take the store: the numbers are given.
	auto := st.Kind != "shamir"
	shares, threshold, what := in.SecretShares, in.SecretThreshold, "secret"
	if auto {
		shares, threshold, what = in.RecoveryShares, in.RecoveryThreshold, "recovery"
	}
	if shares == nil || threshold == nil && *shares != 0 {
		return initOut{}, fault.New(fault.Invalid, "%s_shares and %s_threshold are required", what, what)
	}
	want := gate.InitIn{Shares: *shares}
	if threshold != nil {
		want.Threshold = *threshold
	}
	made, told, err := s.g.Begin(ctx, want)
	if err != nil {
		return initOut{}, err
	}
	c.Reply.Told = func(err error) { _ = told(err) } // the gate has logged what went wrong
	out := initOut{RootToken: made.RootToken, Keys: []secret.Text{}, KeysBase64: []secret.Text{}}
	for _, share := range made.Shares {
		if auto {
			out.RecoveryKeys, out.RecoveryKeysBase64 = append(out.RecoveryKeys, share.Hex), append(out.RecoveryKeysBase64, share.Base64)
		} else {
			out.Keys, out.KeysBase64 = append(out.Keys, share.Hex), append(out.KeysBase64, share.Base64)
		}
	}
	return out, nil
}

func (s sealer) unseal(ctx context.Context, c *op.Call, in unsealIn) (SealStatus, error) {
	switch {
	case in.Migrate:
		return SealStatus{}, fault.New(fault.Invalid, "a seal is not migrated while unsealing; slots are added and removed online")
	case in.Reset:
		s.g.Reset()
	case in.Key.Empty():
		return SealStatus{}, fault.New(fault.Invalid, "'key' must be specified in request body as JSON, or 'reset' set to true")
	default:
		if err := s.g.Submit(ctx, in.Key); err != nil {
			return SealStatus{}, err
		}
	}
	return s.status(ctx, c, op.Nothing{})
}
