package barrier

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

// holder is a Holder of rows that are one wrapped data key of the value v.
type holder struct{}

var held = Value{Secret: [16]byte{1}, Version: [16]byte{2}, Kind: 3}

func (holder) Holds(table byte, row string) bool { return table == 's' && row == "h" }

func (holder) Rewrap(row []byte, w Rewrapper) ([]byte, error) {
	again, err := w.RewrapValue(held, row)
	if err != nil || bytes.Equal(again, row) {
		return nil, err
	}
	return again, nil
}

// turn turns the key of a space, or goes on, and destroys the old one.
func turn(ctx context.Context, b *Barrier, id SpaceID) error {
	return turnAfter(ctx, b, id, func() {})
}

// turnAfter is turn, and waits before the old key is destroyed.
func turnAfter(ctx context.Context, b *Barrier, id SpaceID, wait func()) error {
	if _, err := b.TurnSpace(ctx, id); err != nil && !errors.Is(err, ErrTurning) {
		return err
	}
	gens, err := b.Generations(ctx, id)
	if err != nil {
		return err
	}
	for at, more := (Place{}), true; more; {
		if at, _, more, err = b.Sweep(ctx, id, at, holder{}); err != nil {
			return err
		}
	}
	wait()
	return b.RetireSpace(ctx, id, gens[len(gens)-1].Number)
}

func turnTerm(ctx context.Context, b *Barrier) error {
	if _, err := b.TurnTerm(ctx); err != nil {
		return err
	}
	if _, err := b.RewrapRecords(ctx); err != nil {
		return err
	}
	_, err := b.DropTerms(ctx)
	return err
}

// filled is an initialized store in memory with rows in two spaces.
func filled(t testing.TB, id SpaceID) (raw storage.Store, root secret.Bytes) {
	t.Helper()
	raw, root = mem.New(mem.Config{}), secret.NewBytes(aead.NewKey())
	if err := Create(t.Context(), raw, root, []seal.Stanza{stanza}); err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), raw, root)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	put(t, space(t, b, Core), "m", "r", []byte("core"))
	s := space(t, b, id)
	for i := range 3 {
		for row := range 20 {
			put(t, s, fmt.Sprintf("%cx%d", "as\xff"[i], i), fmt.Sprint(row), []byte(fmt.Sprint(i, row)))
		}
	}
	wrapped, sealed, err := s.Seal(held, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "s1", "h", wrapped)
	put(t, s, "s1", "v", sealed)
	return raw, root
}

func checkFilled(t testing.TB, b *Barrier, id SpaceID) {
	t.Helper()
	core, err := b.Space(t.Context(), Core)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := get(t, core, "m", "r"); string(got) != "core" {
		t.Errorf("Get = %q, %v; want core", got, err)
	}
	s, err := b.Space(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		for row := range 20 {
			if got, err := get(t, s, fmt.Sprintf("%cx%d", "as\xff"[i], i), fmt.Sprint(row)); string(got) != fmt.Sprint(i, row) {
				t.Errorf("row %d of scope %d = %q, %v", row, i, got, err)
			}
		}
	}
	wrapped, err1 := get(t, s, "s1", "h")
	sealed, err2 := get(t, s, "s1", "v")
	plain, err := s.Unseal(held, wrapped, sealed)
	if err := errors.Join(err1, err2, err); err != nil || string(plain) != "secret" {
		t.Errorf("Unseal = %q, %v; want secret", plain, err)
	}
}

func TestTurnSpace(t *testing.T) {
	id := NewSpaceID()
	var root secret.Bytes
	open := func(t testing.TB) (raw storage.Store) {
		raw, root = filled(t, id)
		return raw
	}
	do := func(raw storage.Store) error {
		b, err := Open(t.Context(), raw, root)
		if err != nil {
			return err
		}
		defer b.Close()
		return turn(t.Context(), b, id)
	}
	storagetest.EachFailure(t, open, do, func(t testing.TB, raw storage.Store) {
		b, err := Open(t.Context(), raw, root)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		checkFilled(t, b, id)
		if err := turn(t.Context(), b, id); err != nil {
			t.Fatalf("going on after a crash: %v", err)
		}
		checkFilled(t, b, id)
		gens, err := b.Generations(t.Context(), id)
		if err != nil || len(gens) != 1 || gens[0].Number < 2 || gens[0].Since.IsZero() {
			t.Errorf("Generations = %v, %v; want one", gens, err)
		}
	})
}

