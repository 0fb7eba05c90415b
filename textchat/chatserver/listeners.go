package chatserver

import "iter"

// listeners are the sessions that listen to a guild, in the order in which they came:
// those that began one after the other lie beside each other in memory, here and in the
// kernel, and a guild of a hundred thousand is told in that order.
type listeners struct {
	at      map[*session]int // where in row
	row     []listener       // those that have gone are left out when they are more than half
	walking int              // loops over row that are under way
}

// listener is one of them; one that has gone has no session.
type listener struct {
	s *session
	b *sub
}

func (l *listeners) len() int { return len(l.at) }

// of is what is known of a session that listens; nil if it does not.
func (l *listeners) of(s *session) *sub {
	if i, ok := l.at[s]; ok {
		return l.row[i].b
	}
	return nil
}

// put lets a session listen that does not.
func (l *listeners) put(s *session, b *sub) {
	if l.at == nil {
		l.at = make(map[*session]int)
	}
	if len(l.row) > 2*len(l.at) && l.walking == 0 {
		l.closeUp()
	}
	l.at[s] = len(l.row)
	l.row = append(l.row, listener{s, b})
}

// closeUp takes those that have gone out of the row.
func (l *listeners) closeUp() {
	row := make([]listener, 0, len(l.at)+1)
	for _, one := range l.row {
		if one.s != nil {
			l.at[one.s] = len(row)
			row = append(row, one)
		}
	}
	l.row = row
}

// drop ends that a session listens, which does.
func (l *listeners) drop(s *session) {
	l.row[l.at[s]] = listener{}
	delete(l.at, s)
	if len(l.at) == 0 && l.walking == 0 {
		l.row = nil
	}
}

// all are those that listen. One that comes meanwhile may be left out, one that goes is.
func (l *listeners) all() iter.Seq2[*session, *sub] {
	return func(yield func(*session, *sub) bool) {
		l.walking++
		defer func() { l.walking-- }()
		for i := range l.row {
			if one := l.row[i]; one.s != nil && !yield(one.s, one.b) {
				return
			}
		}
	}
}
