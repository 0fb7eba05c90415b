package scenario

import (
	"bytes"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// YAML writes the scenario with all its defaults, so that it means the same to
// whoever reads it later. Parse reads it back as it is.
func (s *Scenario) YAML() []byte {
	b := &bytes.Buffer{}
	write(b, "", reflect.ValueOf(s).Elem())
	return b.Bytes()
}

// write writes the fields of a struct, each line after an indent.
func write(b *bytes.Buffer, indent string, v reflect.Value) {
	for _, f := range fieldsOf(v.Type()) {
		v := v.Field(f.index)
		if f.optional && v.IsZero() {
			continue
		}
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		switch v.Kind() {
		case reflect.Struct:
			fmt.Fprintf(b, "%s%s:\n", indent, f.name)
			write(b, indent+"  ", v)
		case reflect.Slice:
			fmt.Fprintf(b, "%s%s:\n", indent, f.name)
			for i := range v.Len() {
				entry := &bytes.Buffer{}
				write(entry, indent+"    ", v.Index(i))
				b.WriteString(indent + "  - ")
				b.Write(bytes.TrimPrefix(entry.Bytes(), []byte(indent+"    ")))
			}
		default:
			fmt.Fprintf(b, "%s%s: %s\n", indent, f.name, scalar(v))
		}
	}
}

// scalar writes a value in its plainest form.
func scalar(v reflect.Value) string {
	switch {
	case v.Type() == durationType:
		return writeDuration(time.Duration(v.Int()))
	case v.Kind() == reflect.String:
		if _, closed := v.Interface().(word); closed {
			return v.String()
		}
		return quote(v.String())
	case v.Kind() == reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'f', -1, 64)
	}
	return fmt.Sprint(v.Interface())
}

// quote writes text in double quotes. Parse lets through only what can be
// printed, and line ends.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

// writeDuration is String without the zeros at the end: 8h, not 8h0m0s.
func writeDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
