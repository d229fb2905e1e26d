package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
)

// batchRate measures how many writes a second of size bytes bbolt.DB.Batch
// makes durable for so many goroutines, each of which waits for its own: what
// somebody would have who kept values by that library alone.
func batchRate(dir string, writers, size int, length time.Duration) (rate float64, err error) {
	at, err := os.MkdirTemp(dir, "batch-*")
	if err != nil {
		return 0, fmt.Errorf("making a directory for bbolt: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(at)) }()
	db, err := bbolt.Open(filepath.Join(at, "batch.db"), 0o600, nil)
	if err != nil {
		return 0, fmt.Errorf("opening bbolt: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	bucket := []byte("rows")
	if err := db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(bucket)
		return err
	}); err != nil {
		return 0, fmt.Errorf("making a bucket: %w", err)
	}
	var (
		wg     sync.WaitGroup
		wrote  atomic.Int64
		failed atomic.Pointer[error]
		stop   atomic.Bool
		value  = make([]byte, size)
	)
	begun := time.Now()
	timer := time.AfterFunc(length, func() { stop.Store(true) })
	defer timer.Stop()
	for w := range writers {
		wg.Go(func() {
			var key [16]byte
			binary.BigEndian.PutUint64(key[:], uint64(w)) //nolint:gosec // not negative
			for n := uint64(0); !stop.Load(); n++ {
				binary.BigEndian.PutUint64(key[8:], n)
				if err := db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put(key[:], value) }); err != nil {
					failed.Store(&err)
					return
				}
				wrote.Add(1)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, fmt.Errorf("writing by bbolt: %w", *err)
	}
	return float64(wrote.Load()) / time.Since(begun).Seconds(), nil
}
