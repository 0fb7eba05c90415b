package forward

import (
	"context"

	"voicefleet/bench/internal/target"
)

// EdgeConfig says how the node under test is started.
type EdgeConfig struct{ target.NodeConfig }

func (c *EdgeConfig) validate() error { return c.Validate() }

// edge is the node under test as a server of a run.
type edge struct{ *target.Node }

// startEdge starts a node, and returns when it is ready.
func startEdge(ctx context.Context, config EdgeConfig) (*edge, error) {
	n, err := target.StartNode(ctx, config.NodeConfig)
	return &edge{n}, err
}

// join brings a member into a room.
func (e *edge) join(ctx context.Context, room int, _ Case, _ int, offer string) (string, error) {
	s, err := e.Open(ctx, room, offer)
	return s.Answer, err
}

// leave ends all sessions of a room.
func (e *edge) leave(ctx context.Context, room int) error { return e.CloseRoom(ctx, room) }

// pids are the agent and the engine.
func (e *edge) pids() ([]int, error) { return e.PIDs() }

// stop ends the node.
func (e *edge) stop() error { return e.Stop() }
