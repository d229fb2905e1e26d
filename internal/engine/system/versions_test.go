package system

import (
	"fmt"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

var began = time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)

func versionsIn(t testing.TB, s storage.Store) (row versionsRow) {
	t.Helper()
	err := s.View(t.Context(), func(r storage.Reader) (err error) {
		row, err = readVersions(r)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func TestVersionsAreRecordedOnce(t *testing.T) {
	t.Parallel()
	storagetest.EachFailure(t, func(testing.TB) storage.Store { return mem.New(mem.Config{}) }, func(s storage.Store) error {
		for i, version := range []string{"1.0.0", "1.0.0", "1.1.0", "1.0.0"} {
			if err := RecordVersion(t.Context(), s, Info{Version: version}, began.Add(time.Duration(i)*time.Hour)); err != nil {
				return err
			}
		}
		return nil
	}, func(t testing.TB, s storage.Store) {
		want := []string{"1.0.0", "1.1.0", "1.0.0"}
		got := versionsIn(t, s).Versions
		if len(got) > len(want) {
			t.Fatalf("versions = %v; want no more than %v", got, want)
		}
		for i, v := range got {
			if v.Version != want[i] {
				t.Errorf("versions = %v; want the first of %v", got, want)
			}
		}
	})
}

func TestVersionsAreBounded(t *testing.T) {
	t.Parallel()
	s := mem.New(mem.Config{})
	for i := range 2 * maxVersions {
		if err := RecordVersion(t.Context(), s, Info{Version: fmt.Sprint(i)}, began); err != nil {
			t.Fatal(err)
		}
	}
	got := versionsIn(t, s).Versions
	if len(got) != maxVersions || got[0].Version != "0" || got[1].Version != fmt.Sprint(maxVersions+1) || got[maxVersions-1].Version != fmt.Sprint(2*maxVersions-1) {
		t.Errorf("%d versions, from %s to %s; want the first and the last of all", len(got), got[0].Version, got[len(got)-1].Version)
	}
}

// TestVersionHistory: a version that was gone back to is shown once.
func TestVersionHistory(t *testing.T) {
	t.Parallel()
	s := mem.New(mem.Config{})
	for _, version := range []string{"1.0.0", "1.1.0", "1.0.0"} {
		if err := RecordVersion(t.Context(), s, Info{Version: version}, began); err != nil {
			t.Fatal(err)
		}
	}
	var out versionsOut
	for _, o := range versionsOf(s) {
		got, err := o.Run(t.Context(), &op.Call{}, source{func(any) {}}, func(op.Ask) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		out = got.(versionsOut)
	}
	if len(out.Keys) != 2 || out.Keys[0] != "1.0.0" || out.KeyInfo["1.0.0"].Previous != nil || *out.KeyInfo["1.1.0"].Previous != "1.0.0" {
		t.Errorf("version history = %+v; want 1.0.0, then 1.1.0", out)
	}
}
