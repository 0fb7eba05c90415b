package textchattest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"voicefleet/textchat"
)

const (
	// linearClients each do linearSteps, one after the other, in one history. A history
	// is checked against all orders that are possible: longer ones take much longer.
	linearClients = 6
	linearSteps   = 10
	// linearBusy is how soon a client comes back to a store that has too much to do,
	// linearPatience how long it comes back.
	linearBusy     = 20 * time.Millisecond
	linearPatience = 30 * time.Second
	// checkTime bounds the search for an order.
	checkTime = time.Minute
)

// Linearizable has clients race for names, uses of an invite and a setting, and holds
// what each of them was told against all orders of what they did: there must be one
// that fits, in which everything stands between its beginning and its end. Who gets no
// answer does not know whether it was done; it may be done at any time after.
//
// Clients take turns at the stores, which lead to the same data. With cut, faults come:
// clients give up waiting, and cut is called once in each history, to break the
// connections of the first store; the last one must have none of its own broken.
func Linearizable(t *testing.T, seed uint64, cut func(), stores ...textchat.Store) {
	for name, f := range map[string]func(*linear, int, *rand.Rand){"Names": (*linear).names, "Invite": (*linear).invite, "Setting": (*linear).setting} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &linear{t: t, seed: seed, stores: stores, cut: cut, begun: time.Now(), model: models[name]}
			l.prepare(name)
			var running sync.WaitGroup
			for client := range linearClients {
				running.Go(func() { f(l, client, rand.New(rand.NewPCG(seed, uint64(client)))) })
			}
			running.Wait()
			if name == "Names" {
				l.owners(rand.New(rand.NewPCG(seed, linearClients)))
			}
			l.check(name)
		})
	}
}

// linear is one history.
type linear struct {
	// Immutable.
	t      *testing.T
	seed   uint64
	stores []textchat.Store
	cut    func()
	begun  time.Time
	model  func(s int64, in attempt, out told, faults bool) []int64

	mu  sync.Mutex
	ops []porcupine.Operation // guarded by mu
}

// attempt is what a client asks for: something about a key. told is the answer: a
// value, a refusal, or nothing.
type attempt struct {
	verb string
	key  string
	n    int64
}

type told struct {
	value           int64
	refused, unsure bool
}

// do asks the client's store for something that is one or more attempts; a refusal is
// the answer to the first of them alone.
func (l *linear) do(client int, lots *rand.Rand, refusal error, f func(context.Context, textchat.Store) (int64, error), attempts ...attempt) told {
	patience, cancel := context.WithTimeout(context.Background(), linearPatience)
	defer cancel()
	for {
		ctx, giveUp := context.WithCancel(patience)
		if l.cut != nil && lots.IntN(16) == 0 {
			giveUp()
		}
		call := time.Since(l.begun)
		value, err := f(ctx, l.stores[client%len(l.stores)])
		end := time.Since(l.begun).Nanoseconds()
		giveUp()
		var a told
		switch {
		case err == nil:
			a.value = value
		case errors.Is(err, refusal):
			a.refused, attempts = true, attempts[:1]
		case errors.Is(err, textchat.ErrUnsure), errors.Is(err, context.Canceled):
			a.unsure, end = true, math.MaxInt64
		case errors.Is(err, textchat.ErrBusy):
			select {
			case <-time.After(linearBusy):
				continue
			case <-patience.Done():
			}
			fallthrough
		default:
			l.t.Errorf("%+v: %v", attempts, err)
			a.unsure, end = true, math.MaxInt64
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, in := range attempts {
			if !a.unsure || in.verb != "read" {
				l.ops = append(l.ops, porcupine.Operation{ClientId: client, Input: in, Output: a, Call: call.Nanoseconds(), Return: end})
			}
		}
		return a
	}
}

// breakOnce breaks connections when the second client is in the middle.
func (l *linear) breakOnce(client, step int) {
	if l.cut != nil && client == 1 && step == linearSteps/2 {
		l.cut()
	}
}

// check looks for an order.
func (l *linear) check(name string) {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{int64(0)} },
		Step: func(s, in, out any) (next []any) {
			for _, v := range l.model(s.(int64), in.(attempt), out.(told), l.cut != nil) {
				next = append(next, v)
			}
			return next
		},
		Partition: func(ops []porcupine.Operation) (parts [][]porcupine.Operation) {
			at := map[string]int{}
			for _, op := range ops {
				key := op.Input.(attempt).key
				if _, ok := at[key]; !ok {
					at[key] = len(parts)
					parts = append(parts, nil)
				}
				parts[at[key]] = append(parts[at[key]], op)
			}
			return parts
		},
	}
	verdict := porcupine.CheckOperationsTimeout(m.ToModel(), l.ops, checkTime)
	unsure := 0
	var list strings.Builder
	for _, op := range l.ops {
		fmt.Fprintf(&list, "%d: %+v %+v from %v to %v\n", op.ClientId, op.Input, op.Output, time.Duration(op.Call), time.Duration(op.Return))
		if op.Output.(told).unsure {
			unsure++
		}
	}
	if verdict != porcupine.Ok {
		l.t.Fatalf("seed %d, %s: no order fits (%s):\n%s", l.seed, name, verdict, &list)
	}
	l.t.Logf("%d operations, %d of them without an answer: there is an order", len(l.ops), unsure)
}

