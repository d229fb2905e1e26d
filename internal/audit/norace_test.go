//go:build !race

package audit_test

// detecting says that the race detector runs, under which everything takes ten times as long.
const detecting = false
