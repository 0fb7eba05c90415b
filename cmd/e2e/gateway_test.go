package e2e

import (
	"bytes"
	"encoding/json"

	"github.com/lxzan/gws"
)

// gatewayFrame is what the gateway says.
type gatewayFrame struct {
	Op int             `json:"op"`
	T  string          `json:"t"`
	S  uint64          `json:"s"`
	D  json.RawMessage `json:"d"`
}

// readFrame reads a frame, and lets its message go.
func readFrame(m *gws.Message) (f gatewayFrame, err error) {
	b := bytes.Clone(m.Bytes())
	m.Close()
	err = json.Unmarshal(b, &f)
	return f, err
}

// sendFrame says something; a connection that has ended is noticed by its reader.
func sendFrame(ws *gws.Conn, op int, d any) {
	b, err := json.Marshal(map[string]any{"op": op, "d": d})
	if err == nil {
		_ = ws.WriteMessage(gws.OpcodeText, b)
	}
}

// answerHello resumes a session after seq, or begins one where there is none.
func answerHello(ws *gws.Conn, token, session string, seq uint64) {
	if session != "" {
		sendFrame(ws, 6, map[string]any{"token": token, "session_id": session, "seq": seq})
		return
	}
	sendFrame(ws, 2, map[string]any{"token": token, "intents": 33281, "properties": map[string]any{"os": "linux", "browser": "test", "device": "test"}})
}