func TestTurnTerm(t *testing.T) {
	id := NewSpaceID()
	var root secret.Bytes
	open := func(t testing.TB) (raw storage.Store) {
		raw, root = filled(t, id)
		return raw
	}
	do := func(raw storage.Store) error {
		b, err := Open(t.Context(), raw, root)
		if err != nil {
			return err
		}
		defer b.Close()
		return turnTerm(t.Context(), b)
	}
	storagetest.EachFailure(t, open, do, func(t testing.TB, raw storage.Store) {
		b, err := Open(t.Context(), raw, root)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		checkFilled(t, b, id)
		put(t, space(t, b, NewSpaceID()), "s", "r", []byte("made between"))
		before, _ := b.Term()
		if err := turnTerm(t.Context(), b); err != nil {
			t.Fatalf("once more: %v", err)
		}
		if after, since := b.Term(); after != before+1 || since.IsZero() || b.Terms() != 1 {
			t.Errorf("Term = %d, %v after %d, of %d in the keyring; want one", after, since, before, b.Terms())
		}
		checkFilled(t, b, id)
	})
}

// TestFirstFormatOfKeys turns the key of a space whose record was written
// before it said since when a key is there.
func TestFirstFormatOfKeys(t *testing.T) {
	id := NewSpaceID()
	raw, root := filled(t, id)
	b, err := Open(t.Context(), raw, root)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	err = raw.Update(t.Context(), storage.Locks{}, func(tx storage.Tx) error {
		set, err := b.setOf(tx, id)
		if err != nil {
			return err
		}
		plain := []byte{format1}
		for _, list := range [][]spaceKey{set.gens, set.names} {
			plain = binary.BigEndian.AppendUint16(plain, uint16(len(list)))
			for _, x := range list {
				plain = append(binary.BigEndian.AppendUint32(plain, x.generation), x.key...)
			}
		}
		box, _ := b.ring.box(1)
		head := binary.BigEndian.AppendUint32([]byte{format1}, 1)
		tx.Put(storage.Key{Scope: KeyScope(id), Row: keyRow}, append(head, box.Seal(plain, recordAAD(b.cluster, id, 1))...))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	checkFilled(t, b, id)
	if gens, err := b.Generations(t.Context(), id); err != nil || len(gens) != 1 || !gens[0].Since.IsZero() {
		t.Errorf("Generations = %v, %v; want one of an unknown age", gens, err)
	}
	if err := errors.Join(turn(t.Context(), b, id), turnTerm(t.Context(), b)); err != nil {
		t.Fatal(err)
	}
	checkFilled(t, b, id)
	if gens, err := b.Generations(t.Context(), id); err != nil || len(gens) != 1 || gens[0].Since.IsZero() {
		t.Errorf("Generations = %v, %v; want one whose age is known", gens, err)
	}
}

// TestLargeRows turns the key of rows of which few go into one transaction, and
// of many scopes.
func TestLargeRows(t *testing.T) {
	b, _, _ := made(t)
	id := NewSpaceID()
	s := space(t, b, id)
	large := bytes.Repeat([]byte("x"), 600_000)
	for i := range 5 {
		put(t, s, "s", fmt.Sprint(i), large)
	}
	for i := range 100 {
		put(t, s, fmt.Sprint("t", i), "r", []byte("v"))
	}
	if err := turn(t.Context(), b, id); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if got, err := get(t, s, "s", fmt.Sprint(i)); !bytes.Equal(got, large) {
			t.Errorf("row %d has %d bytes, %v", i, len(got), err)
		}
	}
	for i := range 100 {
		if got, err := get(t, s, fmt.Sprint("t", i), "r"); string(got) != "v" {
			t.Errorf("scope %d = %q, %v", i, got, err)
		}
	}
}

// TestTermIsKeptWhileInUse holds the key of a term while keys of a space are under it.
func TestTermIsKeptWhileInUse(t *testing.T) {
	b, raw, root := made(t)
	id := NewSpaceID()
	put(t, space(t, b, id), "s", "r", []byte("v"))
	if _, err := b.TurnTerm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if dropped, err := b.DropTerms(t.Context()); dropped || err != nil {
		t.Errorf("DropTerms = %t, %v; want false", dropped, err)
	}
	b.Close()
	b, err := Open(t.Context(), raw, root)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got, err := get(t, space(t, b, id), "s", "r"); string(got) != "v" {
		t.Errorf("Get = %q, %v", got, err)
	}
}

// TestAnotherBarrierFollows turns keys under a barrier that has others in its memory.
func TestAnotherBarrierFollows(t *testing.T) {
	b, raw, root := made(t)
	id := NewSpaceID()
	s := space(t, b, id)
	put(t, s, "s", "r", []byte("v"))
	other, err := Open(t.Context(), raw, root)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for range 2 {
		if err := turnTerm(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		if err := turn(t.Context(), other, id); err != nil {
			t.Fatal(err)
		}
		put(t, space(t, other, id), "s", "r2", []byte("v2"))
	}
	if got, err := get(t, s, "s", "r2"); string(got) != "v2" {
		t.Errorf("Get = %q, %v; want what was written under the turned key", got, err)
	}
	put(t, s, "s", "r3", []byte("v3"))
	made := NewSpaceID()
	put(t, space(t, b, made), "s", "r", []byte("under the term of the store"))
	if dropped, err := other.DropTerms(t.Context()); !dropped || err != nil {
		t.Errorf("DropTerms = %t, %v; want true: the other barrier used the current term", dropped, err)
	}
	if got, err := get(t, space(t, other, made), "s", "r"); err != nil {
		t.Errorf("Get = %q, %v", got, err)
	}
}

// TestDestroyedStaysDestroyed deletes rows while the key is turned: none comes back.
func TestDestroyedStaysDestroyed(t *testing.T) {
	b, _, _ := made(t)
	id := NewSpaceID()
	s := space(t, b, id)
	const n = 200
	for i := range n {
		put(t, s, fmt.Sprint("s", i), "h", nil)
	}
	if _, err := b.TurnSpace(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			scope := fmt.Sprint("s", n-1-i)
			if err := s.Update(t.Context(), storage.Locks{Own: []string{scope}}, func(tx storage.Tx) error {
				tx.Delete(storage.Key{Scope: scope, Row: "h"})
				return nil
			}); err != nil {
				t.Error(err)
			}
		}
	})
	for range 5 {
		for at, more := (Place{}), true; more; {
			var err error
			if at, _, more, err = b.Sweep(t.Context(), id, at, nil); err != nil {
				t.Error(err)
				more = false
			}
		}
	}
	wg.Wait()
	for i := range n {
		if got, err := get(t, s, fmt.Sprint("s", i), "h"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("row %d is there again: %q, %v", i, got, err)
		}
	}
}

