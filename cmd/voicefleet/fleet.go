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
	Labels(ctx context.Context) ([]allocator.GuildLabel, error)
	Upgrade(ctx context.Context, o allocator.Order) (edgeagent.UpgradeReply, error)
}

// fleetOrder is what they have the allocator do; its client is one.
type fleetOrder interface {
	Drain(ctx context.Context, o allocator.Order) (allocator.Progress, error)
	Cordon(ctx context.Context, o allocator.Order) (allocator.Progress, error)
	Undrain(ctx context.Context, o allocator.Order) (allocator.Progress, error)
	Progress(ctx context.Context, node edgeagent.NodeID) (allocator.Progress, error)
	Label(ctx context.Context, o allocator.LabelOrder) (allocator.GuildLabel, error)
}

// fleetPath is where the operator's routes for the fleet begin. Those for people
// and guilds are textchat's.
const fleetPath = "/api/admin/fleet/"

const (
	// askTime bounds one question to the allocator or a node.
	askTime = 5 * time.Second
	// maxDrainBody bounds what is read of an order, in bytes: two notes fit however
	// they are escaped.
	maxDrainBody = 4 << 10
)

// mountFleet adds nodes, calls, explain, journal, drain, cordon, undrain, upgrade and labels.
func mountFleet(mux *http.ServeMux, ask fleetAsk, orders fleetOrder, token string) {
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
	for verb, give := range map[string]func(context.Context, allocator.Order) (allocator.Progress, error){
		"drain": orders.Drain, "cordon": orders.Cordon, "undrain": orders.Undrain,
	} {
		route("POST", "nodes/{node}/"+verb, func(ctx context.Context, r *http.Request) (any, error) { return order(ctx, r, give) })
	}
	route("GET", "nodes/{node}/progress", func(ctx context.Context, r *http.Request) (any, error) {
		return orders.Progress(ctx, edgeagent.NodeID(r.PathValue("node")))
	})
	route("POST", "nodes/{node}/upgrade", func(ctx context.Context, r *http.Request) (any, error) { return order(ctx, r, ask.Upgrade) })
	route("GET", "labels", func(ctx context.Context, _ *http.Request) (any, error) { return ask.Labels(ctx) })
	route("POST", "labels/{guild}", func(ctx context.Context, r *http.Request) (any, error) {
		var o allocator.LabelOrder
		if err := readOrder(r, &o, &o.By); err != nil {
			return nil, allocator.Refuse(allocator.CodeBadRequest, "%v", err)
		}
		o.Guild = r.PathValue("guild")
		return orders.Label(ctx, o)
	})
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

// readOrder reads an order into o, and adds to by, a part of it, where it came from.
func readOrder(r *http.Request, o any, by *string) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxDrainBody+1))
	if err == nil && len(body) > maxDrainBody {
		err = fmt.Errorf("it is longer than %d bytes", maxDrainBody)
	}
	if err == nil && len(body) > 0 { // without a body nobody has a name
		err = json.Unmarshal(body, o)
	}
	if err != nil {
		return fmt.Errorf("read order: %w", err)
	}
	if *by == "" {
		*by = "operator"
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		*by += " from " + host
	}
	return nil
}

// order passes an order about a node on to the allocator.
func order[T any](ctx context.Context, r *http.Request, give func(context.Context, allocator.Order) (T, error)) (any, error) {
	var o allocator.Order
	if err := readOrder(r, &o, &o.By); err != nil {
		return nil, allocator.Refuse(allocator.CodeBadRequest, "%v", err)
	}
	o.Node = edgeagent.NodeID(r.PathValue("node"))
	p, err := give(ctx, o)
	if refused := (*allocator.Error)(nil); errors.As(err, &refused) && refused.Code == allocator.CodeUnavailable {
		return nil, errors.New(wordsNoNode(err))
	}
	return p, err
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
	case allocator.CodeRefused:
		return http.StatusConflict
	}
	return http.StatusServiceUnavailable
}
