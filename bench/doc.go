// Package bench is the harness: it loads a server with calls as people make them
// and tells what each listener got and what it cost.
//
// In come the flags of cmd/voicebench; out goes a [Report]: a table for people,
// JSON for programs, goals met or missed.
//
// The five nouns:
//
//   - faithful bot: a client on pion/webrtc that decodes what it hears
//     (signaling/voiceclient);
//
//   - light client: a client of our own that counts packets and opens a sample,
//     in another process or on another machine, so that its CPU is not the server's;
//
//   - window: the seconds that are measured, between a warm-up and a tail whose
//     packets are shorter and so tell themselves apart;
//
//   - yardstick: what does the same work beside the server, in the same run: a
//     bare sendmmsg loop, a forwarder of stock pion/webrtc;
//
//   - goal: a figure with the bound it is to keep. A missed one ends the program
//     with a non-zero status.
//
//     ┌ voicebench ──────────────┐  grants, offers   ┌ voicefleet edge ┐
//     │ bus, keys, expectations  │──────────────────►│ agent           │
//     └─────┬───────────┬────────┘                   │   └─ sfu        │
//     offers,  │           │ /proc/<pid>/stat of these  └──────▲──────────┘
//     counts   ▼           └────────────────────────────────►  │ UDP
//     ┌ light clients ┐◄────────────────────────────────────┘
//     │ (processes)   │◄───── raw loop ── pion forwarder
//     └───────────────┘
//
// What runs stands in load (scenarios, and the search for capacity), forward (CPU per
// packet, memory per session), join (the way into a call) and gateway (the text side);
// scenario is the language of loads, doctor looks at the machine, generator lends it.
package bench
