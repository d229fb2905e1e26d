package archtest

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	fuzzRow    = regexp.MustCompile("(?m)^\\| `([\\w/]+)` \\| `(Fuzz\\w+)` \\| [^|]+ \\|$")
)

// TestFuzzTargetsAreListed wants every fuzz target in docs/properties.md, with
// what it holds, and no other there.
func TestFuzzTargetsAreListed(t *testing.T) {
	t.Parallel()
	var there, listed []string
	walk(t, func(file string) error {
		if !strings.HasSuffix(file, "_test.go") {
			return nil
		}
		src, err := fs.ReadFile(root, file)
		for _, m := range fuzzTarget.FindAllSubmatch(src, -1) {
			there = append(there, path.Dir(file)+" "+string(m[1]))
		}
		return err
	})
	page, err := fs.ReadFile(root, "docs/properties.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range fuzzRow.FindAllSubmatch(page, -1) {
		listed = append(listed, string(m[1])+" "+string(m[2]))
	}
	slices.Sort(there)
	slices.Sort(listed)
	if len(there) == 0 || !slices.Equal(there, listed) {
		t.Errorf("docs/properties.md lists the fuzz targets\n%s\nand there are\n%s", strings.Join(listed, "\n"), strings.Join(there, "\n"))
	}
}
