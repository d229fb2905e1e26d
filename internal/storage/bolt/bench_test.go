package bolt_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/bolt"
)

// What one update writes in these benchmarks: a head and a version of a
// secret, of which there are many.
const (
	benchSecrets = 10_000
	benchHead    = 200
	benchVersion = 600
)

func benchScope(i uint64) string {
	return fmt.Sprintf("s%016x%020x", i%benchSecrets*0x9E3779B97F4A7C15, i%benchSecrets)
}

// parallel runs do n times by the given number of goroutines.
func parallel(goroutines, n int, do func(i uint64) error) error {
	var (
		next  atomic.Uint64
		wg    sync.WaitGroup
		first error
		once  sync.Once
	)
	for range goroutines {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > uint64(n) {
					return
				}
				if err := do(i); err != nil {
					once.Do(func() { first = err })
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}

func ours(ctx context.Context, s storage.Store, i uint64) error {
	scope := benchScope(i)
	return s.Update(ctx, storage.Locks{Own: []string{scope}, Join: []string{"m"}}, func(tx storage.Tx) error {
		if _, err := tx.GetMany([]storage.Key{{Scope: scope, Row: "h"}, {Scope: "m", Row: "k"}}); err != nil {
			return err
		}
		tx.Put(storage.Key{Scope: scope, Row: "h"}, make([]byte, benchHead))
		tx.Put(storage.Key{Scope: scope, Row: string(binary.BigEndian.AppendUint64([]byte("v"), i))}, make([]byte, benchVersion))
		return nil
	})
}

// theirs does the same by bbolt's own Batch.
func theirs(db *bbolt.DB, i uint64) error {
	scope := benchScope(i)
	return db.Batch(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("rows"))
		_, _ = b.Get([]byte(scope+"h")), b.Get([]byte("mk"))
		if err := b.Put([]byte(scope+"h"), make([]byte, benchHead)); err != nil {
			return err
		}
		return b.Put(binary.BigEndian.AppendUint64([]byte(scope+"v"), i), make([]byte, benchVersion))
	})
}

func openTheirs(b *testing.B) *bbolt.DB {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "db"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	if err := db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("rows")); return err }); err != nil {
		b.Fatal(err)
	}
	return db
}

// BenchmarkUpdate measures updates by 1 and by 64 writers and, in the same
// run, the same work by bbolt's Batch with a batch of as many as there are
// writers, which is the best that it can be told. The ratio is ours by theirs.
func BenchmarkUpdate(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprint("writers=", writers), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "store"), bolt.Config{})
			db := openTheirs(b)
			db.MaxBatchSize = writers
			ctx := b.Context()
			// By turns, so that both meet the same disk.
			const turns = 8
			var batch, own time.Duration
			b.ResetTimer()
			for turn := range turns {
				n, base := b.N*(turn+1)/turns-b.N*turn/turns, uint64(b.N*turn/turns)
				start := time.Now()
				if err := parallel(writers, n, func(i uint64) error { return theirs(db, base+i) }); err != nil {
					b.Fatal(err)
				}
				batch += time.Since(start)
				start = time.Now()
				if err := parallel(writers, n, func(i uint64) error { return ours(ctx, s, base+i) }); err != nil {
					b.Fatal(err)
				}
				own += time.Since(start)
			}
			b.StopTimer()
			st := s.Stats()
			b.ReportMetric(float64(st.Updates)/float64(st.Commits), "updates/commit")
			b.ReportMetric(float64(b.N)/own.Seconds(), "updates/s")
			b.ReportMetric(float64(b.N)/batch.Seconds(), "bbolt-updates/s")
			b.ReportMetric(batch.Seconds()/own.Seconds(), "ratio")
		})
	}
}

func BenchmarkGet(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "store"), bolt.Config{})
	ctx := b.Context()
	if err := parallel(64, benchSecrets, func(i uint64) error { return ours(ctx, s, i) }); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var n atomic.Uint64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			scope := benchScope(n.Add(1))
			if err := s.View(ctx, func(r storage.Reader) error {
				_, err := r.Get(storage.Key{Scope: scope, Row: "h"})
				return err
			}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkChanges(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "store"), bolt.Config{})
	ctx := b.Context()
	c, err := s.Changes(ctx, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if c, err = s.Changes(ctx, c.Mark); err != nil {
			b.Fatal(err)
		}
	}
}
