package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"rotunda.dev/rotunda/internal/cli/show"
)

// formats are what --output takes.
var formats = []string{"table", "json", "yaml", "env", "raw"}

// view is what a command prints, in each way that it can be asked for.
type view struct {
	doc    any                     // for json and yaml
	data   jsontext.Value          // what --field, env and raw look into; doc where nil
	people func(w io.Writer) error // for people; doc as a table where nil
	raw    *string                 // for raw, where it is not what follows from data
	enter  bool                    // raw ends its lines itself: it is text by nature, no value
}

// format returns how to print.
func (a *app) format() (string, error) {
	f := strings.ToLower(first(a.output, a.env.setting("FORMAT"), "table"))
	if f == "pretty" {
		f = "table"
	}
	if !slices.Contains(formats, f) {
		return "", usageError{fmt.Errorf("the output format %q is not one of %s", f, strings.Join(formats, ", ")), ""}
	}
	return f, nil
}

// print prints v as flags say.
func (a *app) print(v view) error {
	format, err := a.format()
	if err != nil {
		return err
	}
	doc, err := jsonOf(v.doc)
	if err != nil {
		return err
	}
	data := v.data
	if data == nil {
		data = doc
	}
	if a.field != "" {
		val, ok := show.Field(data, a.field)
		if !ok {
			return failure{err: fmt.Errorf("there is no field %q", a.field), code: 1}
		}
		if format == "table" || format == "raw" || format == "env" {
			return a.value(val)
		}
		doc = val
	}
	switch format {
	case "json":
		_, err = fmt.Fprintf(a.Stdout, "%s\n", show.Escaped(show.Indent(doc)))
	case "yaml":
		_, err = io.WriteString(a.Stdout, show.YAML(doc))
	case "env":
		return a.envLines(data)
	case "raw":
		switch {
		case v.raw != nil && v.enter:
			_, err = fmt.Fprintln(a.Stdout, *v.raw)
		case v.raw != nil:
			return a.bytes(*v.raw)
		default:
			return a.value(data)
		}
	default:
		if v.people != nil {
			return v.people(show.Screen(a.Stdout))
		}
		return a.object(show.Screen(a.Stdout), data)
	}
	if err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

// value prints one value: text without quotes, a list line by line, anything
// else as JSON.
func (a *app) value(v jsontext.Value) error {
	items := show.Items(v)
	if len(items) > 0 && !slices.ContainsFunc(items, func(it jsontext.Value) bool { return it.Kind() != '"' }) {
		return a.bytes(strings.Join(texts(v), "\n"))
	}
	if v.Kind() == 'n' {
		return a.bytes("")
	}
	return a.bytes(show.Text(v))
}

// bytes prints a value: byte for byte into a file or a pipe; on a terminal
// with a line end, and quoted where it holds what would drive the terminal.
func (a *app) bytes(s string) error {
	var err error
	switch {
	case !a.terminal(a.Stdout):
		_, err = io.WriteString(a.Stdout, s)
	case show.Printable(s):
		_, err = io.WriteString(a.Stdout, strings.TrimSuffix(s, "\n")+"\n")
	default:
		a.note("the value holds control characters and is shown quoted; in a pipe it comes byte for byte")
		_, err = fmt.Fprintf(a.Stdout, "%q\n", s)
	}
	if err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

// envLines prints the members of v as lines that a shell and readers of .env
// files take.
func (a *app) envLines(v jsontext.Value) error {
	if v.Kind() != '{' {
		return errors.New("this cannot be printed as environment variables: it is not names and values")
	}
	from := map[string]string{}
	var b strings.Builder
	for _, m := range show.Sorted(v) {
		name, text := show.EnvName(m.Name), envText(m.Value)
		if other, twice := from[name]; twice {
			return fmt.Errorf("%s and %s would both be %s: take one with --field", show.Clean(other), show.Clean(m.Name), name)
		}
		if strings.ContainsRune(text, 0) {
			return fmt.Errorf("%s holds a NUL byte, which no environment can", show.Clean(m.Name))
		}
		from[name] = m.Name
		if loader(name) {
			a.note("warning: %s changes how programs are loaded and shells work: look at it before you evaluate this", name)
		}
		fmt.Fprintf(&b, "%s=%s\n", name, envQuote(text))
	}
	if _, err := io.WriteString(a.Stdout, b.String()); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

// envQuote quotes s so that a shell and a reader of .env files agree on it.
func envQuote(s string) string {
	if !strings.Contains(s, "'") {
		return "'" + s + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(s) + `"`
}

// object prints an object as a table of keys and values.
func (a *app) object(w io.Writer, v jsontext.Value) error {
	if v.Kind() != '{' {
		return a.value(v)
	}
	t := show.Table{Header: []string{"Key", "Value"}}
	for _, m := range show.Sorted(v) {
		t.Add(m.Name, show.Cell(m.Value))
	}
	return t.Write(w, a.colour(w))
}

func (a *app) table(w io.Writer, t *show.Table) error { return t.Write(w, a.colour(w)) }

// jsonOf returns v as JSON; a value that is JSON stays as it is.
func jsonOf(v any) (jsontext.Value, error) {
	if raw, ok := v.(jsontext.Value); ok {
		if len(raw) == 0 {
			return jsontext.Value("null"), nil
		}
		return raw, nil
	}
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	return b, nil
}

// object builds a JSON object in the order of its members.
type object []show.Member

// set adds a member whose value is v as JSON. It panics where v cannot be JSON,
// which only a mistake in this package can cause.
func (o *object) set(name string, v any) *object {
	raw, err := jsonOf(v)
	if err != nil {
		panic("cli: internal error: " + err.Error())
	}
	*o = append(*o, show.Member{Name: name, Value: raw})
	return o
}

// MarshalJSON writes the members in order.
func (o object) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, m := range o {
		name, err := json.Marshal(m.Name)
		if err != nil {
			return nil, fmt.Errorf("encoding a name: %w", err)
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, name...), ':'), m.Value...)
	}
	return append(out, '}'), nil
}

func (o object) json() jsontext.Value {
	b, err := o.MarshalJSON()
	if err != nil {
		panic("cli: internal error: " + err.Error())
	}
	return b
}

// progress shows how far long work has come, on a terminal only.
type progress struct {
	all *mpb.Progress
	bar *mpb.Bar
}

// progress begins to show work of total steps. Work of few steps, and work
// that nobody watches, shows nothing.
func (a *app) progress(what string, total int) *progress {
	if total < 10 || a.quiet || !a.terminal(a.Stderr) || a.env["TERM"] == "dumb" || a.env["CI"] != "" {
		return &progress{}
	}
	p := mpb.New(mpb.WithOutput(a.Stderr), mpb.WithWidth(40))
	bar := p.AddBar(int64(total), mpb.PrependDecorators(decor.Name(what+" "), decor.CountersNoUnit("%d/%d")), mpb.BarRemoveOnComplete())
	return &progress{p, bar}
}

func (p *progress) step() {
	if p.bar != nil {
		p.bar.Increment()
	}
}

// end takes the bar away.
func (p *progress) end() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.all.Wait()
	}
}
