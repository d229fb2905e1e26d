package system

import (
	"log/slog"
	"testing"

	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/storage/mem"
)

// Who asks for keys without saying how many does not take an empty store.
func TestInitWithoutNumbersIsRefused(t *testing.T) {
	five, none := 5, 0
	for name, seals := range map[string][]gate.Auto{"shares": nil, "a seal that opens alone": {{Kind: "keyfile"}}} {
		g := gate.New(gate.Config{Store: mem.New(mem.Config{}), Auto: seals, Quorum: noQuorum{}, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler)})
		for what, in := range map[string]initIn{
			"nothing": {}, "shares alone": {SecretShares: &five, RecoveryShares: &five}, "a threshold alone": {SecretThreshold: &five, RecoveryThreshold: &five},
			"no shares of what people open": {SecretShares: &none},
		} {
			if _, err := (sealer{g: g}).init(t.Context(), &op.Call{}, in); !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: init with %s = %v; want it invalid", name, what, err)
			}
		}
		if s, err := g.Status(t.Context()); err != nil || s.Initialized {
			t.Errorf("%s: Status = %+v, %v", name, s, err)
		}
	}
}

type noQuorum struct{ gate.Quorum }

func (noQuorum) Kind() string { return "shamir" }
