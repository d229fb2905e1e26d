package listen

import (
	"math"
	"time"
)

// Limits bounds what a client can make the server hold. A zero field stands
// for the default; a negative one is no bound, where that makes sense.
type Limits struct {
	Connections      int           // at once; 20 000
	PerIP            int           // at once from one address; 500
	Handshake        time.Duration // 5 s
	ReadHeader       time.Duration // 5 s
	HeaderBytes      int           // 32 KiB
	HeaderCount      int           // 100
	BodyRead         time.Duration // for a whole body; 10 s
	BodyGrace        time.Duration // after which a body must keep up BodyRate; 5 s
	BodyRate         int           // bytes a second; 1 KiB
	Write            time.Duration // for an answer, after the longest request; 60 s
	Idle             time.Duration // 60 s
	LongestRequest   time.Duration // 90 s
	Streams          int           // of one HTTP/2 connection at once; 100
	WindowBytes      int           // of one HTTP/2 connection; 1 MiB
	Resets           int           // streams that one HTTP/2 connection may give up in ResetWindow; 200
	ResetWindow      time.Duration // 10 s
	PendingHandshake int           // at once; 1 000
}

func (l Limits) withDefaults() Limits {
	n := func(v *int, d int) {
		switch {
		case *v == 0:
			*v = d
		case *v < 0:
			*v = math.MaxInt32
		}
	}
	t := func(v *time.Duration, d time.Duration) {
		switch {
		case *v == 0:
			*v = d
		case *v < 0:
			*v = 1 << 53 // 104 days; far enough, and does not overflow when added to
		}
	}
	n(&l.Connections, 20_000)
	n(&l.PerIP, 500)
	n(&l.HeaderBytes, 32<<10)
	n(&l.HeaderCount, 100)
	n(&l.BodyRate, 1<<10)
	n(&l.Streams, 100)
	n(&l.WindowBytes, 1<<20)
	n(&l.Resets, 200)
	n(&l.PendingHandshake, 1_000)
	t(&l.Handshake, 5*time.Second)
	t(&l.ReadHeader, 5*time.Second)
	t(&l.BodyRead, 10*time.Second)
	t(&l.BodyGrace, 5*time.Second)
	t(&l.Write, time.Minute)
	t(&l.Idle, time.Minute)
	t(&l.LongestRequest, 90*time.Second)
	t(&l.ResetWindow, 10*time.Second)
	return l
}
