package audit

import "fmt"

// fit gives c the sizes that it does not name, by the size of the disk that
// the journal is on.
func (c *Config) fit(d Disk) error {
	reserve, segment := int64(defaultReserve), int64(defaultSegment)
	if sized, ok := d.(interface{ Total() (int64, error) }); ok {
		total, err := sized.Total()
		if err != nil {
			return fmt.Errorf("asking how large the journal's disk is: %w", err)
		}
		reserve, segment = Room(total)
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = segment
	}
	c.SegmentBytes = max(c.SegmentBytes, 4<<10)
	switch {
	case c.Reserve == 0:
		c.Reserve = reserve
	case c.Reserve < 0:
		c.Reserve = 0
	}
	return nil
}

// Room returns what a journal takes from a disk of total bytes where nothing
// is configured: what it holds back for critical records, an eighth but no
// more than 64 MiB, and the size of a segment, a sixteenth but no more than
// 16 MiB. There are two segments at least: one is made in advance.
//
// The size of the disk decides, and not what is free: a disk that is filling
// up must not make the reserve smaller that is for that day.
func Room(total int64) (reserve, segment int64) {
	return max(min(defaultReserve, total/8), 64<<10), max(min(defaultSegment, total/16), 64<<10)
}
