// Package archtest holds the import rules of ARCHITECTURE.md to be true.
package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
)

const module = "rotunda.dev/rotunda/internal/"

// layers lists, from the bottom, what everything above may import. A name
// ending in /* is a family: its members may not import one another.
var layers = [][]string{
	{"secret", "fault", "clock", "durable", "late", "name", "conf", "conf/tree"},
	{"wire", "op", "storage", "storage/overlay", "seal", "audit", "memory", "aead"},
	{
		"barrier", "fence", "directory", "policy", "identity", "token", "due", "lease", "mount", "engine", "auth",
		"safe", "keys", "backup", "pin", "rotation", "watch", "detect", "broker", "gate",
	},
	{"storage/*", "seal/*", "audit/*", "engine/*", "auth/*", "target/*"},
	{"door", "door/*", "listen", "localca", "metrics", "console", "agent", "scan", "bench", "cli", "cli/*"},
	{"builtin", "server"},
}

// base lists the third-party modules that the two lowest layers and the domain
// may import; everything else is an adapter's or an edge's.
var base = []string{
	"github.com/go-json-experiment/json", "github.com/hashicorp/hcl", "golang.org/x/text", "golang.org/x/crypto", "golang.org/x/sys",
	"golang.org/x/mod", "github.com/google/uuid",
}

func TestImportsPointDown(t *testing.T) {
	each(t, func(file, from string, imports []string) {
		layer, family := place(from)
		if layer < 0 {
			t.Errorf("%s has no layer: give it one here and a line in ARCHITECTURE.md", from)
			return
		}
		for _, imp := range imports {
			to, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			switch l, fam := place(to); {
			case l > layer:
				t.Errorf("%s (layer %d) imports %s (layer %d): imports point down", file, layer+1, to, l+1)
			case family != "" && fam == family && to != from && !strings.HasPrefix(family, "cli"):
				t.Errorf("%s imports %s: members of %s do not know one another", file, to, family)
			}
		}
	})
}

func TestTheDomainImportsNoStrangers(t *testing.T) {
	each(t, func(file, from string, imports []string) {
		if layer, _ := place(from); layer > 2 {
			return
		}
		for _, imp := range imports {
			first, _, _ := strings.Cut(imp, "/")
			if !strings.Contains(first, ".") || strings.HasPrefix(imp, module) {
				continue
			}
			known := false
			for _, b := range base {
				known = known || imp == b || strings.HasPrefix(imp, b+"/")
			}
			if !known {
				t.Errorf("%s imports %s: third-party code belongs to adapters and edges", file, imp)
			}
		}
	})
}

func each(t *testing.T, check func(file, pkg string, imports []string)) {
	t.Helper()
	root := os.DirFS("..") // read by this process, so that go test's cache sees a change
	err := fs.WalkDir(root, ".", func(file string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return err
		}
		from := path.Dir(file)
		if strings.HasSuffix(from, "test") {
			return nil // a test kit may import what it tests
		}
		src, err := fs.ReadFile(root, file)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		var imports []string
		for _, spec := range f.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			imports = append(imports, imp)
		}
		check(file, from, imports)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func place(pkg string) (layer int, family string) {
	for i, names := range layers {
		for _, name := range names {
			if ok, _ := path.Match(name, pkg); !ok {
				continue
			}
			if strings.HasSuffix(name, "/*") {
				return i, name
			}
			return i, ""
		}
	}
	return -1, ""
}
