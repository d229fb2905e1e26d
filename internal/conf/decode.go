package conf

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"rotunda.dev/rotunda/internal/conf/tree"
)

// decoder fills structs from blocks, by their tags, and keeps everything that
// it has to complain about.
type decoder struct {
	errs     []error
	warnings []Warning
	where    map[string]tree.Pos // "listener[0].address": where each field that was given stands
}

func (d *decoder) bad(pos tree.Pos, format string, args ...any) {
	d.errs = append(d.errs, &tree.Error{Pos: pos, Text: fmt.Sprintf(format, args...)})
}

func (d *decoder) warn(pos tree.Pos, format string, args ...any) {
	d.warnings = append(d.warnings, Warning{pos, fmt.Sprintf(format, args...)})
}

// at returns where the field at path stands, or the nearest block around it.
func (d *decoder) at(path string) tree.Pos {
	for {
		if p, ok := d.where[path]; ok {
			return p
		}
		i := strings.LastIndexByte(path, '.')
		if i < 0 {
			return d.where[""]
		}
		path = path[:i]
	}
}

// read makes a Server of a file's block.
func read(file string, root *tree.Block) (Server, []Warning, error) {
	s := Server{File: file}
	d := &decoder{where: map[string]tree.Pos{"": root.Pos}}
	setDefaults(reflect.ValueOf(&s).Elem())
	d.block(reflect.ValueOf(&s).Elem(), root, "", "")
	if len(d.errs) == 0 {
		d.check(&s)
	}
	if len(d.errs) > 0 {
		return Server{}, d.warnings, errors.Join(d.errs...)
	}
	s.places = d.where
	return s, d.warnings, nil
}

// Defaults returns the configuration of an empty file. It is not complete: a
// server needs a listener and a storage.
func Defaults() Server {
	var s Server
	setDefaults(reflect.ValueOf(&s).Elem())
	return s
}

// DefaultLimits returns the limits where the file says nothing.
func DefaultLimits() Limits { return Defaults().Limits }

func setDefaults(v reflect.Value) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Type.Kind() == reflect.Struct && f.Type != secretType {
			setDefaults(v.Field(i))
			continue
		}
		if text, ok := f.Tag.Lookup("default"); ok {
			if err := set(v.Field(i), tree.Value{Kind: tree.String, Text: text}); err != "" {
				panic("conf: internal error: default of " + f.Name + ": " + err)
			}
		}
	}
}

var (
	secretType   = reflect.TypeFor[Secret]()
	sizeType     = reflect.TypeFor[Size]()
	durationType = reflect.TypeFor[time.Duration]()
)

// block fills v from b. stanza names the kind of block, for the tables of what
// has no meaning here, and path the place in the configuration.
func (d *decoder) block(v reflect.Value, b *tree.Block, stanza, path string) {
	seen := map[string]tree.Pos{}
	for _, item := range b.Items {
		key := item.Key()
		at := key
		if path != "" {
			at = path + "." + key
		}
		f, ok := field(v.Type(), key)
		if !ok {
			d.strange(v.Type(), stanza, key, item)
			continue
		}
		value := v.FieldByIndex(f.Index)
		if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct {
			d.blocks(value, item, key, at)
			continue
		}
		if before, twice := seen[key]; twice {
			d.bad(item.Pos(), "%s is given twice, first in line %d", key, before.Line)
			continue
		}
		seen[key], d.where[at] = item.Pos(), item.Pos()
		switch {
		case f.Type.Kind() == reflect.Struct && f.Type != secretType:
			labels := labelsOf(f.Type)
			inner, err := item.Expand(len(labels))
			if err != nil {
				d.errs = append(d.errs, err)
				continue
			}
			if len(inner) != 1 {
				d.bad(item.Pos(), "%s is given %d times", key, len(inner))
				continue
			}
			d.one(value, inner[0], labels, key, at)
		case len(item.Keys) > 1:
			d.bad(item.Keys[1].Pos, "%s takes no label", key)
		default:
			if err := set(value, item.Value); err != "" {
				d.bad(item.Value.Pos, "%s: %s", key, err)
				continue
			}
			if err := inBounds(value, f.Tag); err != "" {
				d.bad(item.Value.Pos, "%s: %s", key, err)
			}
		}
	}
}

