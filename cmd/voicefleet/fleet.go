package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// fleetAsk is what the operator's routes ask of the allocator; its client is
// one.
type fleetAsk interface {
	Nodes(ctx context.Context) ([]allocator.NodeView, error)
	Calls(ctx context.Context) ([]allocator.CallEntry, error)
	Explain(ctx context.Context, call sfu.CallID) (allocator.ExplainReply, error)
	Journal(ctx context.Context, req allocator.JournalRequest) (allocator.JournalReply, error)
}

// drainAsk is what they ask of a node; the client of its agent is one.
type drainAsk interface {
	Drain(ctx context.Context, node edgeagent.NodeID, req edgeagent.DrainRequest) (edgeagent.DrainReply, error)
	Undrain(ctx context.Context, node edgeagent.NodeID, req edgeagent.DrainRequest) (edgeagent.DrainReply, error)
}

// fleetPath is where the operator's routes for the fleet begin. Those for people
// and guilds are textchat's.
const fleetPath = "/api/admin/fleet/"

const (
	// askTime bounds one question to the allocator or a node.
	askTime = 5 * time.Second
	// maxDrainBody bounds what is read of an order to drain, in bytes: two notes
	// fit however they are escaped.
	maxDrainBody = 4 << 10
)

// mountFleet adds nodes, calls, explain, drain and undrain.
func mountFleet(mux *http.ServeMux, ask fleetAsk, nodes drainAsk, token string) {
	route := func(method, pattern string, answer func(ctx context.Context, r *http.Request) (any, error)) {
		mux.HandleFunc(method+" "+fleetPath+pattern, func(w http.ResponseWriter, r *http.Request) {
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
	route("GET", "nodes", func(ctx context.Context, _ *http.Request) (any, error) { return ask.Nodes(ctx) })
	route("GET", "calls", func(ctx context.Context, _ *http.Request) (any, error) { return ask.Calls(ctx) })
	route("GET", "explain/{call}", func(ctx context.Context, r *http.Request) (any, error) {
		var id sfu.CallID
		if err := json.Unmarshal([]byte(`"`+r.PathValue("call")+`"`), &id); err != nil {
			return nil, allocator.Refuse(allocator.CodeBadRequest, "%.40q is not a channel id", r.PathValue("call"))
		}
		return ask.Explain(ctx, id)
	})
	route("GET", "journal", func(ctx context.Context, r *http.Request) (any, error) {
		req, err := journalQuery(r)
		if err != nil {
			return nil, err
		}
		rep, err := ask.Journal(ctx, req)
		return rep.Entries, err
	})
	route("POST", "nodes/{node}/drain", func(ctx context.Context, r *http.Request) (any, error) { return order(ctx, r, nodes.Drain) })
	route("POST", "nodes/{node}/undrain", func(ctx context.Context, r *http.Request) (any, error) { return order(ctx, r, nodes.Undrain) })
}

// journalQuery reads ?limit=, before=, node= and call=.
func journalQuery(r *http.Request) (req allocator.JournalRequest, err error) {
	q := r.URL.Query()
	if v := q.Get("limit"); v != "" {
		if req.Limit, err = strconv.Atoi(v); err != nil {
			return req, allocator.Refuse(allocator.CodeBadRequest, "limit %.20q is no number", v)
		}
	}
	if v := q.Get("before"); v != "" {
		if req.Before, err = strconv.ParseUint(v, 10, 64); err != nil {
			return req, allocator.Refuse(allocator.CodeBadRequest, "before %.20q is no place in the journal", v)
		}
	}
	if v := q.Get("call"); v != "" {
		if err = req.Call.UnmarshalText([]byte(v)); err != nil {
			return req, allocator.Refuse(allocator.CodeBadRequest, "%.40q is not a channel id", v)
		}
	}
	req.Node = edgeagent.NodeID(q.Get("node"))
	if req.Node != "" && !req.Node.Valid() {
		return req, allocator.Refuse(allocator.CodeBadRequest, "%.70q is no node id", req.Node)
	}
	return req, nil
}

// order passes an order to drain on to its node, and adds where it came from.
func order(ctx context.Context, r *http.Request, give func(context.Context, edgeagent.NodeID, edgeagent.DrainRequest) (edgeagent.DrainReply, error)) (any, error) {
	var req edgeagent.DrainRequest
	body, err := io.ReadAll(io.LimitReader(r.Body, maxDrainBody+1))
	if err == nil && len(body) > maxDrainBody {
		err = fmt.Errorf("it is longer than %d bytes", maxDrainBody)
	}
	if err == nil && len(body) > 0 { // without a body nobody has a name
		err = json.Unmarshal(body, &req)
	}
	if err != nil {
		return nil, &edgeagent.Error{Code: edgeagent.CodeBadRequest, Message: "read order: " + err.Error()}
	}
	if req.By == "" {
		req.By = "operator"
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		req.By += " from " + host
	}
	rep, err := give(ctx, edgeagent.NodeID(r.PathValue("node")), req)
	if err != nil && edgeagent.CodeOf(err) == edgeagent.CodeUnavailable {
		return nil, errors.New(wordsNoNode(err))
	}
	return rep, err
}

func fleetStatus(err error) int {
	var node *edgeagent.Error
	if errors.As(err, &node) && node.Code == edgeagent.CodeBadRequest {
		return http.StatusBadRequest
	}
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
