package allocator

import (
	"time"

	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
)

// MaxLabels bounds the guilds that try a label.
const MaxLabels = 256

// LabelOrder has the calls of a guild that begin or move from now on try nodes of a
// label (verb label), or with Clear no more. It is answered by GuildLabel.
type LabelOrder struct {
	Guild string `json:"guild"` // its id, in decimal
	Label string `json:"label,omitempty"`
	Clear bool   `json:"clear,omitempty"`
	By    string `json:"by"` // required
}

// Check is nil, or why the order cannot be given.
func (o LabelOrder) Check() error {
	id, err := snowflake.Parse(o.Guild)
	switch {
	case o.By == "":
		return Refuse(CodeBadRequest, "who asks is missing")
	case len(o.By) > edgeagent.MaxNote:
		return Refuse(CodeBadRequest, "who asks takes %d bytes, at most %d are noted", len(o.By), edgeagent.MaxNote)
	case err != nil || id == 0 || id.String() != o.Guild:
		return Refuse(CodeBadRequest, "%.24q is no guild id", o.Guild)
	case o.Clear == (o.Label != ""):
		return Refuse(CodeBadRequest, "want a label, or to clear it")
	case len(o.Label) > edgeagent.MaxLabel:
		return Refuse(CodeBadRequest, "label of %d bytes, at most %d", len(o.Label), edgeagent.MaxLabel)
	}
	return nil
}

// GuildLabel is the value of a guild in the labels bucket: its calls try nodes of Label.
type GuildLabel struct {
	Guild string    `json:"guild"`
	Label string    `json:"label,omitempty"` // empty, of an answer: it tries none
	By    string    `json:"by"`
	At    time.Time `json:"at"`
	// Nodes, of an answer, is how many ready nodes have the label.
	Nodes int `json:"nodes"`
}

// Belongs makes it a bus.Keyed.
func (l *GuildLabel) Belongs(key string) bool {
	return l.Guild == key && LabelOrder{Guild: l.Guild, Label: l.Label, By: l.By}.Check() == nil
}

// LabelsRequest asks which guilds try a label (verb labels).
type LabelsRequest struct{}

// LabelsReply answers it, by guild.
type LabelsReply struct {
	Labels []GuildLabel `json:"labels"`
}
