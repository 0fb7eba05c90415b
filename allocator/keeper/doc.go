// Package keeper decides for an allocator which nodes live, and where the calls
// of those go that do not.
//
// In come what the bus tells (heartbeats, closed connections, ended leases, entries
// of the calls bucket), what clients tell (edgeagent.Silence), and answers of
// nodes that were asked on their media ports; out go questions to nodes, verdicts,
// writes of the calls bucket by compare-and-swap, moves to tell and old sessions to
// end. No clock, no I/O, no log: the allocator's server drives it in real time, the
// simulator and the tests in virtual time.
//
// The five nouns:
//
//   - suspicion: a closed connection, 1.5 s without a heartbeat, clients in
//     silence. Suspect is not dead;
//   - question: twelve STUN checks in 150 ms to the media port. [Watch] asks, and does so
//     before it suspects when a heartbeat is 0.2 s overdue or half of the clients have
//     heard nothing for 0.6 s. Nothing follows from that but that a node that is then
//     suspect, and has not answered, is lost one question later;
//   - verdict: lost, held (it answers, or the observer is sick), back;
//   - ailment: a node that lives and is bad, or too hot. [Health] finds it, by its
//     heartbeats and by what [Watch] sees of questions that were lost;
//   - move: a call gets another node and a higher epoch, once, by whoever wins the
//     compare-and-swap: its node is lost, drained, ill or too hot, or there is room
//     much nearer by now to its members and to those who came first. [Core] holds all of it.
//
// A node's way through a suspicion:
//
//	      closed, late or silence                 no answer
//	up ──────────────────────────► asked ───────────────────────► lost
//	▲ ▲                              │ answer, or too many         │
//	│ └──── heartbeat ───────────────┤ vanished at once            │ heartbeat
//	│                                ▼                             │ and answer
//	│◄──── heartbeat ────────────── held ─── 30 s ──► lost         │
//	└──────────────────────────────────────────────────────────────┘
package keeper
