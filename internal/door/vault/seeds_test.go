package vault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// golden calls fn with every request of the golden wire files.
func golden(f *testing.F, fn func(method, target, body string)) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "server", "testdata", "wire", "*.txtar"))
	if err != nil || len(files) == 0 {
		f.Fatalf("the golden wire files are %q, %v", files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for i, section := range strings.Split(string(b), "-- request --\n") {
			if i == 0 {
				continue // what the file is about
			}
			request, _, _ := strings.Cut(section, "-- response --\n")
			line, rest, _ := strings.Cut(request, "\n")
			_, body, _ := strings.Cut("\n"+rest, "\n\n")
			method, target, _ := strings.Cut(line, " ")
			fn(method, target, strings.TrimSuffix(body, "\n"))
		}
	}
}
