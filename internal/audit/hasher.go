package audit

import (
	"bytes"
	"encoding"
	"encoding/hex"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/wire"
)

// HashPrefix is what every keyed hash in a record begins with.
const HashPrefix = "hmac-sha256:"

// maxDepth is how deep values go that are shown; what is deeper is one hash.
const maxDepth = 32

// maxHashes is up to how many strings of a list are hashed one by one; of a
// longer one the whole is.
const maxHashes = 64

// Hasher makes what the journal may show of requests and answers: their shape,
// and keyed hashes of their values, by which an auditor can look for a value
// that he knows. It is safe for concurrent use.
type Hasher struct {
	mac   func(parts ...[]byte) [32]byte
	plans sync.Map  // reflect.Type -> plan
	lists sync.Pool // of *[]byte, for long lists

	messages sync.Pool // of *message
}

// NewHasher returns a Hasher whose keyed hash is mac.
func NewHasher(mac func(parts ...[]byte) [32]byte) *Hasher { return &Hasher{mac: mac} }

// Hash returns the keyed hash of s, by which an auditor can find it:
// "hmac-sha256:" and 64 hex digits.
func (h *Hasher) Hash(s string) string {
	var room [len(HashPrefix) + 64]byte
	return string(h.appendText(room[:0], s))
}

// message is what is hashed, kept so that it is not allocated for each.
type message struct {
	parts [1][]byte
	text  []byte
}

func (h *Hasher) appendHash(dst, b []byte) []byte {
	m, ok := h.messages.Get().(*message)
	if !ok {
		m = new(message)
	}
	m.parts[0] = b
	sum := h.mac(m.parts[:]...)
	m.parts[0] = nil
	h.messages.Put(m)
	return hex.AppendEncode(append(dst, HashPrefix...), sum[:])
}

// appendText is appendHash of a text.
func (h *Hasher) appendText(dst []byte, s string) []byte {
	m, ok := h.messages.Get().(*message)
	if !ok {
		m = new(message)
	}
	m.text = append(m.text[:0], s...)
	m.parts[0] = m.text
	sum := h.mac(m.parts[:]...)
	m.parts[0] = nil
	clear(m.text)
	if cap(m.text) <= maxText {
		h.messages.Put(m)
	}
	return hex.AppendEncode(append(dst, HashPrefix...), sum[:])
}

// quotedText appends the keyed hash of s as a JSON string.
func (h *Hasher) quotedText(dst []byte, s string) []byte {
	return append(h.appendText(append(dst, '"'), s), '"')
}

// quoted appends the keyed hash of b as a JSON string.
func (h *Hasher) quoted(dst, b []byte) []byte {
	return append(h.appendHash(append(dst, '"'), b), '"')
}

// Redact returns v as canonical JSON in which every value that could be a
// secret is its keyed hash. It is a list of what may be seen, and everything
// else is hashed, types that it does not know included. Seen are numbers,
// booleans, times, durations, names ([name.Name], [name.Path]), the names of
// fields, the keys of maps that are no [wire.Map], and strings in fields tagged audit:"clear"; of
// a field tagged audit:"count", how many items it has and nothing else. Of a [secret.JSON] and of a
// wire.Map the shape is seen: every key, which the caller has chosen and which may be
// a value in the wrong place, and every scalar is hashed as its text, so
// that each is found where it is the only one that is known.
//
// Of a list of more than 64 strings, the number and one hash of the list as
// canonical JSON are shown. What would be longer than 64 KiB is its length and
// its hash.
func (h *Hasher) Redact(v any) jsontext.Value {
	if v == nil {
		return nil
	}
	return h.AppendRedacted(make([]byte, 0, 512), v)
}

// AppendRedacted appends what [Hasher.Redact] returns to dst.
func (h *Hasher) AppendRedacted(dst []byte, v any) []byte {
	if v == nil {
		return dst
	}
	from := len(dst)
	rv := reflect.ValueOf(v)
	dst = h.plan(rv.Type())(h, dst, rv, false, 0)
	if len(dst)-from <= maxValue {
		return dst
	}
	whole := bytes.Clone(dst[from:])
	short := strconv.AppendInt(append(dst[:from], `{"bytes":`...), int64(len(whole)), 10)
	short = h.quoted(append(short, `,"hash":`...), whole)
	return append(short, `,"truncated":true}`...)
}

