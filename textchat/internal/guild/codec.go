package guild

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// inputs are all kinds of Input but Audited, which holds one, by their names.
var inputs = kindsOf(
	VoiceUpdate{}, Placed{}, PlaceFailed{}, CallOpened{}, CallLeft{}, Moved{}, Mend{}, SessionCame{}, SessionGone{}, TakeOver{}, Tick{},
	Join{}, Leave{}, UserChanged{}, PatchMember{}, PatchVoice{}, PatchGuild{}, SetOwner{}, PutRole{}, DropRole{}, PutChannel{}, PutOverwrite{}, DropChannel{},
	PutInvite{}, DropInvite{}, PutWebhook{}, DropWebhook{}, Ban{}, Unban{}, Forget{}, Arrange{}, PutThread{}, DropThread{}, FollowThread{},
	Posted{}, Erased{}, ErasedMany{}, Reacted{}, Unreacted{}, PinsMoved{}, Touched{}, Typing{},
)

func kindsOf(list ...Input) map[string]reflect.Type {
	kinds := make(map[string]reflect.Type, len(list))
	for _, in := range list {
		kinds[reflect.TypeOf(in).Name()] = reflect.TypeOf(in)
	}
	return kinds
}

// Parcel is an Input as JSON.
type Parcel struct{ Input Input }

// parcel names what is in it. Audit, when set, is the Audited around it.
type parcel struct {
	Kind  string
	Input json.RawMessage
	Audit *Audited `json:",omitempty"`
}

// MarshalJSON writes the kind of the input with it.
func (p Parcel) MarshalJSON() ([]byte, error) {
	var w parcel
	in := p.Input
	if a, ok := in.(Audited); ok {
		in, a.Input = a.Input, nil
		w.Audit = &a
	}
	w.Kind = reflect.TypeOf(in).Name()
	if inputs[w.Kind] == nil {
		return nil, fmt.Errorf("guild: no such input: %T", in)
	}
	var err error
	if w.Input, err = json.Marshal(in); err != nil {
		return nil, fmt.Errorf("guild: %w", err)
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (p *Parcel) UnmarshalJSON(b []byte) error {
	var w parcel
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("guild: %w", err)
	}
	kind := inputs[w.Kind]
	if kind == nil {
		return fmt.Errorf("guild: no such input: %.40q", w.Kind)
	}
	v := reflect.New(kind)
	if err := json.Unmarshal(w.Input, v.Interface()); err != nil {
		return fmt.Errorf("guild: %s: %w", w.Kind, err)
	}
	in := v.Elem().Interface().(Input)
	if w.Audit != nil {
		w.Audit.Input = in
		in = *w.Audit
	}
	p.Input = in
	return nil
}
