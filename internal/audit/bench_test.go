package audit_test

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/audit/audittest"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage/mem"
)

func open(b *testing.B, dir string) *audit.Journal {
	b.Helper()
	j, err := audit.Open(dir, audit.Config{KeysDir: b.TempDir(), Clock: clock.System{}, Reserve: -1})
	if err != nil {
		b.Fatal(err)
	}
	if err := j.Unlock(newRig(b).Key, mem.New(mem.Config{})); err != nil {
		b.Fatal(err)
	}
	return j
}

// BenchmarkAppend compares 64 concurrent appenders with what the disk allows:
// the rate of bare syncs, times 64.
func BenchmarkAppend(b *testing.B) {
	for _, appenders := range []int{1, 64} {
		b.Run(map[int]string{1: "1", 64: "64"}[appenders], func(b *testing.B) {
			j := open(b, b.TempDir())
			defer mustClose(b, j)
			var next atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range appenders {
				wg.Go(func() {
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							return
						}
						if err := j.Append(b.Context(), audittest.Record(int(i))); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkAppendCPU is what an append costs besides the disk, which is in memory.
func BenchmarkAppendCPU(b *testing.B) {
	g := newRig(b)
	g.Config.SegmentBytes = 64 << 20
	j := g.Open(b)
	defer mustClose(b, j)
	records := make([]*audit.Record, 64)
	for i := range records {
		records[i] = audittest.Record(i)
	}
	var next atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for _, r := range records {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				r.ID = ""
				if err := j.Append(b.Context(), r); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkSync is the bare sync of a file whose every byte was written once.
func BenchmarkSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const size = 16 << 20
	buf := make([]byte, 40<<10)
	for off := int64(0); off < size; off += int64(len(buf)) {
		if _, err := f.WriteAt(buf, off); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	d := audit.SyncData(f)
	off := int64(0)
	for b.Loop() {
		buf[0]++
		if _, err := f.WriteAt(buf, off); err != nil {
			b.Fatal(err)
		}
		if err := d(); err != nil {
			b.Fatal(err)
		}
		off = (off + int64(len(buf))) % size
	}
}

func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	j := open(b, dir)
	var wg sync.WaitGroup
	const n = 20000
	for w := range 64 {
		wg.Go(func() {
			for i := w; i < n; i += 64 {
				if err := j.Append(b.Context(), audittest.Record(i)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	mustClose(b, j)
	for name, key := range map[string]bool{"chain": false, "opened": true} {
		b.Run(name, func(b *testing.B) {
			k := newRig(b).Key
			if !key {
				k = secret.Bytes{}
			}
			r, err := audit.OpenReader(dir, k)
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			for b.Loop() {
				if _, err := r.Verify(b.Context(), nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
