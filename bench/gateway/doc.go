// Package gateway loads the text gateway of a server (textchat.chatserver, or one
// that speaks gateway v10 like it) and tells what its sessions got and when.
//
// In come a server and how to get in; out goes a [bench.Report] of Kind gateway.
//
// The five nouns:
//
//   - session: a WebSocket of our own, plain, heartbeats as Hello asks. Many share
//     an account, because a user may have 16;
//
//   - writer: an account that posts, over REST, at moments that were fixed before;
//
//   - post: one message with its number in the text, due at one moment;
//
//   - delivery: its MESSAGE_CREATE at one session;
//
//   - ledger: what was posted, and who got it: lost, twice, out of order.
//
// A run is five steps:
//
//  1. arrive: sessions come at the moments of a Poisson process, whether or not
//     those before them got in;
//
//  2. fan-out: single posts, far apart, each to all sessions;
//
//  3. rate: posts at a rate, moments of a Poisson process too;
//
//  4. resume: some connections are cut while posts go on, and all of them RESUME
//     at the same moment; each post must reach each session once;
//
//  5. leave: every session says good-bye.
//
// Times begin at the moment that was intended and end when the kernel had the
// bytes (SO_TIMESTAMPNS), so that neither a generator that sends late nor one that
// reads late flatters the server. How late it was is measured beside them: more than
// 1 % of either is a missed goal, as the figures are then the generator's.
//
// Limits: [MaxSessions], [MaxRate] messages a second, [MaxPosts] in a run.
package gateway
