package load

import (
	"context"
	"errors"

	"voicefleet/bench/internal/fault"
	"voicefleet/bench/internal/impair"
	"voicefleet/bench/internal/target"
	"voicefleet/bench/scenario"
)

// startServer starts a server of our own, or takes the one that was named.
func (r *run) startServer(ctx context.Context) error {
	s := r.plan.Scenario
	sessions := len(r.members) + 100 // some leave while others come
	if r.config.Server != nil {
		remote, err := target.OpenRemote(ctx, *r.config.Server)
		if err != nil {
			return err
		}
		r.stops = append(r.stops, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), cleanup)
			defer cancel()
			return remote.Close(ctx)
		})
		return r.enterBy(ctx, remote)
	}
	if s.Server.Kind == scenario.KindNode {
		node, err := target.StartNode(ctx, target.NodeConfig{
			Program: r.config.Program, MediaPort: r.config.MediaPort, Workers: s.Server.Workers, NoSilenceGate: !s.Server.SilenceGate, MaxSessions: sessions,
			Faults: len(s.Faults) > 0, Log: r.config.Log,
		})
		if err != nil {
			return err
		}
		r.stops = append(r.stops, node.Stop)
		r.door, r.server = nodeDoor{run: r, node: node}, node
		return nil
	}
	up, err := target.StartUp(ctx, target.UpConfig{
		Program: r.config.Program, MediaPort: r.config.MediaPort, Workers: s.Server.Workers, NoSilenceGate: !s.Server.SilenceGate, MaxSessions: sessions, Log: r.config.Log,
	})
	if err != nil {
		return err
	}
	r.stops = append(r.stops, up.Stop)
	r.server = up
	remote, err := up.Remote(ctx, target.Shape{})
	if err != nil {
		return err
	}
	return r.enterBy(ctx, remote)
}

func (r *run) enterBy(ctx context.Context, remote *target.Remote) error {
	d, err := openServerDoor(ctx, r, remote)
	if err != nil {
		return err
	}
	r.door = d
	return nil
}

// startProxy puts the proxy between the light clients and the server, when a step
// needs it.
func (r *run) startProxy() error {
	needed := false
	for _, f := range r.plan.Scenario.Faults {
		needed = needed || f.Do.Network()
	}
	if !needed {
		return nil
	}
	proxy, err := impair.New(impair.Config{Seed: r.plan.Scenario.Seed})
	if err != nil {
		return err
	}
	r.proxy = proxy
	running, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- proxy.Run(running) }()
	r.stops = append(r.stops, func() error {
		stop()
		return <-ended
	})
	return nil
}

// checkFaults refuses steps that this run may not take, before anybody joins.
func (r *run) checkFaults() error {
	if len(r.plan.Scenario.Faults) == 0 {
		return nil
	}
	for _, m := range r.plan.Scenario.Rooms {
		if r.proxy != nil && (m.Bots == scenario.BotsFaithful || m.Faithful > 0) {
			return errors.New("network faults reach light clients only, and this scenario has faithful bots: make them light, or take the fault out")
		}
	}
	var host fault.Host
	if r.server != nil {
		host = r.server
	}
	var path fault.Path
	if r.proxy != nil {
		path = r.proxy
	}
	var err error
	r.faults, err = fault.New(r.plan.Scenario.Faults, host, path)
	return err
}