// models say what a key may be after an attempt with that answer, by its state before:
// none, when the answer cannot be.
var models = map[string]func(s int64, in attempt, out told, faults bool) []int64{
	// A name is free (0), a user's, or claimed for a user who does not bear it (its
	// negative): what a fault leaves of an account half made or half renamed, for a
	// while. To others it is taken.
	"Names": func(s int64, in attempt, out told, faults bool) []int64 {
		mine := s == in.n || s == -in.n
		switch {
		case in.verb == "read":
			if out.value == max(s, 0) {
				return []int64{s}
			}
			return nil
		case in.verb == "claim" && out.unsure && s == 0:
			return []int64{s, in.n, -in.n}
		case in.verb == "claim" && out.unsure && mine:
			return []int64{s, in.n}
		case in.verb == "release" && out.unsure && s == in.n:
			return []int64{s, 0, -in.n}
		case out.unsure:
			return []int64{s}
		case in.verb == "claim" && out.refused && s != 0 && !mine:
			return []int64{s}
		case in.verb == "claim" && !out.refused && (s == 0 || mine):
			return []int64{in.n}
		case in.verb == "release" && !out.refused && s == in.n && faults:
			return []int64{0, -in.n}
		case in.verb == "release" && !out.refused && s == in.n:
			return []int64{0}
		}
		return nil
	},
	// An invite is how often it was used.
	"Invite": func(s int64, in attempt, out told, _ bool) []int64 {
		switch {
		case in.verb == "read" && out.value == s, in.verb == "use" && out.refused && s == linearUses:
			return []int64{s}
		case in.verb == "use" && out.unsure && s < linearUses:
			return []int64{s, s + 1}
		case in.verb == "use" && out.unsure:
			return []int64{s}
		case in.verb == "use" && !out.refused && s < linearUses && out.value == s+1:
			return []int64{s + 1}
		}
		return nil
	},
	// A setting is its value, or not there (0).
	"Setting": func(s int64, in attempt, out told, _ bool) []int64 {
		is := s == in.n
		switch {
		case in.verb == "read" && out.value == s, in.verb == "take" && out.refused && !is, in.verb == "take" && out.unsure && !is:
			return []int64{s}
		case in.verb == "set" && out.unsure:
			return []int64{s, in.n}
		case in.verb == "set":
			return []int64{in.n}
		case in.verb == "take" && out.unsure:
			return []int64{s, 0}
		case in.verb == "take" && !out.refused && is:
			return []int64{0}
		}
		return nil
	},
}

const (
	linearNames = 3
	// linearUses is how often the invite may be used: a third as often as is tried.
	linearUses = linearClients * linearSteps / 4
)

