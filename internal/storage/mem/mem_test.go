package mem_test

import (
	"errors"
	"testing"

	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
)

func TestUpdateThenView(t *testing.T) {
	s := mem.New(mem.Config{})
	k := storage.Key{Scope: "s", Row: "r"}
	ctx := t.Context()
	if err := s.Update(ctx, storage.Locks{}, func(tx storage.Tx) error { tx.Put(k, []byte("v")); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.View(ctx, func(r storage.Reader) error {
		v, err := r.Get(k)
		if string(v) != "v" || err != nil {
			t.Errorf("Get = %q, %v; want v", v, err)
		}
		_, err = r.Get(storage.Key{Scope: "s"})
		if !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Get of nothing = %v; want ErrNotFound", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
