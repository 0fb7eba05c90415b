// Package fleet does to a whole fleet, on one machine, what happens to fleets, and
// tells what every listener heard of it.
//
// In comes a [Config]: how many calls, which faults, how often; out goes a
// bench.Report whose goals are those of the fleet. The programs are the real ones,
// in namespaces of their own ([netns]) or, for a look at it, on loopback addresses.
//
// The five nouns:
//
//   - crowd: everybody in the calls. A member is a client of signaling/voiceclient
//     with the media of a light client: it joins, follows and comes back as any
//     client does, and the harness helps it in nothing.
//
//   - turns: who talks when. Two of each call talk at any time, so that everybody
//     hears somebody in every slot of 20 ms, also who talks.
//
//   - window: the time in which a fault is judged, a second before it included.
//
//   - gap: what a listener heard nothing for, as package meter defines it: from
//     the last good packet before to the first of ten consecutive good ones after.
//
//   - round: one fault, once. Its worst listener is told.
//
//     ┌ clients' namespace ──────────┐      ┌ edge1 ┐ ┌ edge2 ┐ ┌ edge3 ┐
//     │ harness, crowd, light engine │══════│ agent │ │  ...  │ │  ...  │
//     └──┬───────────────────────────┘ hub  │  sfu  │ └───────┘ └───────┘
//     signals, cables, filters    ══════════╪═══════ central1 central2 text1 bus1
package fleet
