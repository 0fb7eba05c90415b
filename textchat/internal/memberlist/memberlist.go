// Package memberlist keeps the list of members that one sees beside a channel, for
// guilds whose members nobody is told all of: a client asks for the part that it looks
// at, in pages, and is told what changes there. In come rows as they are now, out go
// operations that bring the pages of a client from how they were told last to how they
// are. No clock and no I/O.
package memberlist

import (
	"cmp"
	"slices"
	"strings"

	"voicefleet/textchat"
)

const (
	// Page is how many places a page has. Titles of groups take places, too.
	Page = 100
	// opsMost is from how many changes on a page are told as the whole page.
	opsMost = 40
)

// Row is a member in a list. It is replaced when anything of it changes.
type Row struct {
	User  textchat.ID
	Name  string // by which the members of a group are sorted
	Group int    // of the groups of the list
	Body  any    // what is told of it
}

func order(a, b *Row) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.User, b.User))
}

// Item is a place of a list: the title of a group, or a member.
type Item struct {
	Group *Group `json:"group,omitempty"`
	// Member is the Body of a row.
	Member any `json:"member,omitempty"`
}

// Group is a group with the number of its members.
type Group struct {
	ID    string `json:"id"`
	Count int    `json:"count"`
}

// Op is an operation on the places of a client.
type Op struct {
	Op    string  `json:"op"` // one of the names below
	Range *[2]int `json:"range,omitempty"`
	Index *int    `json:"index,omitempty"`
	Item  *Item   `json:"item,omitempty"`
	Items []Item  `json:"items,omitzero"`
}

// Names of operations.
const (
	Sync       = "SYNC"       // the places of Range are Items, and no more
	Insert     = "INSERT"     // Item comes at Index, what was there and after moves on
	Update     = "UPDATE"     // Item is at Index
	Delete     = "DELETE"     // what is at Index goes, what was after moves up
	Invalidate = "INVALIDATE" // of Range nothing is told any more
)

// place is a place as it was told.
type place struct {
	group *group // of a title
	count int
	row   *Row
}

func (p place) item() Item {
	if p.row != nil {
		return Item{Member: p.row.Body}
	}
	return Item{Group: &Group{p.group.id, p.count}}
}

type group struct {
	id   string
	rows []*Row // sorted
}

// List is one list. Its pages are as they were told last; rows that are put show with
// the next Turn.
type List struct {
	groups []*group
	of     map[textchat.ID]*Row
	pages  map[int][]place
	length int // places, when pages were told
}

// New begins a list with groups, in order.
func New(groups ...string) *List {
	l := &List{of: make(map[textchat.ID]*Row), pages: make(map[int][]place)}
	for _, id := range groups {
		l.groups = append(l.groups, &group{id: id})
	}
	return l
}

// Put has a member stand in the list as this row says.
func (l *List) Put(r *Row) {
	l.Drop(r.User)
	g := l.groups[r.Group]
	i, _ := slices.BinarySearchFunc(g.rows, r, order)
	g.rows = slices.Insert(g.rows, i, r)
	l.of[r.User] = r
}

// Row is how a member stands in it, nil: it does not.
func (l *List) Row(user textchat.ID) *Row { return l.of[user] }

// Drop takes a member out of it.
func (l *List) Drop(user textchat.ID) {
	r := l.of[user]
	if r == nil {
		return
	}
	delete(l.of, user)
	g := l.groups[r.Group]
	i, _ := slices.BinarySearchFunc(g.rows, r, order)
	g.rows = slices.Delete(g.rows, i, i+1)
}

// Fill begins anew with these rows.
func (l *List) Fill(rows []*Row) {
	clear(l.of)
	for _, g := range l.groups {
		g.rows = nil
	}
	for _, r := range rows {
		l.of[r.User] = r
		l.groups[r.Group].rows = append(l.groups[r.Group].rows, r)
	}
	for _, g := range l.groups {
		slices.SortFunc(g.rows, order)
	}
}

// Groups are those that have members.
func (l *List) Groups() []Group {
	list := []Group{}
	for _, g := range l.groups {
		if len(g.rows) > 0 {
			list = append(list, Group{g.id, len(g.rows)})
		}
	}
	return list
}

