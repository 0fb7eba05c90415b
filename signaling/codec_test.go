package signaling

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

func user(n uint64) sfu.UserID { return sfu.UserID{ID: snowflake.ID(n)} }

func TestMessageBytes(t *testing.T) {
	zero := 0
	for _, c := range []struct {
		op   Op
		seq  uint64
		v    any
		want string
	}{
		{OpHello, 0, Hello{8, 10000}, `{"op":8,"d":{"v":8,"heartbeat_interval":10000}}`},
		{OpReady, 1, Ready{SSRC: 7, IP: "192.0.2.1", Port: 50000, Modes: []string{}, Interval: 10000, Experiments: []string{}, Streams: []json.RawMessage{}, Node: "n1"},
			`{"op":2,"seq":1,"d":{"ssrc":7,"ip":"192.0.2.1","port":50000,"modes":[],"heartbeat_interval":10000,"experiments":[],"streams":[],"node":"n1"}}`},
		{OpReady, 2, Ready{SSRC: 7, Modes: []string{}, Experiments: []string{}, Streams: []json.RawMessage{}, ICEServers: []edgeagent.RelayServer{{URLs: []string{"turn:192.0.2.1:3478?transport=udp"}, Username: "1700000300:s", Credential: "pw"}}},
			`{"op":2,"seq":2,"d":{"ssrc":7,"ip":"","port":0,"modes":[],"heartbeat_interval":0,"experiments":[],"streams":[],"node":"","ice_servers":[{"urls":["turn:192.0.2.1:3478?transport=udp"],"username":"1700000300:s","credential":"pw"}]}}`},
		{OpHeartbeatAck, 0, HeartbeatAck{"1700000000123"}, `{"op":6,"d":{"t":1700000000123}}`},
		{OpHeartbeatAck, 0, Integer("-7"), `{"op":6,"d":-7}`},
		{OpResumed, 0, nil, `{"op":9,"d":null}`},
		{OpSpeaking, 3, Speaking{User: user(41771983423143937), SSRC: 9}, `{"op":5,"seq":3,"d":{"user_id":"41771983423143937","ssrc":9,"speaking":0}}`},
		{OpSpeaking, 0, Speaking{Flags: FlagVoice, Delay: &zero}, `{"op":5,"d":{"speaking":1,"delay":0}}`},
		{OpClientsConnect, 4, ClientsConnect{Users: []sfu.UserID{user(1), user(2)}, All: true}, `{"op":11,"seq":4,"d":{"user_ids":["1","2"],"all":true}}`},
		{OpDisconnect, 5, Disconnect{user(1)}, `{"op":13,"seq":5,"d":{"user_id":"1"}}`},
		{OpSlots, 6, Slots{Slots: []Seat{{2, "3", user(1), 9}}}, `{"op":100,"seq":6,"d":{"slots":[{"slot":2,"mid":"3","user_id":"1","ssrc":9}]}}`},
		{OpSelectProtocol, 0, Select{ProtocolWebRTC, "v=0"}, `{"op":1,"d":{"protocol":"webrtc","data":{"type":"offer","sdp":"v=0"}}}`},
		{OpSinkWants, 0, SinkWants{map[sfu.SSRC]int{9: 0}, 100}, `{"op":15,"d":{"9":0,"any":100}}`},
	} {
		b, err := AppendMessage(nil, c.op, c.seq, c.v)
		if err != nil || string(b) != c.want {
			t.Errorf("op %d: %v\n got %s\nwant %s", c.op, err, b, c.want)
		}
		m, err := ReadMessage(b)
		if err != nil || m.Op != c.op || m.Seq != c.seq {
			t.Errorf("op %d read back as %+v, %v", c.op, m, err)
		}
	}
}

func TestReadMessageRefuses(t *testing.T) {
	for in, want := range map[string]error{
		``: ErrForm, `null`: ErrForm, `[]`: ErrForm, `7`: ErrForm, `{}`: ErrForm, `{"op":3}`: ErrForm, `{"d":1}`: ErrForm,
		`{"op":"3","d":1}`: ErrForm, `{"op":1.5,"d":1}`: ErrForm, `{"op":-1,"d":1}`: ErrForm, `{"op":3,"d":1} x`: ErrForm,
		`{"op":99999999999999999999,"d":1}`: ErrForm, strings.Repeat("[", 20_000): ErrForm,
		`{"op":3,"d":"` + strings.Repeat("x", MaxMessage) + `"}`: ErrTooBig,
	} {
		if _, err := ReadMessage([]byte(in)); !errors.Is(err, want) {
			t.Errorf("%.40s: %v, want %v", in, err, want)
		}
	}
	if _, err := ReadMessage([]byte(`{"op":99,"d":null}`)); err != nil {
		t.Errorf("an unknown op is for the session to refuse: %v", err)
	}
}

