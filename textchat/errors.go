package textchat

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Error is a refused request, as REST shows it.
type Error struct {
	Status  int    `json:"-"`
	Code    int    `json:"code"`
	Message string `json:"message"`
	// Fields names what is wrong with the body, field by field.
	Fields FieldErrors `json:"errors,omitempty"`
	// RetryAfter, when set, tells when to come back (429 and 503).
	RetryAfter time.Duration `json:"-"`
}

// FieldErrors are the errors of a form, by field. A field within another is
// named with dots, a number for a place in a list: embeds.0.title.
type FieldErrors map[string]FieldError

// MarshalJSON nests the fields.
func (f FieldErrors) MarshalJSON() ([]byte, error) {
	root := map[string]any{}
	for name, e := range f {
		at := root
		for part := range strings.SplitSeq(name, ".") {
			inner, ok := at[part].(map[string]any)
			if !ok {
				inner = map[string]any{}
				at[part] = inner
			}
			at = inner
		}
		at["_errors"] = e.Errors
	}
	return json.Marshal(root)
}

// FieldError is what is wrong with one field.
type FieldError struct {
	Errors []FieldProblem `json:"_errors"`
}

// FieldProblem is one thing wrong with a field.
type FieldProblem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error is "message (code)".
func (e *Error) Error() string { return fmt.Sprintf("%s (%d)", e.Message, e.Code) }

// The numbers of the public error list that this server uses.
const (
	CodeGeneral          = 0
	CodeUnknownChannel   = 10003
	CodeUnknownGuild     = 10004
	CodeUnknownInvite    = 10006
	CodeUnknownMember    = 10007
	CodeUnknownMessage   = 10008
	CodeUnknownOverwrite = 10009
	CodeUnknownRole      = 10011
	CodeUnknownUser      = 10013
	CodeUnknownEmoji     = 10014
	CodeUnknownWebhook   = 10015
	CodeUnknownBan       = 10026
	CodeUnknownVoice     = 10065
	CodeSlowmode         = 20016
	CodeMaxGuilds        = 30001
	CodeMaxPins          = 30003
	CodeMaxWebhooks      = 30007
	CodeMaxReactions     = 30010
	CodeMaxRoles         = 30005
	CodeMaxChannels      = 30013
	CodeMaxInvites       = 30016
	CodeTooLarge         = 40005
	CodeBanned           = 40007
	CodeNotInVoice       = 40032
	CodeMissingAccess    = 50001
	CodeNotOnDM          = 50003
	CodeEditOthers       = 50005
	CodeEmptyMessage     = 50006
	CodeCannotDM         = 50007
	CodeNonText          = 50008
	CodeMissingPerms     = 50013
	CodeBulkCount        = 50016
	CodeSystemMessage    = 50021
	CodeWebhookToken     = 50027
	CodeInvalidRole      = 50028
	CodeTooOld           = 50034
	CodeInvalidForm      = 50035
	CodeInvalidVersion   = 50041
	CodeFileTooLarge     = 50045
	CodeInvalidJSON      = 50109
	CodeWrongPassword    = 50018 // the pair of name and password, or the owner code, is wrong
	CodeWrongChannelType = 50024
	CodeThreadArchived   = 50083
	CodeThreadExists     = 160004
	CodeThreadLocked     = 160005
	CodeMaxThreads       = 160006
	CodeUnknownThread    = 10109 // member of a thread
)

// Refuse makes an Error.
func Refuse(status, code int, message string) *Error {
	return &Error{Status: status, Code: code, Message: message}
}

