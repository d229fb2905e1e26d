package gate

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/token"
)

// ceremonies are what people do together with their shares while the store is
// open. They live in memory, and end with the session: whoever was interrupted
// begins anew, and the shares that were good before are good still.
type ceremonies struct {
	mu       sync.Mutex // guards what follows; also held while a transaction ends a ceremony
	rekey    *rekeying
	generate *generating
}

func (c *ceremonies) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endRekeyLocked()
	c.endGenerateLocked()
}

func (c *ceremonies) endRekeyLocked() {
	if r := c.rekey; r != nil {
		r.old.Wipe()
		if r.proof != nil {
			r.proof.Wipe()
		}
	}
	c.rekey = nil
}

func (c *ceremonies) endGenerateLocked() {
	if c.generate != nil {
		c.generate.old.Wipe()
		clear(c.generate.otp)
	}
	c.generate = nil
}

// rekeying replaces the shares: enough of the old ones are brought, others are
// handed out, and enough of these are brought before the old ones are worth nothing.
type rekeying struct {
	nonce             string
	shares, threshold int
	slot              string // that is replaced
	old               Collection

	pending    seal.Stanza
	proof      Collection // of the shares of pending; nil until they are handed out
	proofNonce string
}

// generating makes a root token, hidden under a one-time pad.
type generating struct {
	nonce string
	otp   []byte
	old   Collection
}

// collectShares begins to gather the shares of the store.
func (g *Gate) collectShares(ctx context.Context) (c Collection, slot string, err error) {
	stanzas, binding, err := g.slots(ctx)
	if err != nil {
		return nil, "", err
	}
	i := find(stanzas, g.c.Quorum.Kind())
	if i < 0 {
		return nil, "", fault.New(fault.Invalid, "this store has no shares; add a seal slot of kind %s first", g.c.Quorum.Kind())
	}
	if slot, err = slotID(stanzas[i]); err != nil {
		return nil, "", err
	}
	if c, err = g.c.Quorum.Collect(stanzas[i], binding); err != nil {
		return nil, "", fmt.Errorf("reading the slot of the shares: %w", err)
	}
	return c, slot, nil
}

// RekeyStatus is how the replacement of the shares stands.
type RekeyStatus struct {
	Started           bool
	Nonce             string
	Shares, Threshold int // that there will be
	Progress          int // old shares that were brought
	Required          int // old shares that are needed
	ProofNonce        string
}

// Rekey returns how the replacement of the shares stands.
func (g *Gate) Rekey(ctx context.Context) (out RekeyStatus, err error) {
	err = g.inside(func(s *session) error {
		s.people.mu.Lock()
		defer s.people.mu.Unlock()
		out, err = g.rekeyStatus(ctx, s)
		return err
	})
	return out, err
}

func (g *Gate) rekeyStatus(ctx context.Context, s *session) (RekeyStatus, error) {
	r := s.people.rekey
	if r == nil {
		c, _, err := g.collectShares(ctx)
		if fault.Is(err, fault.Invalid) {
			return RekeyStatus{}, nil
		}
		if err != nil {
			return RekeyStatus{}, err
		}
		_, required, _ := c.Progress()
		return RekeyStatus{Required: required}, nil
	}
	have, required, _ := r.old.Progress()
	return RekeyStatus{
		Started: true, Nonce: r.nonce, Shares: r.shares, Threshold: r.threshold, Progress: have, Required: required, ProofNonce: r.proofNonce,
	}, nil
}

// BeginRekey begins to replace the shares by others, any threshold of which
// will open the store.
func (g *Gate) BeginRekey(ctx context.Context, shares, threshold int) (out RekeyStatus, err error) {
	if err := checkShares(shares, threshold); err != nil {
		return out, err
	}
	err = g.inside(func(s *session) error {
		s.people.mu.Lock()
		defer s.people.mu.Unlock()
		if s.people.rekey != nil {
			return fault.New(fault.Invalid, "rekey already in progress")
		}
		old, slot, err := g.collectShares(ctx)
		if err != nil {
			return err
		}
		s.people.rekey = &rekeying{nonce: uuid.NewString(), shares: shares, threshold: threshold, slot: slot, old: old}
		out, err = g.rekeyStatus(ctx, s)
		return err
	})
	return out, err
}

// CancelRekey ends the replacement of the shares. The shares that opened the
// store before do so still. A nonce that is given must be its own.
func (g *Gate) CancelRekey(nonce string) error {
	return g.inside(func(s *session) error {
		s.people.mu.Lock()
		defer s.people.mu.Unlock()
		if r := s.people.rekey; r != nil && nonce != "" && nonce != r.nonce {
			return wrongNonce("rekey", r.nonce)
		}
		s.people.endRekeyLocked()
		return nil
	})
}