func (d *decoder) blocks(v reflect.Value, item tree.Item, key, at string) {
	labels := labelsOf(v.Type().Elem())
	items, err := item.Expand(len(labels))
	if err != nil {
		d.errs = append(d.errs, err)
		return
	}
	for _, inner := range items {
		one := reflect.New(v.Type().Elem()).Elem()
		setDefaults(one)
		path := fmt.Sprintf("%s[%d]", at, v.Len())
		d.where[path] = inner.Pos()
		d.one(one, inner, labels, key, path)
		v.Set(reflect.Append(v, one))
	}
}

// one fills v from a block and its labels.
func (d *decoder) one(v reflect.Value, item tree.Item, labels []int, stanza, path string) {
	for i, label := range labels {
		f := v.Type().Field(label)
		v.Field(label).SetString(item.Keys[i+1].Text)
		if foreign := d.foreign(stanza, item.Keys[i+1], f.Tag.Get("oneof")); foreign {
			return
		}
	}
	b := item.Value.Object
	if stanza == "audit" {
		b = unfold(b, "options")
	}
	d.block(v, b, stanza, path)
}

// unfold returns b with the items of its blocks of the given key in their
// place: other servers put a block around what stands in the stanza here.
func unfold(b *tree.Block, key string) *tree.Block {
	out := &tree.Block{Pos: b.Pos}
	for _, item := range b.Items {
		if item.Key() == key && len(item.Keys) == 1 && item.Value.Kind == tree.Object {
			out.Items = append(out.Items, item.Value.Object.Items...)
			continue
		}
		out.Items = append(out.Items, item)
	}
	return out
}

// foreign complains about a kind of stanza that is not ours.
func (d *decoder) foreign(stanza string, label tree.Key, oneof string) bool {
	ours := strings.Fields(oneof)
	if oneof == "" || slices.Contains(ours, label.Text) {
		return false
	}
	for i, o := range ours {
		ours[i] = strconv.Quote(o)
	}
	hint := ""
	if stanza == "storage" {
		hint = `: storage "bolt" { path = "/var/lib/rotunda" }`
	}
	d.bad(label.Pos, "%s %q is not offered; there is %s%s", stanza, label.Text, strings.Join(ours, ", "), hint)
	return true
}

// strange says what is to be said about a key that no field has.
func (d *decoder) strange(t reflect.Type, stanza, key string, item tree.Item) {
	if why, ok := refused[stanza][key]; ok {
		if !isOff(item.Value) {
			d.bad(item.Pos(), "%s: %s", key, why)
		}
		return
	}
	if why, ok := meaningless[stanza][key]; ok {
		d.warn(item.Pos(), "%s has no meaning here: %s", key, why)
		return
	}
	if near := nearest(t, key); near != "" {
		d.bad(item.Pos(), "unknown: %s; did you mean %s?", key, near)
		return
	}
	d.bad(item.Pos(), "unknown: %s", key)
}

// isOff reports whether v asks for nothing: false, or an empty text.
func isOff(v tree.Value) bool {
	return v.Kind == tree.Bool && v.Text == "false" || v.Kind == tree.String && (v.Text == "" || v.Text == "false")
}

// field returns the field of t that the file calls key.
func field(t reflect.Type, key string) (reflect.StructField, bool) {
	for field := range t.Fields() {
		if n := field.Tag.Get("hcl"); n == key && n != "-" && n != ",label" {
			return field, true
		}
	}
	return reflect.StructField{}, false
}

func labelsOf(t reflect.Type) (out []int) {
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("hcl") == ",label" {
			out = append(out, i)
		}
	}
	return out
}

// nearest returns the key of t that is one or two slips away from key.
func nearest(t reflect.Type, key string) string {
	best, away := "", 3
	for field := range t.Fields() {
		n := field.Tag.Get("hcl")
		if n == "-" || n == ",label" {
			continue
		}
		if d := distance(n, key); d < away && d < len(n)-1 {
			best, away = n, d
		}
	}
	return best
}

