package sfu

import "voicefleet/internal/snowflake"

// SessionID names one voice session of one user. It is the id of the grant that
// opened it: 1 to 64 characters of [A-Za-z0-9_-], never used twice.
type SessionID string

// Valid says whether the id has the promised form.
func (id SessionID) Valid() bool {
	if len(id) == 0 || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// CallID names a call: the snowflake of the voice channel it takes place in.
type CallID struct{ snowflake.ID }

// UserID names a user or bot.
type UserID struct{ snowflake.ID }

// SSRC is a synchronization source (RFC 3550 section 3). The one a session
// speaks with is given by the engine and unique within the node.
type SSRC uint32
