package storagetest_test

import (
	"path/filepath"
	"testing"

	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/bolt"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

func openMem(testing.TB) storage.Store { return mem.New(mem.Config{}) }

func openBolt(t testing.TB) storage.Store {
	t.Helper()
	s, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestMem(t *testing.T)  { storagetest.Conform(t, openMem) }
func TestBolt(t *testing.T) { storagetest.Conform(t, openBolt) }
