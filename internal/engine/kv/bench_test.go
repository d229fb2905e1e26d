package kv_test

import (
	"fmt"
	"testing"

	"rotunda.dev/rotunda/internal/engine/enginetest"
	"rotunda.dev/rotunda/internal/engine/kv"
)

const benchData = `{"username":"app","password":"0123456789abcdef0123456789abcdef","host":"db.example.org","port":5432}`

func BenchmarkRead(b *testing.B) {
	for _, versions := range []int{1, 10} {
		b.Run(fmt.Sprintf("versions=%d", versions), func(b *testing.B) {
			m := newMount(b)
			for range versions {
				m.mustWrite("team/app/db", benchData)
			}
			for b.Loop() {
				if _, err := enginetest.Do(b.Context(), m.Rig, kv.Read, kv.ReadIn{Path: "team/app/db"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWrite(b *testing.B) {
	b.Run("update", func(b *testing.B) {
		m := newMount(b)
		for b.Loop() {
			m.mustWrite("team/app/db", benchData)
		}
	})
	b.Run("create", func(b *testing.B) {
		m := newMount(b)
		n := 0
		for b.Loop() {
			n++
			m.mustWrite(fmt.Sprintf("team/app%06d/db", n), benchData)
		}
	})
}

func BenchmarkList(b *testing.B) {
	m := newMount(b)
	for n := range 1000 {
		m.mustWrite(fmt.Sprintf("s%04d", n), benchData)
	}
	for b.Loop() {
		if _, err := m.list(kv.ListIn{}); err != nil {
			b.Fatal(err)
		}
	}
}