// plan appends what may be seen of a value of one type to dst. Clear says that
// the field that holds it is tagged audit:"clear".
type plan func(h *Hasher, dst []byte, v reflect.Value, clear bool, depth int) []byte

var (
	textType     = reflect.TypeFor[secret.Text]()
	jsonType     = reflect.TypeFor[secret.JSON]()
	bytesType    = reflect.TypeFor[secret.Bytes]()
	rawType      = reflect.TypeFor[jsontext.Value]()
	nameType     = reflect.TypeFor[name.Name]()
	pathType     = reflect.TypeFor[name.Path]()
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	wireDuration = reflect.TypeFor[wire.Duration]()
	wireTime     = reflect.TypeFor[wire.Time]()
	mapType      = reflect.TypeFor[wire.Map]()
)

func (h *Hasher) plan(t reflect.Type) plan {
	if p, ok := h.plans.Load(t); ok {
		return p.(plan) //nolint:forcetypeassert,errcheck // nothing else is kept
	}
	p, _ := h.plans.LoadOrStore(t, h.makePlan(t))
	return p.(plan) //nolint:forcetypeassert,errcheck // nothing else is kept
}

// makePlan must not ask for the plans of the types in t: a type may hold itself.
func (h *Hasher) makePlan(t reflect.Type) plan {
	switch t {
	case textType:
		return redactText
	case jsonType:
		return redactJSON
	case bytesType:
		return redactBytes
	case rawType:
		return redactRaw
	case mapType:
		return redactWireMap
	case nameType, pathType:
		return showString
	case timeType, wireTime:
		return showTime
	case durationType:
		return showDuration
	case wireDuration:
		return showSeconds
	}
	switch t.Kind() {
	case reflect.Bool:
		return func(_ *Hasher, dst []byte, v reflect.Value, _ bool, _ int) []byte {
			return strconv.AppendBool(dst, v.Bool())
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(_ *Hasher, dst []byte, v reflect.Value, _ bool, _ int) []byte { return showInt(dst, v.Int()) }
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return func(_ *Hasher, dst []byte, v reflect.Value, _ bool, _ int) []byte { return showUint(dst, v.Uint()) }
	case reflect.Float32, reflect.Float64:
		return func(_ *Hasher, dst []byte, v reflect.Value, _ bool, _ int) []byte { return showFloat(dst, v.Float()) }
	case reflect.String:
		return redactString
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return redactByteSlice
		}
		return redactList
	case reflect.Map:
		return redactMap
	case reflect.Pointer:
		if opaque(t.Elem()) {
			return redactOpaque // what it says may need its address
		}
		return redactPointer
	case reflect.Interface:
		return redactPointer
	case reflect.Struct:
		return h.structPlan(t)
	case reflect.Invalid, reflect.Complex64, reflect.Complex128, reflect.Chan, reflect.Func, reflect.UnsafePointer:
	}
	return redactUnknown
}

func redactText(h *Hasher, dst []byte, v reflect.Value, _ bool, _ int) []byte {
	t, ok := reflect.TypeAssert[secret.Text](v)
	if !ok {
		return redactUnknown(h, dst, v, false, 0)
	}
	return h.quotedText(dst, t.Reveal())
}

func redactJSON(h *Hasher, dst []byte, v reflect.Value, _ bool, _ int) []byte {
	j, ok := reflect.TypeAssert[secret.JSON](v)
	if !ok {
		return redactUnknown(h, dst, v, false, 0)
	}
	return h.redactLeaves(dst, j.Reveal())
}

