// Package shamir seals the root key under a key that is split among people: any
// threshold of the shares give it back, and fewer tell nothing.
//
// A stanza holds a commitment to each share, so that a share which is damaged,
// forged or of another set is named when it is brought, and not only found to
// have spoilt the whole.
package shamir

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
)

// Kind names the stanzas of this package. Their arguments are the number of
// shares, the threshold and the set's id; their body begins with a commitment
// to each share.
const Kind = "shamir"

// MaxShares is how many shares there can be.
const MaxShares = 255

const commitSize = 16

// Check reports whether there can be so many shares with this threshold: 1 to
// 255, and a threshold of at least 2 unless there is one share only.
func Check(shares, threshold int) error {
	switch {
	case shares < 1 || shares > MaxShares:
		return fmt.Errorf("there can be 1 to %d shares, not %d", MaxShares, shares)
	case threshold < 1 || threshold > shares:
		return fmt.Errorf("the threshold can be 1 to the number of shares, %d, not %d", shares, threshold)
	case threshold == 1 && shares > 1:
		return errors.New("with more than one share the threshold must be at least 2: one share alone would open the store")
	}
	return nil
}

// Split wraps root under a random key and splits that key into shares, any
// threshold of which give it back.
func Split(root secret.Bytes, shares, threshold int, binding []byte) (seal.Stanza, []Share, error) {
	if err := Check(shares, threshold); err != nil {
		return seal.Stanza{}, nil, err
	}
	key := secret.NewBytes(aead.NewKey())
	defer key.Wipe()
	set := make([]byte, setSize)
	rand.Read(set)
	values := split(key, shares, threshold)
	var extra []byte
	out := make([]Share, shares)
	for i, v := range values {
		out[i] = newShare(set, threshold, i+1, v)
		value := secret.NewBytes(v)
		extra = append(extra, commitment(set, i+1, value)...)
		value.Wipe()
	}
	args := []string{strconv.Itoa(shares), strconv.Itoa(threshold), hex.EncodeToString(set)}
	st, err := seal.Wrap(Kind, args, extra, key, root, binding)
	if err != nil {
		for _, s := range out {
			s.Wipe()
		}
		return seal.Stanza{}, nil, err
	}
	return st, out, nil
}

func split(key secret.Bytes, shares, threshold int) [][]byte {
	values := make([][]byte, shares)
	for i := range values {
		values[i] = make([]byte, aead.KeySize)
	}
	polynomial := make([]byte, threshold)
	defer clear(polynomial)
	_ = key.Use(func(plain []byte) error {
		for at, b := range plain {
			rand.Read(polynomial)
			polynomial[0] = b
			for i := range values {
				values[i][at] = eval(polynomial, byte(i+1))
			}
		}
		return nil
	})
	return values
}

// commitment tells a share from any other. It tells nothing of the value,
// which is 32 random bytes.
func commitment(set []byte, index int, value secret.Bytes) []byte {
	return aead.Expand(value, "rotunda share "+hex.EncodeToString(set)+" "+strconv.Itoa(index), commitSize)
}

// slot is what a stanza says.
type slot struct {
	stanza            seal.Stanza
	shares, threshold int
	set               []byte
}

func read(st seal.Stanza) (slot, error) {
	damaged := fmt.Errorf("stanza of the shares: %w", seal.ErrDamaged)
	if st.Kind != Kind {
		return slot{}, seal.ErrNotMine
	}
	if len(st.Args) != 3 {
		return slot{}, damaged
	}
	shares, err1 := strconv.Atoi(st.Args[0])
	threshold, err2 := strconv.Atoi(st.Args[1])
	set, err3 := hex.DecodeString(st.Args[2])
	if errors.Join(err1, err2, err3) != nil || Check(shares, threshold) != nil || len(set) != setSize || len(st.Body) < shares*commitSize {
		return slot{}, damaged
	}
	return slot{st, shares, threshold, set}, nil
}

// check reports whether a share is one of the slot's.
func (s slot) check(share Share) error {
	index := share.Index()
	if share.Set() != s.stanza.Args[2] {
		return fmt.Errorf("share %d belongs to set %s, and this store is sealed by set %s: %w", index, share.Set(), s.stanza.Args[2], seal.ErrBadShare)
	}
	if index < 1 || index > s.shares || share.Threshold() != s.threshold {
		return fmt.Errorf("share %d is not one of the set's: %w", index, seal.ErrBadShare)
	}
	value := share.value()
	defer value.Wipe()
	want := s.stanza.Body[(index-1)*commitSize : index*commitSize]
	if subtle.ConstantTimeCompare(commitment(s.set, index, value), want) != 1 {
		return fmt.Errorf("share %d is forged: %w", index, seal.ErrBadShare)
	}
	return nil
}

