package audit_test

import (
	"testing"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/audit/audittest"
	"rotunda.dev/rotunda/internal/clock"
)

// sized is a disk that says how large it is.
type sized struct {
	audit.Disk
	total int64
}

func (s sized) Total() (int64, error) { return s.total, nil }

func TestASmallDiskHoldsASmallReserve(t *testing.T) {
	t.Parallel()
	disk := audittest.NewDisk()
	j, err := audit.Open("", audit.Config{KeysDir: t.TempDir(), Clock: clock.System{}, Disk: sized{disk, 80 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := len(disk.Content("reserve")), 10<<20; got != want {
		t.Errorf("on a disk of 80 MiB the journal holds back %d bytes; want %d", got, want)
	}
	for _, c := range []struct{ total, reserve, segment int64 }{
		{100 << 30, 64 << 20, 16 << 20},
		{80 << 20, 10 << 20, 5 << 20},
		{0, 64 << 10, 64 << 10},
	} {
		if reserve, segment := audit.Room(c.total); reserve != c.reserve || segment != c.segment {
			t.Errorf("Room(%d) = %d, %d; want %d, %d", c.total, reserve, segment, c.reserve, c.segment)
		}
	}
}