// TestTurnUnderLoad writes and reads all the time while keys are turned. Before
// an old key is destroyed, those end who have read what was under it.
func TestTurnUnderLoad(t *testing.T) {
	b, _, _ := made(t)
	id := NewSpaceID()
	s := space(t, b, id)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var reading sync.RWMutex
	for w := range 3 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				scope, text := fmt.Sprint("s", w, i%7), fmt.Sprint("value ", w, i)
				err := s.Update(t.Context(), storage.Locks{Own: []string{scope}}, func(tx storage.Tx) error {
					values, ok := tx.(ValueTx)
					if !ok {
						return errors.New("a transaction that seals no values")
					}
					wrapped, sealed, err := values.SealValue(held, []byte(text))
					tx.Put(storage.Key{Scope: scope, Row: "h"}, wrapped)
					tx.Put(storage.Key{Scope: scope, Row: "v"}, sealed)
					return err
				})
				if err != nil {
					t.Errorf("writing: %v", err)
					return
				}
				reading.RLock()
				wrapped, _ := get(t, s, scope, "h")
				sealed, _ := get(t, s, scope, "v")
				plain, err := s.Unseal(held, wrapped, sealed)
				reading.RUnlock()
				if err != nil || string(plain) != text {
					t.Errorf("reading = %q, %v; want %q", plain, err, text)
					return
				}
			}
		})
	}
	ended := func() {
		reading.Lock()
		defer reading.Unlock()
	}
	for range 8 {
		if err := errors.Join(turnAfter(t.Context(), b, id, ended), turnTerm(t.Context(), b)); err != nil {
			t.Error(err)
		}
	}
	cancel()
	wg.Wait()
}