// combine opens the slot with as many shares as its threshold, which were checked.
func (s slot) combine(shares []Share, binding []byte) (secret.Bytes, error) {
	xs := make([]byte, len(shares))
	for i, share := range shares {
		xs[i] = byte(share.Index()) //nolint:gosec // G115: it was a byte
	}
	key := make([]byte, aead.KeySize)
	for i, w := range weights(xs) {
		value := shares[i].value()
		_ = value.Use(func(plain []byte) error {
			for at := range key {
				key[at] ^= mul(w, plain[at])
			}
			return nil
		})
		value.Wipe()
	}
	k := secret.NewBytes(key)
	defer k.Wipe()
	root, err := s.stanza.Unwrap(s.shares*commitSize, k, binding)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("opening the root key with the shares: %w", err)
	}
	return root, nil
}

// Collect gathers shares from people, one at a time. It is safe for concurrent use.
type Collect struct {
	slot    slot
	binding []byte

	mu    sync.Mutex
	have  []Share
	nonce string
}

// NewCollect begins to gather the shares of a stanza.
func NewCollect(st seal.Stanza, binding []byte) (*Collect, error) {
	s, err := read(st)
	if err != nil {
		return nil, err
	}
	return &Collect{slot: s, binding: binding}, nil
}

// Progress says how far a collection is.
type Progress struct {
	Have      int    // shares that were brought
	Threshold int    // and are needed
	Shares    int    // that there are
	Nonce     string // of this round, a UUID; "" before its first share
}

// Progress returns how far the collection is.
func (c *Collect) Progress() Progress {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Progress{len(c.have), c.slot.threshold, c.slot.shares, c.nonce}
}

// Reset forgets the shares that were brought.
func (c *Collect) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resetLocked()
}

func (c *Collect) resetLocked() {
	for _, s := range c.have {
		s.Wipe()
	}
	c.have, c.nonce = nil, ""
}

// Add takes a share. With the last one that is needed it returns the root key,
// and forgets the shares. Before that its error wraps [seal.ErrMoreShares],
// which is an answer. [seal.ErrBadShare] and [seal.ErrDuplicateShare] name the
// share in question and leave the others as they were; any other error ends the round.
func (c *Collect) Add(text secret.Text) (secret.Bytes, error) {
	share, err := ParseShare(text)
	if err != nil {
		return secret.Bytes{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.slot.check(share); err != nil {
		share.Wipe()
		return secret.Bytes{}, err
	}
	for _, have := range c.have {
		if have.Index() == share.Index() {
			share.Wipe()
			return secret.Bytes{}, fmt.Errorf("share %d: %w", have.Index(), seal.ErrDuplicateShare)
		}
	}
	if c.nonce == "" {
		c.nonce = newNonce()
	}
	c.have = append(c.have, share)
	if n := c.slot.threshold - len(c.have); n > 0 {
		return secret.Bytes{}, fmt.Errorf("%d of %d: %w", len(c.have), c.slot.threshold, seal.ErrMoreShares)
	}
	defer c.resetLocked()
	return c.slot.combine(c.have, c.binding)
}

func newNonce() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Config says how a [Sealer] splits, and where its shares come from and go to.
type Config struct {
	Shares, Threshold int

	// Deliver hands the shares out. They are wiped when it returns.
	Deliver func([]Share) error

	// Given returns the shares that were brought so far.
	Given func(context.Context) ([]secret.Text, error)
}

// Sealer is a [seal.Sealer] for those who have all the shares at once, as a
// tool has that works on a server's files. A server takes them one by one; see [Collect].
type Sealer struct{ c Config }

var _ seal.Sealer = (*Sealer)(nil)

// New returns a Sealer.
func New(c Config) *Sealer { return &Sealer{c} }

// Seal implements [seal.Sealer].
func (s *Sealer) Seal(_ context.Context, root secret.Bytes, binding []byte) (seal.Stanza, error) {
	if s.c.Deliver == nil {
		return seal.Stanza{}, errors.New("no one to deliver the shares to")
	}
	st, shares, err := Split(root, s.c.Shares, s.c.Threshold, binding)
	if err != nil {
		return seal.Stanza{}, err
	}
	defer func() {
		for _, share := range shares {
			share.Wipe()
		}
	}()
	if err := s.c.Deliver(shares); err != nil {
		return seal.Stanza{}, fmt.Errorf("delivering the shares: %w", err)
	}
	return st, nil
}

// Unseal implements [seal.Sealer].
func (s *Sealer) Unseal(ctx context.Context, stanzas []seal.Stanza, binding []byte) (secret.Bytes, error) {
	return seal.Each(Kind, stanzas, func(st seal.Stanza) (secret.Bytes, error) {
		c, err := NewCollect(st, binding)
		if err != nil {
			return secret.Bytes{}, err
		}
		defer c.Reset()
		var given []secret.Text
		if s.c.Given != nil {
			if given, err = s.c.Given(ctx); err != nil {
				return secret.Bytes{}, err
			}
		}
		for _, text := range given {
			root, err := c.Add(text)
			if !errors.Is(err, seal.ErrMoreShares) {
				return root, err
			}
		}
		return secret.Bytes{}, fmt.Errorf("%d of %d: %w", len(given), c.slot.threshold, seal.ErrMoreShares)
	})
}
