package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"voicefleet/allocator"
	"voicefleet/sfu"
)

// fleetAsk is what the operator's routes ask of the allocator; its client is
// one.
type fleetAsk interface {
	Nodes(ctx context.Context) ([]allocator.NodeView, error)
	Calls(ctx context.Context) ([]allocator.CallEntry, error)
	Explain(ctx context.Context, call sfu.CallID) (allocator.ExplainReply, error)
}

// fleetPath is where the operator's routes for the fleet begin. Those for people
// and guilds are textchat's.
const fleetPath = "/api/admin/fleet/"

// askTime bounds one question to the allocator.
const askTime = 5 * time.Second

// mountFleet adds nodes, calls and explain.
func mountFleet(mux *http.ServeMux, ask fleetAsk, token string) {
	route := func(pattern string, answer func(ctx context.Context, r *http.Request) (any, error)) {
		mux.HandleFunc("GET "+fleetPath+pattern, func(w http.ResponseWriter, r *http.Request) {
			if !authorized(r, token) {
				refuse(w)
				return
			}
			ctx, cancel := context.WithTimeout(r.Context(), askTime)
			defer cancel()
			v, err := answer(ctx, r)
			status := http.StatusOK
			if err != nil {
				status = fleetStatus(err)
				v = map[string]any{"code": 0, "message": err.Error()}
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			json.NewEncoder(w).Encode(v) // the client may be gone: nothing to do about it
		})
	}
	route("nodes", func(ctx context.Context, _ *http.Request) (any, error) { return ask.Nodes(ctx) })
	route("calls", func(ctx context.Context, _ *http.Request) (any, error) { return ask.Calls(ctx) })
	route("explain/{call}", func(ctx context.Context, r *http.Request) (any, error) {
		var id sfu.CallID
		if err := json.Unmarshal([]byte(`"`+r.PathValue("call")+`"`), &id); err != nil {
			return nil, allocator.Refuse(allocator.CodeBadRequest, "%.40q is not a channel id", r.PathValue("call"))
		}
		return ask.Explain(ctx, id)
	})
}

func fleetStatus(err error) int {
	var refused *allocator.Error
	if !errors.As(err, &refused) {
		return http.StatusServiceUnavailable
	}
	switch refused.Code {
	case allocator.CodeBadRequest:
		return http.StatusBadRequest
	case allocator.CodeNoCall:
		return http.StatusNotFound
	}
	return http.StatusServiceUnavailable
}
