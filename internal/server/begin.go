package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"rotunda.dev/rotunda/internal/audit"
)

// beginning is what a node's first files take beside its journal: the store,
// which grows by 16 MiB at a time, and the tree of the journal.
const beginning = 20 << 20

// roomToBegin refuses a node that has no store yet where its disk has no room
// for what it begins with. A node that has one starts on a full disk as well:
// it answers what it can.
func roomToBegin(c Config) error {
	if _, err := os.Stat(storeDir(c.Data)); !errors.Is(err, fs.ErrNotExist) {
		return nil // who opens the store says what is the matter
	}
	free, total, err := space(c.Data)
	if err != nil {
		return fmt.Errorf("asking how much room there is in %s: %w", c.Data, err)
	}
	if err := enough(free, total, c.Audit.SegmentBytes); err != nil {
		return fmt.Errorf("beginning a node in %s: %w", c.Data, err)
	}
	return nil
}

func enough(free, total, configured int64) error {
	reserve, segment := audit.Room(total)
	if configured > 0 {
		segment = configured
	}
	if need := beginning + reserve + 2*segment; free < need {
		return fmt.Errorf("its disk has %d MiB left, and %d MiB are needed to begin with; make room, or choose a larger disk", free>>20, (need+1<<20-1)>>20)
	}
	return nil
}