// Refusals that many routes share. They are values: do not change them.
var (
	ErrUnauthorized   = Refuse(http.StatusUnauthorized, CodeGeneral, "401: Unauthorized")
	ErrNotFound       = Refuse(http.StatusNotFound, CodeGeneral, "404: Not Found")
	ErrMethod         = Refuse(http.StatusMethodNotAllowed, CodeGeneral, "405: Method Not Allowed")
	ErrUnknownChannel = Refuse(http.StatusNotFound, CodeUnknownChannel, "Unknown Channel")
	ErrUnknownGuild   = Refuse(http.StatusNotFound, CodeUnknownGuild, "Unknown Guild")
	ErrUnknownInvite  = Refuse(http.StatusNotFound, CodeUnknownInvite, "Unknown Invite")
	ErrUnknownMember  = Refuse(http.StatusNotFound, CodeUnknownMember, "Unknown Member")
	ErrUnknownMessage = Refuse(http.StatusNotFound, CodeUnknownMessage, "Unknown Message")
	ErrUnknownOver    = Refuse(http.StatusNotFound, CodeUnknownOverwrite, "Unknown Overwrite")
	ErrUnknownEmoji   = Refuse(http.StatusBadRequest, CodeUnknownEmoji, "Unknown Emoji")
	ErrUnknownWebhook = Refuse(http.StatusNotFound, CodeUnknownWebhook, "Unknown Webhook")
	ErrUnknownBan     = Refuse(http.StatusNotFound, CodeUnknownBan, "Unknown Ban")
	ErrBanned         = Refuse(http.StatusForbidden, CodeBanned, "The user is banned from this guild.")
	ErrNotOnDM        = Refuse(http.StatusForbidden, CodeNotOnDM, "Cannot execute action on a DM channel")
	ErrNonText        = Refuse(http.StatusBadRequest, CodeNonText, "Cannot send messages in a non-text channel")
	ErrChannelType    = Refuse(http.StatusBadRequest, CodeWrongChannelType, "Cannot execute action on this channel type")
	ErrThreadArchived = Refuse(http.StatusBadRequest, CodeThreadArchived, "Thread is archived")
	ErrThreadLocked   = Refuse(http.StatusForbidden, CodeThreadLocked, "Thread is locked")
	ErrThreadExists   = Refuse(http.StatusBadRequest, CodeThreadExists, "A thread has already been created for this message")
	ErrThreadMember   = Refuse(http.StatusNotFound, CodeUnknownThread, "Unknown Thread Member")
	ErrEmptyMessage   = Refuse(http.StatusBadRequest, CodeEmptyMessage, "Cannot send an empty message")
	ErrEditOthers     = Refuse(http.StatusForbidden, CodeEditOthers, "Cannot edit a message authored by another user")
	ErrSystemMessage  = Refuse(http.StatusForbidden, CodeSystemMessage, "Cannot execute action on a system message")
	ErrFileTooLarge   = Refuse(http.StatusRequestEntityTooLarge, CodeFileTooLarge, "File uploaded exceeds the maximum size")
	ErrUnknownRole    = Refuse(http.StatusNotFound, CodeUnknownRole, "Unknown Role")
	ErrUnknownUser    = Refuse(http.StatusNotFound, CodeUnknownUser, "Unknown User")
	ErrUnknownVoice   = Refuse(http.StatusNotFound, CodeUnknownVoice, "Unknown Voice State")
	ErrMissingAccess  = Refuse(http.StatusForbidden, CodeMissingAccess, "Missing Access")
	ErrMissingPerms   = Refuse(http.StatusForbidden, CodeMissingPerms, "Missing Permissions")
	ErrNotInVoice     = Refuse(http.StatusBadRequest, CodeNotInVoice, "Target user is not connected to voice.")
	ErrWrongPassword  = Refuse(http.StatusUnauthorized, CodeWrongPassword, "Wrong name or password.")
	ErrWrongOwnerCode = Refuse(http.StatusForbidden, CodeWrongPassword, "This owner code is wrong or was used.")
	ErrInvalidJSON    = Refuse(http.StatusBadRequest, CodeInvalidJSON, "The request body contains invalid JSON.")
	ErrTooLarge       = Refuse(http.StatusRequestEntityTooLarge, CodeTooLarge, "Request entity too large")
)

// InvalidField says what is wrong with one field of a form.
func InvalidField(field, code, message string) *Error {
	return &Error{Status: http.StatusBadRequest, Code: CodeInvalidForm, Message: "Invalid Form Body",
		Fields: FieldErrors{field: {Errors: []FieldProblem{{Code: code, Message: message}}}}}
}

// Unavailable is a 503 with Retry-After.
func Unavailable(message string, after time.Duration) *Error {
	return &Error{Status: http.StatusServiceUnavailable, Code: CodeGeneral, Message: message, RetryAfter: after}
}

// ErrorOf is the one place where errors become refusals. What it does not know
// is a 500 that tells nothing.
func ErrorOf(err error) *Error {
	own := (*Error)(nil)
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, ErrNoRecord):
		return ErrNotFound
	case errors.Is(err, ErrBusy):
		return Unavailable("The server is busy, try again.", time.Second)
	}
	return Refuse(http.StatusInternalServerError, CodeGeneral, "500: Internal Server Error")
}