func (l *linear) id(n int) textchat.ID { return textchat.ID(l.seed)<<24 | textchat.ID(n) }
func (l *linear) key(n int) string     { return fmt.Sprintf("linear%d.%d", l.seed, n) }

// prepare makes what there is at the beginning.
func (l *linear) prepare(name string) {
	if name != "Invite" {
		return
	}
	invite := textchat.Invite{Code: l.key(0), Guild: l.id(1), Channel: l.id(2), MaxUses: linearUses, CreatedAt: textchat.Time{Time: time.Now()}}
	if err := l.stores[len(l.stores)-1].Save(context.Background(), l.id(1), []textchat.Change{{PutInvite: &invite}}); err != nil {
		l.t.Fatal(err)
	}
}

// names: each client is a user who takes one of three names after the other. One who
// does not know which name it bears is given up for a new one.
func (l *linear) names(client int, lots *rand.Rand) {
	user, at := int64(0), 0
	for step := range linearSteps {
		l.breakOnce(client, step)
		to := lots.IntN(linearNames)
		id := user
		if user == 0 {
			id = int64(l.id(1<<16 | client<<8 | step))
		} else if to == at {
			to = (to + 1) % linearNames
		}
		c := textchat.Credential{User: textchat.User{ID: textchat.ID(id), Username: l.key(to)}, Hash: "h"}
		attempts := []attempt{{"claim", l.key(to), id}}
		if user != 0 {
			attempts = append(attempts, attempt{"release", l.key(at), id})
		}
		a := l.do(client, lots, textchat.ErrNameTaken, func(ctx context.Context, s textchat.Store) (int64, error) {
			if user != 0 {
				return 0, s.UpdateUser(ctx, c)
			}
			return 0, s.CreateUser(ctx, c, nil, time.Now())
		}, attempts...)
		switch {
		case a.unsure:
			user = 0
		case !a.refused:
			user, at = id, to
		}
	}
}

// owners looks whose the names are, when all is done: while an account is made its
// name is taken and leads nowhere yet.
func (l *linear) owners(lots *rand.Rand) {
	for n := range linearNames {
		l.do(len(l.stores)-1, lots, textchat.ErrNoRecord, func(ctx context.Context, s textchat.Store) (int64, error) {
			c, err := s.Login(ctx, l.key(n))
			return int64(c.User.ID), err
		}, attempt{"read", l.key(n), 0})
	}
}

// invite: uses and looks at how many there were.
func (l *linear) invite(client int, lots *rand.Rand) {
	for step := range linearSteps {
		l.breakOnce(client, step)
		in := attempt{"use", l.key(0), 0}
		if lots.IntN(4) == 0 {
			in.verb = "read"
		}
		l.do(client, lots, textchat.ErrUsedUp, func(ctx context.Context, s textchat.Store) (int64, error) {
			if in.verb == "read" {
				i, err := s.Invite(ctx, l.key(0))
				return int64(i.Uses), err
			}
			i, err := s.UseInvite(ctx, l.key(0), time.Now())
			return int64(i.Uses), err
		}, in)
	}
}

// setting: a value is set, looked at, taken; each is set once.
func (l *linear) setting(client int, lots *rand.Rand) {
	known := int64(0)
	for step := range linearSteps {
		l.breakOnce(client, step)
		in := attempt{"read", l.key(0), 0}
		switch lots.IntN(3) {
		case 0:
			in.verb, in.n = "set", int64(client<<8|step+1)
		case 1:
			if known != 0 {
				in.verb, in.n = "take", known
			}
		}
		a := l.do(client, lots, textchat.ErrNoRecord, func(ctx context.Context, s textchat.Store) (int64, error) {
			value := strconv.FormatInt(in.n, 10)
			switch in.verb {
			case "set":
				return in.n, s.SetSetting(ctx, l.key(0), value)
			case "take":
				return 0, s.TakeSetting(ctx, l.key(0), value)
			}
			v, err := s.Setting(ctx, l.key(0))
			if err != nil {
				return 0, err
			}
			return strconv.ParseInt(v, 10, 64)
		}, in)
		if !a.unsure && !a.refused {
			known = a.value
		}
	}
}