// distance is how many letters must be put in, taken out or changed to make b of a.
func distance(a, b string) int {
	if len(b) > 64 {
		return len(b)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := corner
			if a[i] != b[j] {
				cost++
			}
			corner = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// set gives v the value of the file. It returns what is wrong.
func set(v reflect.Value, from tree.Value) string {
	plain := from.Kind == tree.String || from.Kind == tree.Number || from.Kind == tree.Bool
	switch {
	case v.Type() == secretType:
		path, ok := strings.CutPrefix(from.Text, "file:")
		if from.Kind != tree.String || !ok || path == "" {
			return "a secret does not stand in a configuration; write file:PATH"
		}
		v.Set(reflect.ValueOf(Secret{path}))
	case v.Type() == durationType:
		d, err := parseDuration(from.Text)
		if !plain || from.Kind == tree.Bool || err != nil {
			return `want a duration such as 30, "90s", "1h30m" or "7d"`
		}
		v.SetInt(int64(d))
	case v.Type() == sizeType:
		n, err := parseSize(from.Text)
		if !plain || from.Kind == tree.Bool || err != nil {
			return `want a number of bytes, or text such as "64KiB" or "1MiB"`
		}
		v.SetInt(int64(n))
	case v.Kind() == reflect.String:
		if from.Kind != tree.String {
			return "want text, not " + from.Kind.String()
		}
		v.SetString(from.Text)
	case v.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(strings.ToLower(from.Text))
		if !plain || err != nil {
			return "want true or false"
		}
		v.SetBool(b)
	case v.Kind() == reflect.Int:
		n, err := strconv.ParseInt(from.Text, 10, 32)
		if !plain || from.Kind == tree.Bool || err != nil {
			return "want a whole number"
		}
		v.SetInt(n)
	case v.Kind() == reflect.Float64:
		f, err := strconv.ParseFloat(from.Text, 64)
		if !plain || from.Kind == tree.Bool || err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return "want a number"
		}
		v.SetFloat(f)
	case v.Type() == reflect.TypeFor[[]string]():
		if from.Kind != tree.List {
			return "want a list of texts in brackets"
		}
		var out []string
		for _, x := range from.List {
			if x.Kind != tree.String || x.Text == "" {
				return "want a list of texts in brackets"
			}
			out = append(out, x.Text)
		}
		v.Set(reflect.ValueOf(out))
	default:
		panic("conf: internal error: a field of type " + v.Type().String())
	}
	return ""
}

// inBounds says what is wrong with v by its field's tags.
func inBounds(v reflect.Value, tag reflect.StructTag) string {
	if oneof := tag.Get("oneof"); oneof != "" {
		if v.SetString(strings.ToLower(v.String())); slices.Contains(strings.Fields(oneof), v.String()) {
			return ""
		}
		return fmt.Sprintf("want one of %s, not %q", strings.Join(strings.Fields(oneof), ", "), v.String())
	}
	var n float64
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		n = float64(v.Int())
		if n < 0 {
			return "must not be negative"
		}
	case reflect.Float64:
		n = v.Float()
	default:
		return ""
	}
	if least, err := strconv.ParseFloat(tag.Get("min"), 64); err == nil && n < least {
		if v.Type() == durationType {
			return "must be longer than nothing"
		}
		return "must be at least " + tag.Get("min")
	}
	if most, err := strconv.ParseFloat(tag.Get("max"), 64); err == nil && n > most {
		return "must be at most " + tag.Get("max")
	}
	return ""
}

var errMalformed = errors.New("malformed")

// maxDuration bounds a duration: 100 years of 365 days.
const maxDuration = 100 * 365 * 24 * time.Hour

// parseDuration reads a number of seconds, or text such as "1h30m" or "7d".
func parseDuration(s string) (time.Duration, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if n < 0 || n > int64(maxDuration/time.Second) {
			return 0, errMalformed
		}
		return time.Duration(n) * time.Second, nil
	}
	var days time.Duration
	if head, rest, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(head, 10, 16)
		if err != nil || n > 36500 {
			return 0, errMalformed
		}
		days, s = time.Duration(n)*24*time.Hour, rest
		if s == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > maxDuration-days {
		return 0, errMalformed
	}
	return days + d, nil
}

var units = map[string]int{
	"": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20,
	"g": 30, "gb": 30, "gib": 30, "t": 40, "tb": 40, "tib": 40,
}

// parseSize reads a number of bytes, or text such as "64KiB" or "10 MB". A
// letter is a power of 1024.
func parseSize(s string) (Size, error) {
	digits := strings.TrimRight(s, "KMGTkmgtiBb ")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return 0, errMalformed
	}
	shift, ok := units[strings.ToLower(strings.TrimSpace(s[len(digits):]))]
	if !ok {
		return 0, errMalformed
	}
	if n > math.MaxInt64>>shift {
		return 0, errMalformed
	}
	return Size(n << shift), nil
}
