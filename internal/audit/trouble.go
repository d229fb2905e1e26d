package audit

// Trouble is why a journal takes no records. The zero value is none.
type Trouble string

// What can be the matter with a journal.
const (
	Full   Trouble = "full"   // it goes on by itself once there is space
	Stuck  Trouble = "stuck"  // it goes on by itself once the disk answers
	Failed Trouble = "failed" // it must be opened anew
)

// Trouble returns why the journal takes no records, but critical ones where its
// disk is full; none where it takes all.
func (j *Journal) Trouble() Trouble {
	j.main.mu.Lock()
	defer j.main.mu.Unlock()
	switch {
	case j.main.poison != nil:
		return Failed
	case j.main.stuck:
		return Stuck
	case j.main.full:
		return Full
	}
	return ""
}
