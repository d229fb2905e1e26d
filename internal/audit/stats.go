package audit

// Stats counts what a journal has made durable since it was opened.
type Stats struct {
	Records uint64
	Bytes   uint64 // of records, encrypted and framed
	Syncs   uint64 // each for a batch of records
}

// Stats returns what j has made durable since it was opened.
func (j *Journal) Stats() Stats {
	j.main.mu.Lock()
	defer j.main.mu.Unlock()
	return j.main.stats
}