func wrongNonce(what, want string) error {
	return fault.New(fault.Invalid, "incorrect nonce supplied; nonce for this %s operation is %q", what, want)
}

// bring gives a share to a collection. It reports whether there are enough.
func bring(c Collection, share secret.Text) (root secret.Bytes, enough bool, err error) {
	root, err = c.Add(share)
	if errors.Is(err, seal.ErrMoreShares) {
		return secret.Bytes{}, false, nil
	}
	if err != nil {
		return secret.Bytes{}, false, fault.Wrap(fault.Invalid, err, "%v", err)
	}
	return root, true, nil
}

// Rekeyed is the answer to the last old share: others, told once and kept
// nowhere. They open nothing until they are proved by [Gate.ProveRekey].
type Rekeyed struct {
	Nonce, ProofNonce string
	Shares            []Share
}

// BringRekey takes one old share. It returns nil until there are enough.
func (g *Gate) BringRekey(ctx context.Context, nonce string, share secret.Text) (out *Rekeyed, err error) {
	err = g.inside(func(s *session) error {
		s.people.mu.Lock()
		defer s.people.mu.Unlock()
		r := s.people.rekey
		switch {
		case r == nil:
			return fault.New(fault.Invalid, "no rekey in progress")
		case nonce != r.nonce:
			return wrongNonce("rekey", r.nonce)
		case r.proof != nil:
			return fault.New(fault.Invalid, "rekey operation already finished; verification must be performed; nonce for the verification operation is %q", r.proofNonce)
		}
		root, enough, err := bring(r.old, share)
		if err != nil || !enough {
			return err
		}
		defer root.Wipe()
		_, binding, err := g.slots(ctx)
		if err != nil {
			return err
		}
		st, shares, err := g.c.Quorum.Split(root, binding, r.shares, r.threshold)
		if err != nil {
			return fmt.Errorf("splitting the root key: %w", err)
		}
		proof, err := g.c.Quorum.Collect(st, binding)
		if err != nil {
			return fmt.Errorf("reading the slot of the shares: %w", err)
		}
		r.pending, r.proof, r.proofNonce = st, proof, uuid.NewString()
		out = &Rekeyed{Nonce: r.nonce, ProofNonce: r.proofNonce, Shares: shares}
		return nil
	})
	return out, err
}

// ProofStatus is how the proof of the shares that were handed out stands.
type ProofStatus struct {
	Nonce             string
	Started           bool
	Shares, Threshold int
	Progress          int
}

// RekeyProof returns how the proof of the shares stands. The error is a fault
// of kind Invalid where there is none to be given.
func (g *Gate) RekeyProof() (out ProofStatus, err error) {
	err = g.inside(func(s *session) error {
		s.people.mu.Lock()
		defer s.people.mu.Unlock()
		out, err = s.people.proofLocked()
		return err
	})
	return out, err
}

func (c *ceremonies) proofLocked() (ProofStatus, error) {
	r := c.rekey
	if r == nil || r.proof == nil {
		return ProofStatus{}, fault.New(fault.Invalid, "no rekey verification in progress")
	}
	have, _, _ := r.proof.Progress()
	return ProofStatus{r.proofNonce, have > 0, r.shares, r.threshold, have}, nil
}

// RestartProof forgets the shares that were brought as proof.
func (g *Gate) RestartProof(nonce string) (out ProofStatus, err error) {
	err = g.inside(func(s *session) error {
		s.people.mu.Lock()
		defer s.people.mu.Unlock()
		if _, err := s.people.proofLocked(); err != nil {
			return err
		}
		r := s.people.rekey
		if nonce != "" && nonce != r.proofNonce {
			return wrongNonce("rekey verification", r.proofNonce)
		}
		r.proof.Wipe()
		r.proofNonce = uuid.NewString()
		out, err = s.people.proofLocked()
		return err
	})
	return out, err
}

// ProveRekey takes one of the shares that were handed out. With the last one
// that is needed they take the place of the old ones, in one transaction: it
// reports whether that is so.
func (g *Gate) ProveRekey(ctx context.Context, nonce string, share secret.Text) (done bool, err error) {
	err = g.inside(func(s *session) error {
		s.people.mu.Lock()
		defer s.people.mu.Unlock()
		if _, err := s.people.proofLocked(); err != nil {
			return err
		}
		r := s.people.rekey
		if nonce != r.proofNonce {
			return wrongNonce("rekey verification", r.proofNonce)
		}
		root, enough, err := bring(r.proof, share)
		if err != nil || !enough {
			return err
		}
		root.Wipe()
		if err := s.barrier.SetStanzas(ctx, func(old []seal.Stanza) ([]seal.Stanza, error) { return replaced(old, r.slot, r.pending) }); err != nil {
			return err
		}
		s.people.endRekeyLocked()
		done = true
		return nil
	})
	return done, err
}

