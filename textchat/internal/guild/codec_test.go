package guild

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"voicefleet/textchat"
)

// fill gives every field that travels a value that is not zero.
func fill(v reflect.Value, depth int) {
	switch v.Type() {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1_800_000_000, 123_000).UTC()))
		return
	case reflect.TypeFor[json.RawMessage]():
		v.SetBytes([]byte(`"raw"`))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Float64:
		v.SetFloat(7.5)
	case reflect.String:
		v.SetString("text")
	case reflect.Pointer:
		if depth > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), depth-1)
		}
	case reflect.Slice:
		if depth > 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), depth-1)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), depth)
		}
	case reflect.Map:
		if depth > 0 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, depth-1)
			fill(value, depth-1)
			v.Set(reflect.MakeMap(v.Type()))
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), depth)
		}
	default:
		panic(fmt.Sprintf("cannot fill %v", v.Type()))
	}
}

// lost finds a field of a that is not in b.
func lost(path string, a, b reflect.Value) string {
	switch a.Kind() {
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			if a.IsNil() != b.IsNil() {
				return path
			}
			return ""
		}
		return lost(path, a.Elem(), b.Elem())
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() {
			return path
		}
		for i := range a.Len() {
			if at := lost(fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i)); at != "" {
				return at
			}
		}
		return ""
	case reflect.Map:
		if a.Len() != b.Len() {
			return path
		}
		for _, k := range a.MapKeys() {
			if !b.MapIndex(k).IsValid() {
				return fmt.Sprintf("%s[%v]", path, k)
			}
			if at := lost(fmt.Sprintf("%s[%v]", path, k), a.MapIndex(k), b.MapIndex(k)); at != "" {
				return at
			}
		}
		return ""
	case reflect.Struct:
		if at, ok := a.Interface().(time.Time); ok {
			if !at.Equal(b.Interface().(time.Time)) {
				return path
			}
			return ""
		}
		for i := range a.NumField() {
			if at := lost(path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i)); at != "" {
				return at
			}
		}
		return ""
	}
	if !reflect.DeepEqual(a.Interface(), b.Interface()) {
		return path
	}
	return ""
}

// TestParcels holds that every field of every input comes through, and that what is
// no input is refused.
func TestParcels(t *testing.T) {
	for name, kind := range inputs {
		v := reflect.New(kind).Elem()
		fill(v, 6)
		for _, in := range []Input{v.Interface().(Input), Audited{Input: v.Interface().(Input), Actor: 9, Reason: "why", IDs: [3]textchat.ID{1, 2, 3}}} {
			b, err := json.Marshal(Parcel{in})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var p Parcel
			if err := json.Unmarshal(b, &p); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got := reflect.ValueOf(p.Input)
			if got.Type() != reflect.TypeOf(in) {
				t.Fatalf("%s came as %v", name, got.Type())
			}
			if a, ok := in.(Audited); ok {
				b := p.Input.(Audited)
				if b.Actor != a.Actor || b.Reason != a.Reason || b.IDs != a.IDs {
					t.Errorf("%s: audited came as %+v", name, b)
				}
				got, in = reflect.ValueOf(b.Input), a.Input
			}
			if at := lost(name, reflect.ValueOf(in), got); at != "" {
				t.Errorf("%s is lost: %s", at, b)
			}
		}
	}
	for _, bad := range []string{`{}`, `{"Kind":"Audited","Input":{}}`, `{"Kind":"Join","Input":7}`, `[]`, `{"Kind":"Join"}`} {
		var p Parcel
		if err := json.Unmarshal([]byte(bad), &p); err == nil {
			t.Errorf("%s was taken as %+v", bad, p.Input)
		}
	}
}

// travelled is what comes out where v was sent to.
func travelled[T any](t *testing.T, v T) (there T) {
	t.Helper()
	if in, ok := any(&v).(*Input); ok {
		*any(&there).(*Input) = travelled(t, Parcel{*in}).Input
		return there
	}
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &there)
	}
	if err != nil {
		t.Fatal(err)
	}
	return there
}

// all is everything there is in a guild.
func all(g *Guild) *Delta {
	d := g.Live()
	d.Self, d.Roles, d.Channels, d.Members, d.Banned, d.Archives = &g.self, g.roles, g.channels, g.members, g.banned, &g.archives
	d.TimedOut = make(map[textchat.ID]*time.Time)
	for id, at := range g.timedOut {
		d.TimedOut[id] = &at
	}
	return d
}

// stateOf is all of it in words.
func stateOf(t *testing.T, g *Guild) string {
	t.Helper()
	b, err := json.MarshalIndent(all(g), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
