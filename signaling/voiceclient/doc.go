// Package voiceclient joins voice calls: a Go SDK for bots, probes and load
// tests, on pion/webrtc.
//
// [Join] takes a server, a token and a channel: it speaks the text gateway, is
// placed into the call, opens the voice WebSocket and agrees on media. [Dial]
// is for those who hold a grant already. Both give back a call in which Opus
// can be written and heard:
//
//	call, err := voiceclient.Join(ctx, voiceclient.Config{
//		Server: "https://voice.example:8443", Token: token, Guild: guild, Channel: channel,
//		Options: voiceclient.Options{OnAudio: func(p voiceclient.Packet) { fmt.Println(p.User, len(p.Opus)) }},
//	})
//	if err != nil {
//		return err
//	}
//	defer call.Close()
//	err = call.WriteOpus(frame, 20*time.Millisecond, 20)
//
// A [Call] follows its user: moved to another node, it connects there before it
// lets go of the old one, speaks on both and hears every frame once; when nothing
// comes from the node any more, it says so and asks for another seat; from another
// address it begins anew at once; without its voice WebSocket it resumes on the next
// endpoint while the media goes on; without the gateway it resumes the gateway
// session. Where every seat is taken it stands in line, if it is to (Config.Wait). It ends by Close, by a kick, or when the server refuses it.
//
// The media side is deliberately not the server's own code: what this package
// hears is what any WebRTC client hears. A load test that brings media of its
// own gives a [Transport] instead.
package voiceclient
