package enrol

import (
	"encoding/json"
	"io"
	"net/http"
)

// Handler answers JoinPath and RenewPath. Whoever asks is unknown: a token or a
// certificate says who it is.
func (e *Enroller) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+JoinPath, func(w http.ResponseWriter, r *http.Request) {
		var req JoinRequest
		reply(w, read(r, &req), func() (any, error) { return e.Join(r.Context(), req) })
	})
	mux.HandleFunc("POST "+RenewPath, func(w http.ResponseWriter, r *http.Request) {
		var req RenewRequest
		reply(w, read(r, &req), func() (any, error) { return e.Renew(r.Context(), req) })
	})
	return mux
}

func read(r *http.Request, v any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	switch {
	case err != nil:
		return refuse(CodeBadRequest, "read request: %v", err)
	case len(body) > MaxBody:
		return refuse(CodeBadRequest, "it is longer than %d bytes", MaxBody)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return refuse(CodeBadRequest, "read request: %v", err)
	}
	return nil
}

func reply(w http.ResponseWriter, err error, answer func() (any, error)) {
	var v any
	if err == nil {
		v, err = answer()
	}
	status := http.StatusOK
	if err != nil {
		status, v = Status(err), &Error{Code: CodeOf(err), Message: err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // the client may be gone: nothing to do about it
}

// Status is the HTTP status of a refusal.
func Status(err error) int {
	switch CodeOf(err) {
	case CodeBadRequest:
		return http.StatusBadRequest
	case CodeUnknown:
		return http.StatusNotFound
	case CodeUnknownToken, CodeRevoked:
		return http.StatusForbidden
	case CodeNameTaken, CodeTokenUsed:
		return http.StatusConflict
	case CodeTokenExpired:
		return http.StatusGone
	}
	return http.StatusServiceUnavailable
}
