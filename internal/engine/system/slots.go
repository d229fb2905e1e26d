package system

import (
	"context"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/wire"
)

// SealSlot is one way to open the store.
type SealSlot struct {
	ID        string   `json:"id" audit:"clear" doc:"Names the slot as long as it is there."`
	Kind      string   `json:"kind" audit:"clear" doc:"Kind of the seal."`
	Arguments []string `json:"arguments" audit:"clear" doc:"What the seal needs to know it again; nothing secret."`
	Shares    int      `json:"shares,omitzero" doc:"Shares of a slot that people open."`
	Threshold int      `json:"threshold,omitzero" doc:"Shares that open it."`
}

type sealSlotsOut struct {
	Slots []SealSlot `json:"slots" doc:"The slots, any one of which opens the store."`
}

type addSlotIn struct {
	Kind       string       `json:"kind" audit:"clear" doc:"shamir or age. Slots of other kinds come from the configuration: a seal there that has none gets one when the store is unsealed."`
	Shares     int          `json:"shares" doc:"Of shamir: number of shares."`
	Threshold  int          `json:"threshold" doc:"Of shamir: number of shares that open the store."`
	Recipients wire.Strings `json:"recipients" audit:"clear" doc:"Of age: the recipients, any one of whom opens the store."`
}

type addSlotOut struct {
	Slot       SealSlot      `json:"slot" doc:"The slot that was added."`
	Keys       []secret.Text `json:"keys,omitempty" doc:"Its shares in hexadecimal, told once."`
	KeysBase64 []secret.Text `json:"keys_base64,omitempty" doc:"The same in base64."`
}

type slotIn struct {
	ID string `path:"id" doc:"Id of the slot."`
}

func slotOf(s gate.Slot) SealSlot {
	args := s.Args
	if args == nil {
		args = []string{}
	}
	return SealSlot{s.ID, s.Kind, args, s.Shares, s.Threshold}
}

// slotOps list, add and remove the ways to open the store.
func slotOps(p *Parts) []op.Op {
	return []op.Op{
		op.Def[op.Nothing, sealSlotsOut]{
			Name: "system.seal.slots", Verb: op.Read, Path: "seal/slots", Sudo: true, Does: "List the seal slots: the ways to open the store.",
		}.With(func(ctx context.Context, _ *op.Call, _ op.Nothing) (sealSlotsOut, error) {
			slots, err := p.Gate.Slots(ctx)
			out := sealSlotsOut{make([]SealSlot, len(slots))}
			for i, s := range slots {
				out.Slots[i] = slotOf(s)
			}
			return out, err
		}),
		op.Def[addSlotIn, addSlotOut]{
			Name: "system.seal.slots.add", Verb: op.Update, Path: "seal/slots", Sudo: true,
			Does: "Add a seal slot. Adding one and then removing another moves the store from one seal to the other.",
		}.With(p.addSlot),
		op.Def[slotIn, op.Empty]{
			Name: "system.seal.slots.remove", Verb: op.Delete, Path: "seal/slots/{id}", Sudo: true, Does: "Remove a seal slot; the last one cannot be.",
		}.With(func(ctx context.Context, c *op.Call, in slotIn) (op.Empty, error) {
			configured, err := p.Gate.RemoveSlot(ctx, in.ID)
			if err == nil && configured {
				c.Warn("the configuration names a seal of this kind: take it out, or it gets a slot again when the store is next unsealed")
			}
			return op.Empty{}, err
		}),
	}
}

func (p *Parts) addSlot(ctx context.Context, _ *op.Call, in addSlotIn) (addSlotOut, error) {
	switch in.Kind {
	case "shamir":
		slot, shares, err := p.Gate.AddShares(ctx, in.Shares, in.Threshold)
		out := addSlotOut{Slot: slotOf(slot)}
		out.Keys, out.KeysBase64 = textsOf(shares)
		return out, err
	case "age":
		slot, err := p.Gate.AddRecipients(ctx, in.Recipients)
		return addSlotOut{Slot: slotOf(slot)}, err
	}
	return addSlotOut{}, fault.New(fault.Invalid, "a slot of kind shamir or age can be added; other seals come from the configuration")
}

func textsOf(shares []gate.Share) (hex, base64 []secret.Text) {
	for _, s := range shares {
		hex, base64 = append(hex, s.Hex), append(base64, s.Base64)
	}
	return hex, base64
}
