package bolt

// defaultMaxSize is how far the file is mapped from the start; here, a file
// is made as long as its map. It is never mapped anew: that would have to
// wait until nobody reads, and someone always does.
const defaultMaxSize = 1 << 28
