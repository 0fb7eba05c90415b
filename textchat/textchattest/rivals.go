package textchattest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
)

// rivals is how many do the same thing at once.
const rivals = 12

// race runs f at once and returns what each of them got.
func race[T any](f func(n int) T) []T {
	var wg sync.WaitGroup
	begin := make(chan struct{})
	out := make([]T, rivals)
	for n := range rivals {
		wg.Go(func() {
			<-begin
			out[n] = f(n)
		})
	}
	close(begin)
	wg.Wait()
	return out
}

// counted says how many errors are nil; the others must be refusal. A store that
// has too much to do may say so; it must not have done it then.
func counted(t *testing.T, errs []error, refusal error) int {
	t.Helper()
	n := 0
	for _, err := range errs {
		if err == nil {
			n++
		} else if !errors.Is(err, refusal) {
			t.Errorf("%v, want nil or %v", err, refusal)
		}
	}
	return n
}

// Rivals has many callers want the same thing at once: names, invites, nonces and
// one-time settings are given out exactly as often as there are any. Stores that
// are given race among each other; seed keeps runs on a shared store apart.
func Rivals(t *testing.T, seed uint64, stores ...textchat.Store) {
	ctx := context.Background()
	store := func(n int) textchat.Store { return stores[n%len(stores)] }
	now := time.Now()
	id := func(n int) textchat.ID { return textchat.ID(seed)<<24 | textchat.ID(n) }

	t.Run("Name", func(t *testing.T) {
		name := fmt.Sprintf("rival%d", seed)
		errs := race(func(n int) error {
			return store(n).CreateUser(ctx, textchat.Credential{User: textchat.User{ID: id(100 + n), Username: name}}, nil, now)
		})
		if n := counted(t, errs, textchat.ErrNameTaken); n != 1 {
			t.Errorf("%d have the name", n)
		}
		c, err := store(1).Login(ctx, name)
		if err != nil || errs[int(c.User.ID&0xff)-100] != nil {
			t.Errorf("the name leads to %d, %v", c.User.ID, err)
		}
	})
	t.Run("Invite", func(t *testing.T) {
		code := fmt.Sprintf("rival%d", seed)
		invite := textchat.Invite{Code: code, Guild: id(1), Channel: id(2), MaxUses: 3, CreatedAt: textchat.Time{Time: now}}
		if err := store(0).Save(ctx, id(1), []textchat.Change{{PutInvite: &invite}}); err != nil {
			t.Fatal(err)
		}
		errs := race(func(n int) error {
			_, err := store(n).UseInvite(ctx, code, now)
			return err
		})
		if n := counted(t, errs, textchat.ErrUsedUp); n != 3 {
			t.Errorf("an invite for 3 let %d in", n)
		}
	})
	t.Run("Nonce", func(t *testing.T) {
		var mint snowflake.Mint
		type sent struct {
			id  textchat.ID
			err error
		}
		list := race(func(n int) sent {
			m := textchat.Message{ID: mint.Next(now), Channel: id(3), Author: textchat.User{ID: id(4)}, Content: "once", Timestamp: textchat.Time{Time: now}}
			m, _, err := store(n).AddMessage(ctx, m, "nonce")
			return sent{m.ID, err}
		})
		for _, s := range list {
			if s.err != nil || s.id != list[0].id {
				t.Errorf("one nonce gave message %d and %d, %v", list[0].id, s.id, s.err)
			}
		}
		page, err := store(1).Page(ctx, id(3), textchat.PageQuery{Limit: 50})
		if err != nil || len(page) != 1 {
			t.Errorf("%d messages of one nonce, %v", len(page), err)
		}
	})
	t.Run("Setting", func(t *testing.T) {
		key := fmt.Sprintf("rival%d", seed)
		if err := store(0).SetSetting(ctx, key, "x"); err != nil {
			t.Fatal(err)
		}
		errs := race(func(n int) error { return store(n).TakeSetting(ctx, key, "x") })
		if n := counted(t, errs, textchat.ErrNoRecord); n != 1 {
			t.Errorf("%d took it", n)
		}
	})
}
