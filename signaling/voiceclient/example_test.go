package voiceclient_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/signaling/voiceclient"
)

// A bot that joins a channel and says back what it hears, user by user.
func ExampleJoin() {
	ctx := context.Background()
	// What was heard waits here for the one who answers; what does not fit is
	// dropped, as OnAudio must not block.
	heard := make(chan []byte, 50)
	call, err := voiceclient.Join(ctx, voiceclient.Config{
		Server:  "https://voice.example:8443",
		Token:   "<the token of a bot>",
		Guild:   snowflake.ID(41771983423143937),
		Channel: snowflake.ID(41771983423143938),
		Options: voiceclient.Options{
			OnAudio: func(p voiceclient.Packet) {
				select {
				case heard <- append([]byte{}, p.Opus...): // lent until return
				default:
				}
			},
			OnSpeaking: func(s voiceclient.Speaking) { fmt.Println(s.User, "speaks:", s.Flags != 0) },
		},
	})
	if err != nil {
		fmt.Println("could not join:", err)
		return
	}
	defer call.Close()
	for {
		select {
		case frame := <-heard:
			if err := call.WriteOpus(frame, 20*time.Millisecond, 30); err != nil {
				fmt.Println("could not speak:", err)
			}
		case <-call.Done():
			fmt.Println("the call ended:", call.Err())
			return
		}
	}
}

// Who holds a grant already needs no gateway. This one joins a call of one on a
// server of its own and hears what the other says.
func ExampleDial() {
	demo := newDemo()
	defer demo.close()

	said := make(chan string, 1)
	var once sync.Once
	listener, err := voiceclient.Dial(context.Background(), demo.grant(1), voiceclient.Options{
		TLS:     &tls.Config{InsecureSkipVerify: true}, // the demo's certificate is its own
		OnAudio: func(p voiceclient.Packet) { once.Do(func() { said <- fmt.Sprintf("%v says %s", p.User, p.Opus) }) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer listener.Close()
	speaker, err := voiceclient.Dial(context.Background(), demo.grant(2), voiceclient.Options{TLS: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer speaker.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = speaker.WriteOpus([]byte("hello"), 20*time.Millisecond, 20)
		case words := <-said:
			fmt.Println(words)
			return
		}
	}
	// Output: 2 says hello
}