// TestTermsUnderLoad turns terms while spaces are made, turned and read. Before
// older terms are dropped, those end who read the store as it was.
func TestTermsUnderLoad(t *testing.T) {
	b, raw, root := made(t)
	ctx, cancel := context.WithCancel(t.Context())
	var (
		wg      sync.WaitGroup
		reading sync.RWMutex
		mu      sync.Mutex
		all     []SpaceID
	)
	for range 3 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil && i < 200; i++ {
				id := NewSpaceID()
				if err := b.AddSpace(t.Context(), id); err != nil {
					t.Errorf("AddSpace: %v", err)
					return
				}
				if i%2 == 0 {
					if _, err := b.TurnSpace(t.Context(), id); err != nil {
						t.Errorf("TurnSpace: %v", err)
						return
					}
				}
				reading.RLock()
				s, err := b.Space(t.Context(), id)
				reading.RUnlock()
				if err != nil {
					t.Errorf("Space: %v", err)
					return
				}
				put(t, s, "s", "r", []byte("v"))
				mu.Lock()
				all = append(all, id)
				mu.Unlock()
			}
		})
	}
	for range 40 {
		if _, err := b.TurnTerm(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := b.RewrapRecords(t.Context()); err != nil {
			t.Error(err)
		}
		reading.Lock()
		_, err := b.DropTerms(t.Context())
		reading.Unlock()
		if err != nil {
			t.Error(err)
		}
	}
	cancel()
	wg.Wait()
	if err := turnTerm(t.Context(), b); err != nil || b.Terms() != 1 {
		t.Errorf("turning the term in the end = %v, %d terms", err, b.Terms())
	}
	again, err := Open(t.Context(), raw, root)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for _, id := range all {
		s, err := again.Space(t.Context(), id)
		if err != nil {
			t.Fatalf("a space was lost: %v", err)
		}
		if got, err := get(t, s, "s", "r"); string(got) != "v" {
			t.Fatalf("Get = %q, %v", got, err)
		}
	}
}

func TestTermsAreBounded(t *testing.T) {
	b, _, _ := made(t)
	for range maxTerms - 1 {
		if _, err := b.TurnTerm(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.TurnTerm(t.Context()); !errors.Is(err, ErrTurning) || b.Terms() != maxTerms {
		t.Errorf("TurnTerm with %d terms = %v; want ErrTurning", b.Terms(), err)
	}
	if n, err := b.RewrapRecords(t.Context()); n != 2 || err != nil {
		t.Errorf("RewrapRecords = %d, %v; want 2", n, err)
	}
	if n, err := b.RewrapRecords(t.Context()); n != 0 || err != nil {
		t.Errorf("RewrapRecords again = %d, %v; want 0", n, err)
	}
	if err := turnTerm(t.Context(), b); !errors.Is(err, ErrTurning) {
		t.Errorf("turning = %v", err)
	}
	if dropped, err := b.DropTerms(t.Context()); !dropped || err != nil || b.Terms() != 1 {
		t.Errorf("DropTerms = %t, %v, %d left", dropped, err, b.Terms())
	}
}

func TestCounts(t *testing.T) {
	b, raw, root := made(t)
	if err := b.LoadCounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := space(t, b, NewSpaceID())
	before := b.Encryptions()
	for range 100 {
		put(t, s, "s", "r", []byte("v"))
	}
	if n := b.Encryptions() - before; n != 100 {
		t.Errorf("100 writes count as %d", n)
	}
	gens, err := b.Generations(t.Context(), s.ID())
	if err != nil || len(gens) != 1 || gens[0].Seals != 100 {
		t.Errorf("Generations = %+v, %v; want 100 seals", gens, err)
	}
	all := b.Encryptions()
	b.Close() // as in a crash: what was counted is not written

	again, err := Open(t.Context(), raw, root)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.LoadCounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := again.Encryptions(); n < all || n > all+2*countBlock {
		t.Errorf("after a crash %d are counted; want %d and at most two blocks more", n, all)
	}
	n := again.Encryptions()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := again.Count(ctx); err != nil {
		t.Fatal(err)
	}
	again.Close()

	last, err := Open(t.Context(), raw, root)
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	if err := last.LoadCounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := last.Encryptions(); got < n || got > n+32 {
		t.Errorf("after an orderly end %d are counted; want %d", got, n)
	}
	if _, err := last.TurnTerm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := last.Encryptions(); got > 32 {
		t.Errorf("a term that has begun counts %d", got)
	}
}

func TestCountIsReservedInTime(t *testing.T) {
	b, _, _ := made(t)
	if err := b.LoadCounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := NewSpaceID()
	s := space(t, b, id)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Count(ctx) }()
	c := b.counts.live[id][1]
	c.n.Store(c.mark.Load() - 1)
	put(t, s, "s", "r", []byte("v")) // comes to the mark
	core := space(t, b, Core)
	for {
		if kept, err := get(t, core, countScope, string(id[:])); err == nil {
			x, err := parseCount(kept)
			if err != nil || x.n <= c.n.Load() {
				t.Errorf("a count of %d is kept as %d, %v", c.n.Load(), x.n, err)
			}
			break
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
