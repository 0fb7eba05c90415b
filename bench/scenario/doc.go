// Package scenario is the language in which a load is written down: who comes
// when, who talks how, what goes wrong, what is to be reached. In comes YAML, out
// goes a [Scenario], or every [Problem] of the file with line, column and field; a
// [Plan] is the scenario worked out to the last spurt, from its seed alone.
//
// The words: a member is a client in a room (a call); a talker is a member who
// talks, a listener one who hears somebody; the window is the seconds that are
// measured; a spurt is a stretch of talk between pauses; a goal is a metric with
// its bound; a faithful bot is real WebRTC that decodes, a light client counts.
//
// # A file
//
// This is a whole scenario, of 10 rooms with 8 members each, one of whom talks:
//
//	name: evening
//	rooms:
//	  - count: 10
//	    members: 8
//	duration: 30s
//
// And this one has a conversation with pauses in each room, members who come at
// random while it goes on, a cut, and bounds; a run that misses one ends with a
// status that is not zero:
//
//	name: bad-evening
//	about: What listeners hear when the way up is cut for a second.
//	seed: 7
//	server:
//	  kind: node
//	  slots: 16
//	rooms:
//	  - count: 10
//	    members: 8
//	    talkers: 2
//	    talk: {pattern: p59, silence: true}
//	join:
//	  arrival: poisson
//	  when: within
//	  rate: 10
//	duration: 30s
//	faults:
//	  - {at: 10s, for: 1s, do: cut, direction: up}
//	goals:
//	  - {metric: join_p99_ms, at_most: 500}
//	  - {metric: loss_percent, at_most: 5}
//
// # What is read
//
// YAML 1.2 of at most 1 MiB in UTF-8, one document. Anchors, aliases, merges, tags
// and long keys (?) are refused. Durations carry their unit (20s, 500ms, 1h30m),
// all other numbers stand alone: their unit is in the name of the field or in
// the table below. Fields that are not known, twice there, of a wrong type or out
// of bounds are errors, and all errors of a file are told at once. Lists have at
// most 100 entries.
//
// # Fields
//
// Each line: the field, its default or "required" or "none", its bounds, what it
// means.
//
// The scenario:
//
//	name          required    1 to 64 of a-z 0-9 -, no dash first
//	about         none        at most 2,000 bytes; what it shows, in a sentence
//	seed          1           1..18446744073709551615; all that is random follows from it
//	warmup        2s          200ms..10m; talk before the window, once all are in
//	duration      20s         1s..24h; length of the window
//	sample_every  see right   1..20000; of so many listeners one is judged packet by packet,
//	                          the others count; default 1 (all) with at most 100
//	                          listeners, else 16; faithful bots are always judged
//
// server, the server that is started for the run. A server that runs already is
// named to the program instead, and these fields then only say what is expected:
//
//	server.kind          node   node: one media node, the harness places the calls;
//	                            up: a whole server with accounts and gateways
//	server.workers       1      1..128; workers of the media engine, a core each
//	server.slots         16     1..32; K, how many talkers a listener hears at once
//	server.silence_gate  true   true or false; false: silence is forwarded too
//
// rooms, a required list; an entry is a number of rooms that are alike. All rooms
// together have at most 20,000 members, and 500 of them are faithful bots:
//
//	rooms.count         1           1..10000; rooms of this kind
//	rooms.members       required    2..20000; members of one room
//	rooms.talkers       1           1..20000; of the members, at most all
//	rooms.bots          light       light: clients for load; faithful: real WebRTC
//	rooms.faithful      none        1..20000; so many members of the first rooms, the last
//	                                to sit down, are faithful bots among light ones,
//	                                to check what those measure
//	rooms.check         1           1..10000; how many rooms have such members
//	rooms.talk.pattern  continuous  continuous: without pause;
//	                                p59: spurts and pauses after ITU-T P.59, exponential
//	                                with means of 1.004 s and 1.587 s, each talker alone;
//	                                p59-two-way: the states of P.59 for two talkers
//	                                with double talk and mutual silence
//	rooms.talk.silence  false       true: in pauses frames of silence (level 127) are sent,
//	                                as browsers do; false: nothing is; of patterns with pauses
//	rooms.talk.bytes    100         80..1200 bytes; the Opus packet of a light talker, so that
//	                                100 are 40 kbit/s; a faithful one sends what its
//	                                codec makes, and so does one whom faithful ones hear.
//	                                Our server's datagrams have 40 more
//
// join, how members arrive: talkers first, the others shuffled:
//
//	join.arrival  at-once  at-once: as fast as they get in;
//	              ramp: evenly; poisson: independent of one another, open loop,
//	              however long each takes
//	join.when     before   before: all are in before the warm-up;
//	              within: only talkers are, the others come within the window and are
//	              judged from when they are in
//	join.rate     none     0.01..5000 arrivals/s; of ramp and poisson
//	join.over     none     10ms..24h; of ramp, instead of rate: when the last comes
//
// churn, members who leave in the window; another comes at once in the place of each.
// One of rate and stay is given; stays are exponential either way:
//
//	churn.rate  none       0.001..1000 leaves/s, in all rooms together
//	churn.stay  none       1s..24h; how long a member stays on average
//	churn.who   listeners  listeners: members who do not talk; all: talkers too
//
// faults, a list of steps. A step of the network is done by a proxy between the
// clients and the server that follows the seed, to voice packets only (a cut: to
// everything). At one time and in one direction there is one such step, which may
// have several of the fields below:
//
//	faults.at                 0s     0s..24h; since the window began
//	faults.for                see right  1ms..24h; required for freeze, default of the network:
//	                                 to the end of the window; not of kill and drain
//	faults.do                 required  kill, freeze: end or stop the process of on;
//	                                 drain: take no new calls; cut: let nothing through;
//	                                 loss, delay, jitter, duplicate, reorder, clip:
//	                                 the step has at least the field of that name
//	faults.on                 see right  engine (default of kill and freeze) is what forwards,
//	                                 agent what commands it, node both (all there is of
//	                                 an up, and of drain); media the network
//	faults.direction          both   up: from the clients to the server; down; both
//	faults.loss_percent       none   0.001..100 % of the packets are lost
//	faults.exact              false  true: every n-th packet is lost, not a random one
//	faults.burst              none   1..1000 packets; mean length of a loss (Gilbert-Elliott)
//	faults.delay              none   100us..10s; each packet comes so much later
//	faults.jitter             none   100us..10s; and up to so much more, at random
//	faults.duplicate_percent  none   0.001..100 % of the packets come twice
//	faults.reorder_percent    none   0.001..100 % of the packets come after their successor
//	faults.clip_onset         none   20ms..10s; so much of the start of each spurt is lost
//
// goals, a list of bounds; one of at_most and at_least is given:
//
//	goals.metric    required  a name of [Metrics]
//	goals.at_most   none      -1000000000000..1000000000000 in the metric's unit
//	goals.at_least  none      -1000000000000..1000000000000 in the metric's unit
//
// # What cannot be
//
// Beside single fields it is refused: more talkers than members; goals on loss,
// concealment, gaps or quality with more talkers in a room than slots+1, for then
// loudness decides who is heard; goals on clipping where nobody pauses, and on gaps
// of a kill, freeze or cut where somebody does; faults that begin or end after the
// window, or meet another one; arrivals within the window that need longer than it;
// more than 20,000 members in all, churn included; more than 20 million spurts.
package scenario
