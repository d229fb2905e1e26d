package system

// Trouble is what is the matter with the machine below a node, in one of a few
// words that anybody may read: who looks after the node finds more in its log,
// in sys/audit-journal and by rotunda doctor.
type Trouble string

// What can be the matter.
const (
	StoreFull     Trouble = "store-full"      // writes are refused, reads answered
	StoreReadOnly Trouble = "store-read-only" // likewise
	StoreStuck    Trouble = "store-stuck"     // likewise
	StoreFailed   Trouble = "store-failed"    // nothing is answered until the node is started anew
	StoreDamaged  Trouble = "store-damaged"   // some of it cannot be read

	JournalFull   Trouble = "audit-journal-full"   // nothing is answered, but what must go on
	JournalStuck  Trouble = "audit-journal-stuck"  // nothing is answered
	JournalFailed Trouble = "audit-journal-failed" // nothing is answered until the node is started anew

	SinkLate Trouble = "audit-sink-late" // a sink takes no records; they wait in the journal
)

// Troubles returns all that can be the matter.
func Troubles() []Trouble {
	return []Trouble{StoreFull, StoreReadOnly, StoreStuck, StoreFailed, StoreDamaged, JournalFull, JournalStuck, JournalFailed, SinkLate}
}

// stops reports whether nothing is answered because of t.
func (t Trouble) stops() bool {
	switch t {
	case StoreFailed, JournalFull, JournalStuck, JournalFailed:
		return true
	case StoreFull, StoreReadOnly, StoreStuck, StoreDamaged, SinkLate:
	}
	return false
}