func redactBytes(h *Hasher, dst []byte, v reflect.Value, _ bool, _ int) []byte {
	b, ok := reflect.TypeAssert[secret.Bytes](v)
	if !ok {
		return redactUnknown(h, dst, v, false, 0)
	}
	_ = b.Use(func(plain []byte) error { dst = h.quoted(dst, plain); return nil })
	return dst
}

func redactRaw(h *Hasher, dst []byte, v reflect.Value, _ bool, _ int) []byte {
	return h.redactLeaves(dst, v.Bytes())
}

func redactString(h *Hasher, dst []byte, v reflect.Value, clear bool, _ int) []byte {
	switch {
	case clear:
		return quote(dst, v.String())
	case v.Len() == 0:
		return append(dst, `""`...)
	}
	return h.quotedText(dst, v.String())
}

func redactByteSlice(h *Hasher, dst []byte, v reflect.Value, _ bool, _ int) []byte {
	if v.Kind() == reflect.Slice {
		if v.IsNil() {
			return append(dst, "null"...)
		}
		return h.quoted(dst, v.Bytes())
	}
	b := make([]byte, v.Len())
	for i := range b {
		b[i] = byte(v.Index(i).Uint()) //nolint:gosec // an array of bytes
	}
	return h.quoted(dst, b)
}

func redactList(h *Hasher, dst []byte, v reflect.Value, clear bool, depth int) []byte {
	if v.Kind() == reflect.Slice && v.IsNil() {
		return append(dst, "null"...)
	}
	if depth >= maxDepth {
		return redactType(h, dst, v)
	}
	p := h.plan(v.Type().Elem())
	if elem := v.Type().Elem(); v.Len() > maxHashes && elem.Kind() == reflect.String && elem != nameType && elem != pathType && !clear {
		return h.redactStrings(dst, v)
	}
	dst = append(dst, '[')
	for i := range v.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = p(h, dst, v.Index(i), clear, depth+1)
	}
	return append(dst, ']')
}

// redactStrings shows how many strings a long list has, and one hash of it as
// canonical JSON: a hash of each would be longer than the list and of less use.
func (h *Hasher) redactStrings(dst []byte, v reflect.Value) []byte {
	b, ok := h.lists.Get().(*[]byte)
	if !ok {
		b = new([]byte)
	}
	whole := append((*b)[:0], '[')
	for i := range v.Len() {
		if i > 0 {
			whole = append(whole, ',')
		}
		whole, _ = jsontext.AppendQuote(whole, v.Index(i).String()) // what is not UTF-8 is replaced and said in the error
	}
	whole = append(whole, ']')
	dst = h.quoted(append(dst, `{"hash":`...), whole)
	dst = append(strconv.AppendInt(append(dst, `,"items":`...), int64(v.Len()), 10), '}')
	clear(whole)
	*b = whole
	h.lists.Put(b)
	return dst
}

// member is one of an object that is being written.
type member struct {
	key   string
	value []byte
}

// object appends members in the order that RFC 8785 demands.
func object(dst []byte, members []member) []byte {
	slices.SortFunc(members, func(a, b member) int { return compareUTF16(a.key, b.key) })
	dst = append(dst, '{')
	last := ""
	for i, m := range members {
		if i > 0 && m.key == last {
			continue // two of one name: the first stands, which cannot hide a value that is not hashed
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst, _ = jsontext.AppendQuote(dst, m.key)
		dst = append(append(dst, ':'), m.value...)
		last = m.key
	}
	return append(dst, '}')
}

func compareUTF16(a, b string) int {
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] >= utf8.RuneSelf || b[i] >= utf8.RuneSelf {
			return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
		}
		if a[i] != b[i] {
			return int(a[i]) - int(b[i])
		}
	}
	return len(a) - len(b)
}

// key returns how a key of a map is shown: text and numbers as they are.
func (h *Hasher) key(k reflect.Value) string {
	switch {
	case k.Kind() == reflect.String:
		return keyText(k.String())
	case k.CanInt():
		return strconv.FormatInt(k.Int(), 10)
	case k.CanUint():
		return strconv.FormatUint(k.Uint(), 10)
	}
	if said, ok := says(k); ok {
		return string(h.appendHash(nil, said))
	}
	return string(h.appendHash(nil, []byte(k.Type().String())))
}

