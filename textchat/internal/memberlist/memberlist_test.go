package memberlist

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"voicefleet/textchat"
)

// client holds places as a client does that knows no more than the operations.
type client struct {
	places []string // "": not known
}

func text(i Item) string {
	if i.Group != nil {
		return fmt.Sprint(i.Group.ID, "=", i.Group.Count)
	}
	return i.Member.(string)
}

func (c *client) do(t *testing.T, op Op) {
	t.Helper()
	switch op.Op {
	case Sync, Invalidate:
		for len(c.places) < op.Range[0] {
			c.places = append(c.places, "")
		}
		list := []string{}
		for _, i := range op.Items {
			list = append(list, text(i))
		}
		c.places = slices.Replace(c.places, op.Range[0], min(op.Range[1]+1, len(c.places)), list...)
	case Insert:
		c.places = slices.Insert(c.places, *op.Index, text(*op.Item))
	case Update:
		c.places[*op.Index] = text(*op.Item)
	case Delete:
		c.places = slices.Delete(c.places, *op.Index, *op.Index+1)
	}
}

// all are the places of a list as they are.
func (l *List) all() (list []string) {
	for _, g := range l.groups {
		if len(g.rows) > 0 {
			list = append(list, text(Item{Group: &Group{g.id, len(g.rows)}}))
		}
		for _, r := range g.rows {
			list = append(list, r.Body.(string))
		}
	}
	return list
}

// TestClientsSeeTheList holds that a client that does what it is told has its pages as
// the list is, whatever comes, goes and moves, and that few things are told.
func TestClientsSeeTheList(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 7))
		l := New("mods", "vips", "online", "offline")
		size := 50 + r.IntN(500)
		row := func(id int) *Row {
			name := fmt.Sprint("m", r.IntN(50))
			g := r.IntN(4)
			return &Row{User: textchat.ID(id), Name: name, Group: g, Body: fmt.Sprint(id, name, r.IntN(3))}
		}
		var rows []*Row
		for id := range size {
			rows = append(rows, row(id))
		}
		l.Fill(rows)
		// One looks at the first pages, one at a later one as well.
		clients := []*client{{}, {}}
		pages := [][]int{{0, 1}, {0, 3}}
		for i, c := range clients {
			for _, p := range pages[i] {
				c.do(t, l.Open(p))
			}
		}
		for range 60 {
			few := r.IntN(2) == 0
			n := 1 + r.IntN(5)
			if !few {
				n = r.IntN(size)
			}
			for range n {
				if id := r.IntN(size); r.IntN(3) == 0 {
					l.Drop(textchat.ID(id))
				} else {
					l.Put(row(id))
				}
			}
			for _, turn := range l.Turn() {
				if few && len(turn.Ops) > 6*n {
					t.Fatalf("seed %d: %d operations on a page for %d changes", seed, len(turn.Ops), n)
				}
				for i, c := range clients {
					if slices.Contains(pages[i], turn.Page) {
						for _, op := range turn.Ops {
							c.do(t, op)
						}
					}
				}
			}
			want := l.all()
			for i, c := range clients {
				for _, p := range pages[i] {
					a, b := min(p*Page, len(want)), min(p*Page+Page, len(want))
					// What a client has beyond the end, as the groups tell it, are places not known.
					if len(c.places) < b || !slices.Equal(want[a:b], c.places[a:b]) {
						t.Fatalf("seed %d: page %d of client %d is\n%v\nshould be\n%v", seed, p, i, c.places[min(a, len(c.places)):], want[a:b])
					}
				}
			}
		}
	}
}

// TestOpsAreFew holds that one who comes online costs three operations, not a page.
func TestOpsAreFew(t *testing.T) {
	l := New("online")
	for id := range 300 {
		l.Put(&Row{User: textchat.ID(id), Name: fmt.Sprintf("%03d", id), Body: fmt.Sprint(id)})
	}
	l.Open(0)
	l.Put(&Row{User: 1000, Name: "050", Body: "new"})
	turn := l.Turn()
	if len(turn) != 1 || len(turn[0].Ops) != 3 || turn[0].Ops[0].Op != Delete || turn[0].Ops[1].Op != Update || turn[0].Ops[2].Op != Insert {
		t.Errorf("told %+v", turn)
	}
}