func TestPayloadForms(t *testing.T) {
	n := func(n int64) *int64 { return &n }
	for _, c := range []struct {
		in   string
		into any
		want any // nil: refused
	}{
		{`{"server_id":"1","user_id":2,"session_id":"s","token":"t","max_dave_protocol_version":1}`, &Identify{}, &Identify{Server: 1, User: user(2), Session: "s", Token: "t"}},
		{`{"server_id":41771983423143937,"user_id":"2","session_id":"s","token":"t","channel_id":"5","video":true,"streams":[{"type":"video"}]}`, &Identify{}, &Identify{Server: 41771983423143937, User: user(2), Session: "s", Token: "t", Channel: sfu.CallID{ID: 5}}},
		{`{"server_id":1.5}`, &Identify{}, nil},
		{`{"server_id":"1","session_id":7}`, &Identify{}, nil},
		{`[]`, &Identify{}, nil},
		{`null`, &Identify{}, nil},
		{`{"t":1700000000123,"seq_ack":-1}`, &Heartbeat{}, &Heartbeat{"1700000000123", n(-1)}},
		{`1700000000123`, &Heartbeat{}, &Heartbeat{T: "1700000000123"}},
		{`18446744073709551616`, &Heartbeat{}, &Heartbeat{T: "18446744073709551616"}},
		{`1.5`, &Heartbeat{}, nil}, {`1e9`, &Heartbeat{}, nil}, {`"1"`, &Heartbeat{}, nil}, {`{}`, &Heartbeat{}, nil}, {`{"t":null}`, &Heartbeat{}, nil},
		{strings.Repeat("1", 33), &Heartbeat{}, nil},
		{`{"speaking":true,"delay":0}`, &Speaking{}, &Speaking{Flags: 1, Delay: new(int)}},
		{`{"speaking":255,"ssrc":3}`, &Speaking{}, &Speaking{Flags: 7, SSRC: 3}},
		{`{"speaking":-1}`, &Speaking{}, nil}, {`{"speaking":"1"}`, &Speaking{}, nil},
		{`{"protocol":"webrtc","data":{"type":"offer","sdp":"v=0"}}`, &Select{}, &Select{"webrtc", "v=0"}},
		{`{"protocol":"webrtc","data":"v=0"}`, &Select{}, &Select{"webrtc", "v=0"}},
		{`{"protocol":"webrtc","sdp":"v=0","codecs":[]}`, &Select{}, &Select{"webrtc", "v=0"}},
		{`{"protocol":"webrtc","data":{"type":"answer","sdp":"v=0"}}`, &Select{}, nil},
		{`{"protocol":"webrtc","data":7}`, &Select{}, nil},
		{`{"protocol":"udp","data":{"address":"1.2.3.4","port":5,"mode":"x"}}`, &Select{}, &Select{Protocol: "udp"}},
		{`{"9":0,"8":50.5,"any":0,"pixelCounts":{"9":1}}`, &SinkWants{}, &SinkWants{map[sfu.SSRC]int{9: 0, 8: 51}, 0}},
		{`{}`, &SinkWants{}, &SinkWants{map[sfu.SSRC]int{}, 100}},
		{`{"9":101}`, &SinkWants{}, nil}, {`{"9":-1}`, &SinkWants{}, nil}, {`{"9":"0"}`, &SinkWants{}, nil},
	} {
		err := Message{Data: json.RawMessage(c.in)}.Payload(c.into)
		switch {
		case c.want == nil && err == nil:
			t.Errorf("%.60s was read as %+v", c.in, c.into)
		case c.want != nil && (err != nil || !reflect.DeepEqual(c.into, c.want)):
			t.Errorf("%.60s\n got %+v, %v\nwant %+v", c.in, c.into, err, c.want)
		}
	}
	var many bytes.Buffer
	many.WriteString(`{"any":0`)
	for i := range MaxWants + 1 {
		many.WriteString(`,"` + snowflake.ID(i+1).String() + `":0`)
	}
	many.WriteString(`}`)
	if (Message{Data: many.Bytes()}).Payload(&SinkWants{}) == nil {
		t.Errorf("%d wants were read", MaxWants+1)
	}
}

func TestResumeSeen(t *testing.T) {
	for in, want := range map[string]uint64{`{}`: 0, `{"seq_ack":-1}`: 0, `{"seq_ack":0}`: 0, `{"seq_ack":12}`: 12, `{"seq":9}`: 9, `{"seq_ack":0,"seq":9}`: 9, `{"seq_ack":null}`: 0} {
		var r Resume
		if err := json.Unmarshal([]byte(in), &r); err != nil || r.Seen() != want {
			t.Errorf("%s: %d, %v, want %d", in, r.Seen(), err, want)
		}
	}
}

func TestVersions(t *testing.T) {
	for in, want := range map[string]Version{"": 1, "1": 1, "4": 4, "8": 8, "9": 9, "0": 0, "10": 0, "-1": 0, "x": 0} {
		if v, ok := ParseVersion(in); v != want || ok != (want != 0) {
			t.Errorf("%q: %d, %t", in, v, ok)
		}
	}
}

// A frame that is read can be written again and means the same; nothing a
// stranger writes makes a reader panic.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		`{"op":0,"d":{"server_id":"1","user_id":"2","session_id":"s","token":"t","max_dave_protocol_version":1}}`,
		`{"op":3,"d":{"t":1700000000123,"seq_ack":5}}`, `{"op":3,"d":17}`, `{"op":5,"d":{"speaking":true,"delay":0}}`,
		`{"op":7,"d":{"server_id":1,"session_id":"s","token":"t","seq":5}}`, `{"op":15,"d":{"any":100,"5":0}}`,
		`{"op":1,"d":{"protocol":"webrtc","data":"v=0"}}`, `{"op":2,"seq":1,"d":{}}`, `{"op":9,"d":null}`, `{"op":1,"d":`, "\xff\xfe",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := ReadMessage(frame)
		if err != nil {
			return
		}
		for _, v := range []any{&Identify{}, &Resume{}, &Select{}, &Heartbeat{}, &Speaking{}, &SinkWants{}} {
			if m.Payload(v) != nil {
				continue
			}
			b, err := AppendMessage(nil, m.Op, m.Seq, v)
			if err != nil {
				t.Fatalf("%T of %q cannot be written: %v", v, frame, err)
			}
			again, err := ReadMessage(b)
			if err != nil || again.Op != m.Op || again.Seq != m.Seq {
				t.Fatalf("%q was written as %q, read as %+v: %v", frame, b, again, err)
			}
		}
	})
}