// keyText is how a key of a map is shown: as it is, bounded.
func keyText(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + cut
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

func redactMap(h *Hasher, dst []byte, v reflect.Value, clear bool, depth int) []byte {
	if v.IsNil() {
		return append(dst, "null"...)
	}
	if depth >= maxDepth {
		return redactType(h, dst, v)
	}
	p := h.plan(v.Type().Elem())
	members := make([]member, 0, v.Len())
	for it := v.MapRange(); it.Next(); {
		members = append(members, member{h.key(it.Key()), p(h, nil, it.Value(), clear, depth+1)})
	}
	return object(dst, members)
}

// redactWireMap is redactMap of what a caller keeps under keys of his own.
func redactWireMap(h *Hasher, dst []byte, v reflect.Value, clear bool, depth int) []byte {
	m, ok := reflect.TypeAssert[wire.Map](v)
	if !ok {
		return redactUnknown(h, dst, v, false, depth)
	}
	if clear || m == nil {
		return redactMap(h, dst, v, clear, depth)
	}
	members := make([]member, 0, len(m))
	for k, text := range m {
		members = append(members, member{h.Hash(k), h.quotedText(nil, text)})
	}
	return object(dst, members)
}

func redactPointer(h *Hasher, dst []byte, v reflect.Value, clear bool, depth int) []byte {
	if v.IsNil() {
		return append(dst, "null"...)
	}
	if depth >= maxDepth {
		return redactType(h, dst, v)
	}
	return h.plan(v.Elem().Type())(h, dst, v.Elem(), clear, depth+1)
}

func redactOpaque(h *Hasher, dst []byte, v reflect.Value, clear bool, depth int) []byte {
	if v.IsNil() {
		return append(dst, "null"...)
	}
	return redactUnknown(h, dst, v, clear, depth)
}

// redactUnknown hashes what a value of a type that nothing is known of says of
// itself; where it says nothing, its type.
func redactUnknown(h *Hasher, dst []byte, v reflect.Value, _ bool, _ int) []byte {
	if v.Kind() == reflect.Complex64 || v.Kind() == reflect.Complex128 {
		return h.quoted(dst, []byte(strconv.FormatComplex(v.Complex(), 'g', -1, 128)))
	}
	if said, ok := says(v); ok {
		return h.quoted(dst, said)
	}
	return redactType(h, dst, v)
}

func redactType(h *Hasher, dst []byte, v reflect.Value) []byte {
	return h.quoted(dst, []byte(v.Type().String()))
}

// says returns the text that v says it is.
func says(v reflect.Value) (b []byte, ok bool) {
	if !v.CanInterface() {
		return nil, false
	}
	defer func() {
		if recover() != nil {
			b, ok = nil, false // a method that does not work without a value
		}
	}()
	switch m := v.Interface().(type) {
	case encoding.TextMarshaler:
		text, err := m.MarshalText()
		return text, err == nil
	case error:
		return []byte(m.Error()), true
	case fmt.Stringer:
		return []byte(m.String()), true
	}
	return nil, false
}

func showString(_ *Hasher, dst []byte, v reflect.Value, _ bool, _ int) []byte {
	return quote(dst, v.String())
}

func showTime(h *Hasher, dst []byte, v reflect.Value, _ bool, _ int) []byte {
	t, ok := reflect.TypeAssert[time.Time](v.Convert(timeType))
	switch {
	case !ok:
		return redactUnknown(h, dst, v, false, 0)
	case t.IsZero():
		return append(dst, `""`...)
	}
	return append(t.UTC().AppendFormat(append(dst, '"'), time.RFC3339Nano), '"')
}

func showDuration(_ *Hasher, dst []byte, v reflect.Value, _ bool, _ int) []byte {
	return append(append(append(dst, '"'), time.Duration(v.Int()).String()...), '"')
}

func showSeconds(_ *Hasher, dst []byte, v reflect.Value, _ bool, _ int) []byte {
	return strconv.AppendInt(dst, v.Int()/int64(time.Second), 10)
}

// exact is the largest integer that every reader of JSON takes for what it is.
const exact = 1<<53 - 1

func showInt(dst []byte, n int64) []byte {
	if n > exact || n < -exact {
		return append(strconv.AppendInt(append(dst, '"'), n, 10), '"')
	}
	return strconv.AppendInt(dst, n, 10)
}

func showUint(dst []byte, n uint64) []byte {
	if n > exact {
		return append(strconv.AppendUint(append(dst, '"'), n, 10), '"')
	}
	return strconv.AppendUint(dst, n, 10)
}

func showFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(strconv.AppendFloat(append(dst, '"'), f, 'g', -1, 64), '"')
	}
	v := jsontext.Value(strconv.AppendFloat(nil, f, 'e', -1, 64))
	if err := v.Canonicalize(); err != nil {
		return append(append(append(dst, '"'), v...), '"')
	}
	return append(dst, v...)
}

