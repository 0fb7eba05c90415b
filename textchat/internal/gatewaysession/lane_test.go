package gatewaysession

import (
	"fmt"
	"slices"
	"testing"

	"voicefleet/internal/snowflake"
)

func presence(guild, user snowflake.ID, n int) *Event {
	return &Event{Name: fmt.Sprintf("P%d/%d/%d", guild, user, n), Late: Key{Presence, guild, user}}
}

func typing(channel, user snowflake.ID) *Event {
	return &Event{Name: fmt.Sprintf("T%d/%d", channel, user), Late: Key{Typing, channel, user}}
}

// drain lists what is in a lane by name.
func drain(l *Lane) []string {
	var names []string
	for e := l.Pop(); e != nil; e = l.Pop() {
		names = append(names, e.Name)
	}
	return names
}

func TestLaneKeepsTheNewest(t *testing.T) {
	l := Lane{Most: 10}
	l.Put(presence(1, 7, 1))
	l.Put(typing(5, 7))
	l.Put(presence(2, 7, 1))
	if shed := l.Put(presence(1, 7, 2)); shed != 1 {
		t.Errorf("replaced, and %d shed", shed)
	}
	if got, want := drain(&l), []string{"P1/7/2", "T5/7", "P2/7/1"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if !l.Empty() {
		t.Error("not empty")
	}
}

func TestLaneFull(t *testing.T) {
	l := Lane{Most: 4}
	for user := range snowflake.ID(3) {
		l.Put(presence(1, user, 1))
	}
	l.Put(presence(2, 9, 1))
	if shed := l.Put(typing(5, 1)); shed != 1 {
		t.Errorf("typing into a full lane: %d shed", shed)
	}
	// The guild that wants in makes way for a list of all its presences.
	if shed := l.Put(presence(1, 8, 1)); shed != 4 {
		t.Errorf("%d shed, want 4", shed)
	}
	if shed := l.Put(presence(1, 3, 1)); shed != 1 {
		t.Errorf("single presences of a stale guild: %d shed", shed)
	}
	l.Put(typing(5, 1))
	if got, want := drain(&l), []string{"P2/9/1", "T5/1"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if l.Empty() {
		t.Error("a stale guild is something to come")
	}
	if got := l.TakeStale(); !slices.Equal(got, []snowflake.ID{1}) {
		t.Errorf("stale: %v", got)
	}
	if l.Put(presence(1, 3, 1)) != 0 || len(drain(&l)) != 1 {
		t.Error("single presences count again after the list")
	}
	l.Put(typing(5, 1))
	l.Put(presence(1, 3, 1))
	if shed := l.Forget(); shed != 1 || len(drain(&l)) != 1 {
		t.Error("typing is not forgotten")
	}
}
