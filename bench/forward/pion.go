package forward

import (
	"context"
	"strconv"
	"sync"

	"voicefleet/bench/internal/role"
)

// pionServer is the stock forwarder as a server. Its rooms stay until it ends:
// their connections time out by themselves.
type pionServer struct {
	pion role.Pion

	mu sync.Mutex
	// Guarded by mu.
	rooms map[int]bool // announced
}

func (s *pionServer) join(ctx context.Context, room int, c Case, member int, offer string) (string, error) {
	name := strconv.Itoa(room)
	s.mu.Lock()
	if !s.rooms[room] {
		if err := s.pion.Room(ctx, name, c.Talkers); err != nil {
			s.mu.Unlock()
			return "", err
		}
		s.rooms[room] = true
	}
	s.mu.Unlock()
	return s.pion.Join(ctx, name, member, offer)
}

func (s *pionServer) leave(ctx context.Context, room int) error {
	return s.pion.Leave(ctx, strconv.Itoa(room))
}

func (s *pionServer) pids() ([]int, error) { return []int{s.pion.PID()}, nil }
