package bolt

// Waiting returns how many transactions wait in the open batch.
func (s *Store) Waiting() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open.n
}

// These are for FuzzKey.
var (
	EncodeKey   = encodeKey
	DecodeKey   = decodeKey
	EncodeValue = encodeValue
	DecodeValue = decodeValue
)

// Looked is closed when the file has been looked through, or need not be.
func (s *Store) Looked() <-chan struct{} { return s.looked }
