package server

import "testing"

func TestGarbagePercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, mostPercent},
		{1 << 20, mostPercent},
		{8 << 20, 200},
		{16 << 20, 100},
		{1 << 30, 100},
	} {
		if got := garbagePercent(c.live); got != c.want {
			t.Errorf("garbagePercent(%d) = %d; want %d", c.live, got, c.want)
		}
	}
}
