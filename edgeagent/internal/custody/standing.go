package custody

import (
	"encoding/json"
	"time"

	"voicefleet/sfu"
)

// standing is what an agent leaves with the engine for the agent after it: what
// was asked of the node, which no heartbeat and no session tells.
type standing struct {
	Draining bool      `json:"draining"`
	Emptying bool      `json:"emptying,omitempty"`
	Until    time.Time `json:"until,omitzero"`
}

// remember leaves the node's standing with the engine; nothing, when that is the
// usual one.
func (c *Core) remember(out []Out) []Out {
	if c.engine != engineUp {
		return out // it is told when it is up
	}
	var data []byte
	if now := (standing{Draining: c.draining, Emptying: c.emptying, Until: c.until}); now != (standing{}) {
		data, _ = json.Marshal(now) // two flags and a time
	}
	return c.send(pending{kind: kindRemember}, sfu.Command{Remember: &sfu.Remember{Data: data}}, out)
}

// recall takes over the standing that an agent before this one left.
func (c *Core) recall(data []byte) {
	var was standing
	if len(data) == 0 || json.Unmarshal(data, &was) != nil {
		return
	}
	c.draining, c.emptying, c.until = was.Draining, was.Emptying, was.Until
}
