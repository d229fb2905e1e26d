package server

import (
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/seal/age"
	"rotunda.dev/rotunda/internal/seal/shamir"
	"rotunda.dev/rotunda/internal/secret"
)

// recipients is the seal of those who hold age identities, as the gate asks for it.
func recipients(keys []string) seal.Sealer { return age.New(age.Config{Recipients: keys}) }

// quorum is Shamir's scheme as the gate asks for it.
type quorum struct{}

var _ gate.Quorum = quorum{}

func (quorum) Kind() string { return shamir.Kind }

func (quorum) Split(root secret.Bytes, binding []byte, shares, threshold int) (seal.Stanza, []gate.Share, error) {
	st, made, err := shamir.Split(root, shares, threshold, binding)
	if err != nil {
		return seal.Stanza{}, nil, err
	}
	out := make([]gate.Share, len(made))
	for i, s := range made {
		out[i] = gate.Share{Hex: s.Hex(), Base64: s.Base64()}
		s.Wipe()
	}
	return st, out, nil
}

func (quorum) Collect(st seal.Stanza, binding []byte) (gate.Collection, error) {
	c, err := shamir.NewCollect(st, binding)
	if err != nil {
		return nil, err
	}
	return collection{c}, nil
}

type collection struct{ c *shamir.Collect }

func (c collection) Add(share secret.Text) (secret.Bytes, error) { return c.c.Add(share) }

func (c collection) Progress() (have, threshold, total int) {
	p := c.c.Progress()
	return p.Have, p.Threshold, p.Shares
}

func (c collection) Nonce() string { return c.c.Progress().Nonce }

func (c collection) Wipe() { c.c.Reset() }
