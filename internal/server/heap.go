package server

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"rotunda.dev/rotunda/internal/clock"
)

// A node's live heap is a few megabytes, so that a collector which runs
// whenever that has doubled runs hundreds of times a second under load. It may
// have spareHeap of garbage before it is collected, or as much as is alive,
// whichever is more; mostPercent bounds how it starts.
const (
	spareHeap   = 16 << 20
	mostPercent = 800
	heapPause   = 5 * time.Second
)

// tendHeap sets how much garbage there may be until ctx ends, by how much is
// alive. Where the environment says GOGC or GOMEMLIMIT, it does nothing.
func tendHeap(ctx context.Context, c clock.Clock) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if _, set := os.LookupEnv(name); set {
			return
		}
	}
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	last := 0
	for {
		metrics.Read(live)
		if percent := garbagePercent(live[0].Value.Uint64()); percent != last {
			debug.SetGCPercent(percent)
			last = percent
		}
		if c.Wait(ctx, c.Now().Add(heapPause)) != nil {
			return
		}
	}
}

// garbagePercent returns GOGC for a live heap of so many bytes.
func garbagePercent(live uint64) int {
	return int(min(max(spareHeap*100/max(live, 1), 100), mostPercent))
}
