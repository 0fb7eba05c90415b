package sfu

import "fmt"

// ErrorCode is the closed list of reasons for which the engine refuses a
// command.
type ErrorCode string

// The codes.
const (
	CodeBadCommand  ErrorCode = "bad_command" // malformed, or out of order
	CodeBadOffer    ErrorCode = "bad_offer"   // the SDP offer cannot be answered
	CodeNoSession   ErrorCode = "no_session"  // unknown or ended session
	CodeExists      ErrorCode = "exists"      // session id in use, or second offer
	CodeFull        ErrorCode = "full"        // Limits.Sessions reached
	CodeUnavailable ErrorCode = "unavailable" // the engine is starting or stopping
	CodeInternal    ErrorCode = "internal"    // recovered panic
)

// Error is a refused command, as it crosses the stream.
type Error struct {
	Code    ErrorCode `json:"code"`
	Message string    `json:"message"`
}

// Error is "code: message".
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Refuse makes an Error; format as in fmt.
func Refuse(code ErrorCode, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
