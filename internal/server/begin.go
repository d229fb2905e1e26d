package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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
	journal := c.auditDir()
	if rel, err := filepath.Rel(c.Data, journal); err == nil && filepath.IsLocal(rel) {
		return roomAt(c.Data, func(free, total int64) error { return enough(free, total, c.Audit.SegmentBytes) })
	}
	if err := roomAt(c.Data, func(free, _ int64) error { return fits(free, beginning) }); err != nil {
		return err
	}
	return roomAt(nearest(journal), func(free, total int64) error { return fits(free, ofJournal(total, c.Audit.SegmentBytes)) })
}

// roomAt asks what there is on the disk of dir, and has it judged.
func roomAt(dir string, judge func(free, total int64) error) error {
	free, total, err := space(dir)
	if err != nil {
		return fmt.Errorf("asking how much room there is in %s: %w", dir, err)
	}
	if err := judge(free, total); err != nil {
		return fmt.Errorf("beginning a node in %s: %w", dir, err)
	}
	return nil
}

// nearest returns dir, or what there is of the way to it.
func nearest(dir string) string {
	for {
		above := filepath.Dir(dir)
		if _, err := os.Stat(dir); err == nil || above == dir {
			return dir
		}
		dir = above
	}
}

func enough(free, total, configured int64) error {
	return fits(free, beginning+ofJournal(total, configured))
}

// ofJournal returns how many bytes a journal takes that begins, on a disk of total.
func ofJournal(total, configured int64) int64 {
	reserve, segment := audit.Room(total)
	if configured > 0 {
		segment = configured
	}
	return reserve + 2*segment
}

func fits(free, need int64) error {
	if free < need {
		return fmt.Errorf("its disk has %d MiB left, and %d MiB are needed to begin with; make room, or choose a larger disk", free>>20, (need+1<<20-1)>>20)
	}
	return nil
}