// look is a page as it is now.
func (l *List) look(page int) []place {
	var list []place
	skip := page * Page
	for _, g := range l.groups {
		if len(g.rows) == 0 {
			continue
		}
		if skip > len(g.rows) {
			skip -= len(g.rows) + 1
			continue
		}
		if skip == 0 {
			list = append(list, place{group: g, count: len(g.rows)})
		}
		for _, r := range g.rows[max(skip-1, 0):] {
			if len(list) == Page {
				return list
			}
			list = append(list, place{group: g, row: r})
		}
		if skip = 0; len(list) == Page {
			return list
		}
	}
	return list
}

func (l *List) places() int {
	n := 0
	for _, g := range l.groups {
		if len(g.rows) > 0 {
			n += 1 + len(g.rows)
		}
	}
	return n
}

// Open begins to follow a page, if it is not followed, and tells it. Nothing may have
// been put since the last Turn.
func (l *List) Open(page int) Op {
	shown, ok := l.pages[page]
	if !ok {
		shown = l.look(page)
		l.pages[page] = shown
		l.length = l.places()
	}
	return sync(page, shown)
}

// Close ends that.
func (l *List) Close(page int) { delete(l.pages, page) }

// Span are the places of a page, the last one included.
func Span(page int) *[2]int { return &[2]int{page * Page, page*Page + Page - 1} }

func sync(page int, shown []place) Op {
	op := Op{Op: Sync, Range: Span(page), Items: []Item{}}
	for _, p := range shown {
		op.Items = append(op.Items, p.item())
	}
	return op
}

// Turned is what changed on a page.
type Turned struct {
	Page int
	Ops  []Op
}

// Turn tells what changed on the pages that are followed, in the order in which clients
// must do it: what comes on the end of the list comes last, what goes there goes first.
func (l *List) Turn() []Turned {
	pages := make([]int, 0, len(l.pages))
	for p := range l.pages {
		pages = append(pages, p)
	}
	slices.Sort(pages)
	length := l.places()
	if length < l.length {
		slices.Reverse(pages)
	}
	l.length = length
	var list []Turned
	for _, p := range pages {
		now := l.look(p)
		if ops := changes(p, l.pages[p], now); len(ops) > 0 {
			list = append(list, Turned{p, ops})
		}
		l.pages[p] = now
	}
	return list
}

// changes lead from one state of a page to another. What stays keeps its order: the
// longest run that does is left alone, all else is deleted from the end on and then
// inserted from the beginning on. So a page that is full before and after is full in
// the end, and what lies after it is where it was.
func changes(page int, was, now []place) []Op {
	type key struct {
		group *group
		user  textchat.ID
	}
	keyOf := func(p place) key {
		if p.row != nil {
			return key{user: p.row.User}
		}
		return key{group: p.group}
	}
	before := make(map[key]int, len(was))
	for i, p := range was {
		before[keyOf(p)] = i
	}
	// from[j] is where now[j] was, -1: nowhere; best[j] is how long the longest run that
	// ends there is.
	from, best, prev := make([]int, len(now)), make([]int, len(now)), make([]int, len(now))
	end := -1
	for j, p := range now {
		i, ok := before[keyOf(p)]
		if !ok {
			from[j] = -1
			continue
		}
		from[j], best[j], prev[j] = i, 1, -1
		for k := range j {
			if from[k] >= 0 && from[k] < i && best[k] >= best[j] {
				best[j], prev[j] = best[k]+1, k
			}
		}
		if end < 0 || best[j] > best[end] {
			end = j
		}
	}
	keptWas, keptNow := make([]bool, len(was)), make([]bool, len(now))
	for j := end; j >= 0; j = prev[j] {
		keptWas[from[j]], keptNow[j] = true, true
	}
	var ops []Op
	at := func(i int) *int { n := page*Page + i; return &n }
	for i := range slices.Backward(was) {
		if !keptWas[i] {
			ops = append(ops, Op{Op: Delete, Index: at(i)})
		}
	}
	for j, p := range now {
		item := p.item()
		switch {
		case !keptNow[j]:
			ops = append(ops, Op{Op: Insert, Index: at(j), Item: &item})
		case p != was[from[j]]:
			ops = append(ops, Op{Op: Update, Index: at(j), Item: &item})
		}
	}
	if len(ops) > opsMost {
		return []Op{sync(page, now)}
	}
	return ops
}