// redactLeaves appends the JSON value b with every key and scalar as its hash: of a
// string its text, of a number or a boolean how it was spelt.
func (h *Hasher) redactLeaves(dst, b []byte) []byte {
	if len(b) == 0 {
		return append(dst, "null"...)
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(b)) // which it does not copy
	out, err := h.leaf(d, dst, 0)
	if err == nil {
		if _, err = d.ReadToken(); isEOF(err) {
			return out
		}
	}
	return h.quoted(dst, b) // not one JSON value: nothing of it is known
}

func (h *Hasher) leaf(d *jsontext.Decoder, dst []byte, depth int) ([]byte, error) {
	if depth >= maxDepth {
		v, err := d.ReadValue()
		if err != nil {
			return dst, err
		}
		return h.quoted(dst, v), nil
	}
	tok, err := d.ReadToken()
	if err != nil {
		return dst, err
	}
	switch tok.Kind() {
	case 'n':
		return append(dst, "null"...), nil
	case '{':
		var members []member
		for d.PeekKind() != '}' {
			key, err := d.ReadToken()
			if err != nil {
				return dst, err
			}
			m := member{key: h.Hash(key.String())}
			if m.value, err = h.leaf(d, nil, depth+1); err != nil {
				return dst, err
			}
			members = append(members, m)
		}
		if _, err := d.ReadToken(); err != nil {
			return dst, err
		}
		return object(dst, members), nil
	case '[':
		dst = append(dst, '[')
		for first := true; d.PeekKind() != ']'; first = false {
			if !first {
				dst = append(dst, ',')
			}
			if dst, err = h.leaf(d, dst, depth+1); err != nil {
				return dst, err
			}
		}
		if _, err := d.ReadToken(); err != nil {
			return dst, err
		}
		return append(dst, ']'), nil
	default:
		return h.quotedText(dst, tok.String()), nil // of a number, as it was spelt
	}
}

// field is a field of a struct, and of those embedded in it, that is shown.
type field struct {
	index []int
	name  string
	clear bool
	count bool // only how many it has
	omit  bool // where it is zero

	quoted []byte // "name":
}

// of returns the field of v, unless it is in an embedded pointer that is nil.
func (f *field) of(v reflect.Value) (reflect.Value, bool) {
	if len(f.index) == 1 {
		return v.Field(f.index[0]), true
	}
	fv, err := v.FieldByIndexErr(f.index)
	return fv, err == nil
}

// opaque reports whether nothing of a struct can be shown, and it has a say.
func opaque(t reflect.Type) bool {
	switch t {
	case textType, jsonType, bytesType, timeType, wireTime:
		return false
	}
	return t.Kind() == reflect.Struct && t.NumField() > 0 && len(structFields(t, nil, map[reflect.Type]bool{})) == 0
}

