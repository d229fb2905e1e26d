//go:build unix

package audit_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/audit/audittest"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage/mem"
)

// cpu returns what this process has used of its cores.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkVerifySigned is what a stranger does with a copy: chain, tree and
// every checkpoint. The rate is that of one core, however many others use it.
func BenchmarkVerifySigned(b *testing.B) {
	const n = 100_000
	dir := b.TempDir()
	j, err := audit.Open(dir, audit.Config{KeysDir: b.TempDir(), Clock: clock.System{}, Reserve: -1})
	if err != nil {
		b.Fatal(err)
	}
	if err := j.Unlock(newRig(b).Key, mem.New(mem.Config{})); err != nil {
		b.Fatal(err)
	}
	if err := j.Certify(seed(1), cluster); err != nil {
		b.Fatal(err)
	}
	key := keyOf(b, j)
	appendMany(b, j, 0, n)
	mustClose(b, j)
	r, err := audit.OpenReader(dir, secret.Bytes{})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	var rep audit.Report
	b.ResetTimer()
	before := cpu(b)
	for range b.N {
		if rep, err = r.VerifySigned(b.Context(), audit.Trust{Key: key}, nil); err != nil || rep.Signed.Records < n {
			b.Fatalf("VerifySigned() = %+v, %v", rep, err)
		}
	}
	rate := float64(rep.Records) * float64(b.N)
	b.ReportMetric(rate/(cpu(b)-before).Seconds(), "records/s/core")
	b.ReportMetric(float64(rep.Bytes)/float64(rep.Records), "B/record")
	b.ReportMetric(float64(rep.Signed.Checkpoints), "checkpoints")
}

// BenchmarkCertifiedCPU is what a record costs in all, with and without checkpoints.
func BenchmarkCertifiedCPU(b *testing.B) {
	for name, sign := range map[string]bool{"checkpoints": true, "none": false} {
		b.Run(name, func(b *testing.B) {
			const n = 30_000
			before := time.Duration(0)
			for range b.N {
				g := audittest.NewRig(b, mem.New(mem.Config{}))
				g.Config.SegmentBytes = 16 << 20
				j := g.Open(b)
				if sign {
					if err := j.Certify(seed(1), cluster); err != nil {
						b.Fatal(err)
					}
				}
				at := cpu(b)
				appendMany(b, j, 0, n)
				if sign {
					checkpoint(b, j, last(b, j))
				}
				before += cpu(b) - at
				mustClose(b, j)
			}
			b.ReportMetric(float64(before.Nanoseconds())/float64(n*b.N), "cpu-ns/record")
		})
	}
}