// replaced returns the stanzas with one in the place of the one with an id. It
// is right too where that was done by a transaction whose outcome was unknown.
func replaced(old []seal.Stanza, id string, by seal.Stanza) ([]seal.Stanza, error) {
	want, err := slotID(by)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(old)
	for i, st := range out {
		x, err := slotID(st)
		if err != nil {
			return nil, err
		}
		if x == id || x == want {
			out[i] = by
			return out, nil
		}
	}
	return nil, fault.New(fault.Invalid, "the slot of the old shares has been removed meanwhile; cancel, and add a slot")
}

// GenerateStatus is how the making of a root token stands.
type GenerateStatus struct {
	Started   bool
	Nonce     string
	Progress  int
	Required  int
	OTP       secret.Text // where it was made here: told once
	OTPLength int
	Encoded   secret.Text // the token under the pad, once there are enough shares
}

// Generate returns how the making of a root token stands.
func (g *Gate) Generate(ctx context.Context) (out GenerateStatus, err error) {
	err = g.inside(func(s *session) error {
		s.people.mu.Lock()
		defer s.people.mu.Unlock()
		out, err = g.generateStatus(ctx, s)
		return err
	})
	return out, err
}

func (g *Gate) generateStatus(ctx context.Context, s *session) (GenerateStatus, error) {
	out := GenerateStatus{OTPLength: token.Length}
	x := s.people.generate
	if x == nil {
		c, _, err := g.collectShares(ctx)
		if fault.Is(err, fault.Invalid) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		_, out.Required, _ = c.Progress()
		return out, nil
	}
	out.Started, out.Nonce = true, x.nonce
	out.Progress, out.Required, _ = x.old.Progress()
	return out, nil
}

const otpDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// newOTP returns n random digits in base62, without a bias.
func newOTP(n int) []byte {
	out := make([]byte, 0, n)
	var b [64]byte
	for len(out) < n {
		_, _ = rand.Read(b[:]) // never fails
		for _, x := range b {
			if x < 248 && len(out) < n {
				out = append(out, otpDigits[x%62])
			}
		}
	}
	return out
}

// BeginGenerate begins to make a root token. The pad is as long as a token; one
// is made, and told in this answer only, where otp is empty.
func (g *Gate) BeginGenerate(ctx context.Context, otp secret.Text) (out GenerateStatus, err error) {
	pad := []byte(otp.Reveal()) //nolint:forbidigo // combined with the token here, so that the token does not leave in the clear
	made := len(pad) == 0
	if made {
		pad = newOTP(token.Length)
	}
	if len(pad) != token.Length {
		return out, fault.New(fault.Invalid, "OTP string is wrong length")
	}
	err = g.inside(func(s *session) error {
		s.people.mu.Lock()
		defer s.people.mu.Unlock()
		if s.people.generate != nil {
			return fault.New(fault.Invalid, "root generation already in progress")
		}
		old, _, err := g.collectShares(ctx)
		if err != nil {
			return err
		}
		s.people.generate = &generating{nonce: uuid.NewString(), otp: pad, old: old}
		if out, err = g.generateStatus(ctx, s); made {
			out.OTP = secret.New(string(pad))
		}
		return err
	})
	return out, err
}

// CancelGenerate ends the making of a root token.
func (g *Gate) CancelGenerate() error {
	return g.inside(func(s *session) error {
		s.people.mu.Lock()
		defer s.people.mu.Unlock()
		s.people.endGenerateLocked()
		return nil
	})
}

// BringGenerate takes one share. With the last one that is needed, the answer
// holds the token under the pad: the exclusive or of both in base64.
func (g *Gate) BringGenerate(ctx context.Context, now time.Time, nonce string, share secret.Text) (out GenerateStatus, err error) {
	err = g.inside(func(s *session) error {
		s.people.mu.Lock()
		defer s.people.mu.Unlock()
		x := s.people.generate
		switch {
		case x == nil:
			return fault.New(fault.Invalid, "no root generation in progress")
		case nonce != x.nonce:
			return wrongNonce("root generation", x.nonce)
		}
		root, enough, err := bring(x.old, share)
		if err != nil {
			return err
		}
		if !enough {
			out, err = g.generateStatus(ctx, s)
			return err
		}
		root.Wipe()
		issued, err := s.broker.IssueShortRoot(ctx, now)
		if err != nil {
			return fmt.Errorf("making a root token: %w", err)
		}
		_, required, _ := x.old.Progress()
		out = GenerateStatus{Started: true, Nonce: x.nonce, Progress: required, Required: required, OTPLength: token.Length}
		hidden := []byte(issued.Reveal()) //nolint:forbidigo // as the pad
		for i := range hidden {
			hidden[i] ^= x.otp[i]
		}
		out.Encoded = secret.New(base64.RawStdEncoding.EncodeToString(hidden))
		s.people.endGenerateLocked()
		return nil
	})
	return out, err
}
