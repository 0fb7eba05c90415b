package allocatorserver

import (
	"context"
	"slices"
	"time"

	"voicefleet/allocator"
	"voicefleet/internal/bus"
)

// label has the calls of a guild try nodes of a label, or no more, and notes it.
func (s *Server) label(ctx context.Context, o allocator.LabelOrder) (allocator.GuildLabel, error) {
	l := allocator.GuildLabel{Guild: o.Guild, Label: o.Label, By: o.By, At: time.Now()}
	if err := o.Check(); err != nil {
		return l, err
	}
	if err := s.Ready(); err != nil {
		return l, allocator.Refuse(allocator.CodeUnavailable, "%v", err)
	}
	known, _ := s.labels(ctx, allocator.LabelsRequest{}) // which never fails
	is := func(l allocator.GuildLabel) bool { return l.Guild == o.Guild }
	tries := "no label any more"
	var err error
	switch {
	case o.Clear:
		err = s.tries.Delete(ctx, o.Guild, 0)
	case len(known.Labels) >= allocator.MaxLabels && !slices.ContainsFunc(known.Labels, is):
		return l, allocator.Refuse(allocator.CodeBadRequest, "%d guilds try a label, at most %d do: clear one first", len(known.Labels), allocator.MaxLabels)
	default:
		tries = "label " + o.Label
		_, err = s.tries.Put(ctx, o.Guild, l)
	}
	if err != nil {
		return l, err
	}
	s.journal.note(allocator.JournalEntry{At: l.At, By: o.By, Deed: allocator.DeedLabel, Why: "guild " + o.Guild + " tries " + tries})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.core.Place().Fleet().Try(l) // the bucket tells the others, and this one again
	if !o.Clear {
		l.Nodes = s.core.Place().Fleet().Labelled(l.Label)
	}
	return l, nil
}

func (s *Server) labels(context.Context, allocator.LabelsRequest) (allocator.LabelsReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return allocator.LabelsReply{Labels: s.core.Place().Fleet().Labels()}, nil
}

func (s *Server) seeLabel(ch bus.Change[allocator.GuildLabel]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case ch.Synced:
		s.readLocked(bus.LabelsBucket)
	case ch.Gone:
		s.core.Place().Fleet().Try(allocator.GuildLabel{Guild: ch.Key})
	default:
		s.core.Place().Fleet().Try(ch.Value)
	}
}
