package edgeagentserver

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/internal/capacity"
	"voicefleet/edgeagent/internal/custody"
	"voicefleet/edgeagent/internal/load"
	"voicefleet/internal/bus"
)

// followKeys keeps the keys of grants until ctx ends.
func (s *Server) followKeys(ctx context.Context) {
	known := make(chan struct{})
	go func() {
		defer close(known)
		select {
		case <-s.keys.Synced():
			s.mu.Lock()
			s.synced = true
			s.mu.Unlock()
			s.beatNow()
		case <-ctx.Done():
		}
	}()
	for ctx.Err() == nil {
		if err := s.keys.Run(ctx, s.cfg.Bus); err != nil {
			s.log.Log(slog.LevelWarn, "keys", "grant keys are not followed", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(serveRetry):
			}
		}
	}
	<-known
}

// measure finds out what the node can carry.
func (s *Server) measure() {
	pps := s.cfg.CapacityPPS
	if pps == 0 {
		workers := max(1, min(len(s.cfg.Ports), runtime.NumCPU()))
		var err error
		if pps, err = capacity.Measure(workers); err != nil {
			// Without a figure the node would take no calls at all; this one
			// any machine can carry.
			pps = 10_000
			s.cfg.Log.Error("capacity could not be measured", "taken", pps, "err", err)
		}
	}
	c := edgeagent.Capacity{
		PPS:      pps,
		BPS:      capacity.Bits(pps, capacity.CardSpeed(os.DirFS("/sys"))),
		Sessions: s.cfg.Limits.Sessions,
	}
	s.cfg.Log.Info("capacity", "pps", int(c.PPS), "bps", int(c.BPS), "sessions", c.Sessions)
	s.metrics.capacity(c)
	s.mu.Lock()
	s.capacity = c
	s.mu.Unlock()
	s.beatNow()
}

// beatNow asks for a heartbeat before its time.
func (s *Server) beatNow() {
	select {
	case s.beat <- struct{}{}:
	default:
	}
}

// heartbeats writes the heartbeat until ctx ends, and then that the node is gone.
// While the bus is away it keeps trying: the node lives on.
func (s *Server) heartbeats(ctx context.Context) {
	var bucket *bus.Bucket[edgeagent.Heartbeat]
	put := func(hb edgeagent.Heartbeat) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), edgeagent.HeartbeatInterval)
		defer cancel()
		var err error
		if bucket == nil {
			bucket, err = bus.OpenBucket[edgeagent.Heartbeat](ctx, s.cfg.Bus, bus.NodesBucket)
		}
		if err == nil {
			_, err = bucket.Put(ctx, string(s.cfg.Node), hb)
		}
		if err != nil {
			s.metrics.missedBeats.Inc()
			s.log.Log(slog.LevelWarn, "heartbeat", "heartbeat is not written", "err", err)
		}
	}
	tick := time.NewTicker(edgeagent.HeartbeatInterval)
	defer tick.Stop()
	var hb edgeagent.Heartbeat
	for {
		if next, ok := s.compose(ctx); ok {
			hb = next
			put(hb)
		}
		select {
		case <-ctx.Done():
			hb.Node, hb.State, hb.At, hb.Calls = s.cfg.Node, edgeagent.Gone, time.Now(), nil
			hb.Load = edgeagent.Load{}
			put(hb)
			return
		case <-s.cfg.Bus.Reconnected():
		case <-s.beat:
		case <-tick.C:
		}
	}
}

// compose asks run how things stand.
func (s *Server) compose(ctx context.Context) (edgeagent.Heartbeat, bool) {
	addrs := s.cfg.Advertise()
	busy, cpuErr := readCPU()
	memory := readMemory()
	var hb edgeagent.Heartbeat
	_, err := s.ask(ctx, func(now time.Time, id uint64, out []custody.Out) []custody.Out {
		if cpuErr == nil {
			s.meter.Machine(now, busy)
		}
		s.memory = memory
		out = s.core.Advertise(now, addrs, out)
		hb = s.describe(now, s.core.Report())
		return append(out, custody.Out{Reply: &custody.Reply{ID: id}})
	})
	if err != nil { // run may still be about it
		return edgeagent.Heartbeat{}, false
	}
	return hb, true
}

// readMemory is the share of its memory limit that the control group uses.
func readMemory() float64 {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	return load.Memory(string(own), os.DirFS("/sys/fs/cgroup"))
}

func readCPU() (load.CPUTime, error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return load.CPUTime{}, err
	}
	defer f.Close()
	return load.ReadCPUTime(f)
}

// correct makes of what the node offers what its load shows that it can carry. It
// is called by run.
func (s *Server) correct(c edgeagent.Capacity, pps float64) edgeagent.Capacity {
	if s.measured == 0 {
		s.measured = c.PPS
	}
	next := capacity.Correct(s.measured, c.PPS, pps, s.last.Busy)
	if next == c.PPS {
		return c
	}
	c.BPS *= next / c.PPS
	c.PPS = next
	s.metrics.capacity(c)
	s.mu.Lock()
	s.capacity = c
	s.mu.Unlock()
	return c
}

// describe is called by run.
func (s *Server) describe(now time.Time, r custody.Report) edgeagent.Heartbeat {
	s.mu.Lock()
	capacity, synced, distances := s.capacity, s.synced, s.peers.RTT(now)
	s.mu.Unlock()
	state := edgeagent.Joining
	switch {
	case r.Draining:
		state = edgeagent.Draining
	case r.Up && synced && capacity.PPS > 0:
		state = edgeagent.Ready
	}
	pps, bps := s.meter.Rates(now)
	if capacity.PPS > 0 && s.cfg.CapacityPPS == 0 {
		capacity = s.correct(capacity, pps)
	}
	if s.pressed { // full, whatever was measured
		capacity.PPS, capacity.BPS = max(1, min(capacity.PPS, pps)), max(1, min(capacity.BPS, bps))
		capacity.Sessions = max(1, min(capacity.Sessions, r.Sessions))
	}
	hb := edgeagent.Heartbeat{
		Node: s.cfg.Node, State: state, Region: s.cfg.Region, Zone: s.cfg.Zone, Version: s.cfg.Version,
		Location: s.cfg.Location, Label: s.cfg.Label, Weight: s.cfg.Weight, PeerRTT: distances,
		Started: s.started, At: now, Addrs: r.Advertise, Ports: r.Ports, ProbeKey: r.ProbeKey,
		Capacity: capacity,
		Load:     edgeagent.Load{PPS: pps, BPS: bps, Sessions: r.Sessions, CPU: s.meter.CPU(), SocketDrops: s.last.SocketDrops},
		Emptying: r.Emptying, Until: r.Until,
		Epoch: r.Epoch, Calls: r.Calls,
		Relays: r.Relays,
	}
	if s.links != nil {
		hb.Link = s.links.addr()
		hb.LostLinks, hb.LossyLinks = s.links.lost()
	}
	if loss := s.last.Loss; loss.Of >= edgeagent.LossVoters {
		hb.Load.Loss, hb.Load.LossOf = loss.Middle, loss.Of
	}
	if len(hb.Ports) == 0 {
		hb.Ports = s.cfg.Ports
	}
	if s.closed != nil {
		s.closed.targets.own(hb.Addrs, hb.Ports)
	}
	s.metrics.state(state, r)
	return hb
}
