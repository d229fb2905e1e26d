package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the repository, read by this process, so that go test's cache sees a change.
var root = os.DirFS(filepath.Join("..", ".."))

// walk calls fn with every file of the repository that is neither hidden nor
// installed.
func walk(t *testing.T, fn func(file string) error) {
	t.Helper()
	err := fs.WalkDir(root, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && file != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if d.IsDir() {
			return nil
		}
		return fn(file)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestEverythingHasAComment wants a comment on every package that begins with
// what it is, and one on every exported name that begins with the name.
func TestEverythingHasAComment(t *testing.T) {
	t.Parallel()
	packages := map[string]bool{} // folder: whether a file of it has a package comment
	fset := token.NewFileSet()
	walk(t, func(file string) error {
		if path.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		src, err := fs.ReadFile(root, file)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, file, src, parser.ParseComments)
		if err != nil {
			return err
		}
		begins := "Package " + f.Name.Name + " "
		if f.Name.Name == "main" {
			begins = "Command " + path.Base(path.Dir(file)) + " "
		}
		packages[path.Dir(file)] = packages[path.Dir(file)] || strings.HasPrefix(f.Doc.Text(), begins)
		for _, d := range f.Decls {
			checkComment(t, fset, d)
		}
		return nil
	})
	for dir, has := range packages {
		if !has {
			t.Errorf("the package in %s has no comment that begins with its name", dir)
		}
	}
}

func checkComment(t *testing.T, fset *token.FileSet, d ast.Decl) {
	t.Helper()
	wants := func(name *ast.Ident, docs ...*ast.CommentGroup) {
		t.Helper()
		if !name.IsExported() {
			return
		}
		for _, doc := range docs {
			text := doc.Text()
			for _, article := range []string{"", "A ", "An ", "The "} {
				if strings.HasPrefix(text, article+name.Name) {
					return
				}
			}
		}
		t.Errorf("%s: %s has no comment that begins with its name", fset.Position(name.Pos()), name.Name)
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil || ast.IsExported(receiver(d.Recv.List[0].Type)) {
			wants(d.Name, d.Doc)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				wants(spec.Name, spec.Doc, d.Doc)
			case *ast.ValueSpec:
				// A group of values may have one comment for all of them.
				if spec.Doc == nil && spec.Comment == nil && d.Doc == nil && spec.Names[0].IsExported() {
					t.Errorf("%s: %s has no comment", fset.Position(spec.Pos()), spec.Names[0].Name)
				}
			}
		}
	}
}

func receiver(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.StarExpr:
		return receiver(x.X)
	case *ast.IndexExpr:
		return receiver(x.X)
	case *ast.IndexListExpr:
		return receiver(x.X)
	case *ast.Ident:
		return x.Name
	}
	return ""
}

// TestDocsNameWhatThereIs wants every link between pages to lead somewhere,
// every path of the repository that a page names to be there, and every test
// that it names to be in that folder.
func TestDocsNameWhatThereIs(t *testing.T) {
	t.Parallel()
	var (
		links = regexp.MustCompile(`\]\(([^)#]+)(?:#[^)]*)?\)`)
		named = regexp.MustCompile("`((?:internal|cmd|test|docs|packaging|testdata|tools)/[^` ]*)`")
		tests = regexp.MustCompile("`((?:internal|cmd|test)[a-z0-9/]*)`((?:,? (?:and )?`Test[A-Za-z0-9]+`)+)")
		each  = regexp.MustCompile("Test[A-Za-z0-9]+")
		found = 0
	)
	walk(t, func(file string) error {
		if path.Ext(file) != ".md" {
			return nil
		}
		b, err := fs.ReadFile(root, file)
		if err != nil {
			return err
		}
		text := string(b)
		for _, m := range links.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			if _, err := fs.Stat(root, path.Join(path.Dir(file), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", file, m[1], err)
			}
		}
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			if there, err := fs.Glob(root, strings.TrimSuffix(m[1], "/")); err != nil || len(there) == 0 && !strings.ContainsAny(m[1], "{…") {
				t.Errorf("%s names %s, which is not there", file, m[1])
			}
		}
		for _, m := range tests.FindAllStringSubmatch(strings.ReplaceAll(text, "\n", " "), -1) {
			for _, name := range each.FindAllString(m[2], -1) {
				found++
				if !hasTest(t, m[1], name) {
					t.Errorf("%s names the test %s of %s, which is not there", file, name, m[1])
				}
			}
		}
		return nil
	})
	if found < 10 {
		t.Errorf("the pages name %d tests; ARCHITECTURE.md names one for each invariant", found)
	}
}

// hasTest reports whether a folder has a test.
func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := fs.Glob(root, dir+"/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		src, err := fs.ReadFile(root, file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(src), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}

// TestArchitectureNamesEveryRoom wants every folder of internal in the table
// of layers.
func TestArchitectureNamesEveryRoom(t *testing.T) {
	t.Parallel()
	b, err := fs.ReadFile(root, "ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	rooms, err := fs.ReadDir(root, "internal")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rooms {
		if r.IsDir() && r.Name() != "archtest" && !regexp.MustCompile("`"+r.Name()+"[`/]").Match(b) {
			t.Errorf("internal/%s has no place in the layers of ARCHITECTURE.md", r.Name())
		}
	}
}

// TestDecisionsHaveNumbersOfTheirOwn wants each record of a decision to have a
// number that no other has, in its name and in its heading.
func TestDecisionsHaveNumbersOfTheirOwn(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(root, "docs/decisions/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d records of decisions: %v", len(files), err)
	}
	first := map[string]string{}
	for _, file := range files {
		number, _, _ := strings.Cut(path.Base(file), "-")
		if other := first[number]; other != "" {
			t.Errorf("%s and %s have one number", other, file)
		}
		first[number] = file
		b, err := fs.ReadFile(root, file)
		if err != nil {
			t.Fatal(err)
		}
		if want := "# " + number + ": "; !strings.HasPrefix(string(b), want) {
			t.Errorf("%s begins with %.20q; want %q", file, b, want)
		}
	}
}

// TestLinkerSetsWhatThereIs wants each variable that a build sets by -X, which
// the linker ignores where there is none, to be a string of that package.
func TestLinkerSetsWhatThereIs(t *testing.T) {
	t.Parallel()
	flag := regexp.MustCompile(`-X rotunda\.dev/rotunda/([a-z/]+)\.([A-Za-z]+)=`)
	for _, file := range []string{"Makefile", "Dockerfile"} {
		b, err := fs.ReadFile(root, file)
		if err != nil {
			t.Fatal(err)
		}
		set := flag.FindAllStringSubmatch(string(b), -1)
		if len(set) == 0 {
			t.Errorf("%s sets no version", file)
		}
		for _, m := range set {
			if !hasString(t, m[1], m[2]) {
				t.Errorf("%s sets %s of %s, which is no string there", file, m[2], m[1])
			}
		}
	}
}

// hasString reports whether a folder's package has a string variable.
func hasString(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := fs.Glob(root, dir+"/*.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^var ` + name + ` (= "|string)`)
	for _, file := range files {
		src, err := fs.ReadFile(root, file)
		if err != nil {
			t.Fatal(err)
		}
		if declared.Match(src) {
			return true
		}
	}
	return false
}