// structPlan shows the exported fields of t under the names that callers know.
// A struct without any is unknown.
func (h *Hasher) structPlan(t reflect.Type) plan {
	fields := structFields(t, nil, map[reflect.Type]bool{})
	if len(fields) == 0 {
		if t.NumField() == 0 {
			return func(_ *Hasher, dst []byte, _ reflect.Value, _ bool, _ int) []byte { return append(dst, "{}"...) }
		}
		return redactUnknown
	}
	slices.SortStableFunc(fields, func(a, b field) int { return compareUTF16(a.name, b.name) })
	fields = slices.CompactFunc(fields, func(a, b field) bool { return a.name == b.name })
	ready := make([]atomic.Pointer[plan], len(fields)) // of the fields, once they have been asked for
	for i := range fields {
		fields[i].quoted, _ = jsontext.AppendQuote(nil, fields[i].name)
		fields[i].quoted = append(fields[i].quoted, ':')
	}
	return func(h *Hasher, dst []byte, v reflect.Value, _ bool, depth int) []byte {
		if depth >= maxDepth {
			return redactType(h, dst, v)
		}
		dst = append(dst, '{')
		for i := range fields {
			f := &fields[i]
			fv, ok := f.of(v)
			if !ok || f.omit && fv.IsZero() {
				continue // in an embedded pointer that is nil
			}
			if dst[len(dst)-1] != '{' {
				dst = append(dst, ',')
			}
			dst = append(dst, f.quoted...)
			if f.count {
				dst = strconv.AppendInt(dst, int64(length(fv)), 10)
				continue
			}
			p := ready[i].Load()
			if p == nil {
				made := h.plan(fv.Type())
				p = &made
				ready[i].Store(p)
			}
			dst = (*p)(h, dst, fv, f.clear, depth+1)
		}
		return append(dst, '}')
	}
}

func structFields(t reflect.Type, index []int, seen map[reflect.Type]bool) []field {
	if seen[t] {
		return nil
	}
	seen[t] = true
	defer delete(seen, t)
	var fields []field
	for i := range t.NumField() {
		sf := t.Field(i)
		at := append(slices.Clone(index), i)
		tag, hasTag := sf.Tag.Lookup("json")
		jsonName, opts, _ := strings.Cut(tag, ",")
		if embedded := embeddedStruct(sf); embedded != nil && jsonName == "" {
			fields = append(fields, structFields(embedded, at, seen)...)
			continue
		}
		if !sf.IsExported() {
			continue
		}
		f := field{index: at, name: jsonName, clear: sf.Tag.Get("audit") == "clear", count: sf.Tag.Get("audit") == "count"}
		f.omit = strings.Contains(opts, "omitzero") || strings.Contains(opts, "omitempty")
		if hasTag && jsonName == "-" || f.name == "" {
			f.name = firstOf(sf.Tag.Get("path"), sf.Tag.Get("query"), sf.Tag.Get("body"), snake(sf.Name))
		}
		fields = append(fields, f)
	}
	return fields
}

// embeddedStruct returns the struct whose fields stand for those of sf; nil
// where it is an ordinary field. An embedded pointer to a type that is not
// exported cannot be followed and is one too.
func embeddedStruct(sf reflect.StructField) reflect.Type {
	if !sf.Anonymous {
		return nil
	}
	t := sf.Type
	if t.Kind() == reflect.Pointer && sf.IsExported() {
		t = t.Elem()
	}
	switch t {
	case textType, jsonType, bytesType, timeType, wireTime:
		return nil
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	return t
}

func length(v reflect.Value) int {
	switch v.Kind() {
	case reflect.Slice, reflect.Array, reflect.Map, reflect.String:
		return v.Len()
	default:
		return 0
	}
}

func firstOf(names ...string) string {
	for _, n := range names {
		if n != "" && n != "-" {
			return n
		}
	}
	return ""
}

// snake returns a field's Go name as it would be spelt in JSON: "CreationPath"
// is "creation_path", "EntityID" is "entity_id".
func snake(s string) string {
	var b strings.Builder
	rs := []rune(s)
	for i, r := range rs {
		if unicode.IsUpper(r) && i > 0 && (!unicode.IsUpper(rs[i-1]) || i+1 < len(rs) && unicode.IsLower(rs[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
