// Package simulate places the calls of a large fleet in virtual time, and tells
// how well.
//
// In comes a [Config]: a seed and a size; out goes a bench.Report. A run is
// decided by its seed alone but for the figure of speed, which is measured.
//
// The world is a table of cities: 30 regions with nodes of three classes and 52
// places where people live (45 % in North America, 30 % in Europe, 20 % in Asia and
// the Pacific, 5 % elsewhere), while capacity lies 40 % in the east and 25 % in the
// west of North America, 20 % in Europe and 15 % in Asia. A round trip is the great
// circle there and back times 1.6 in fibre (200 km/ms) and 5 to 40 ms of access.
//
// Time goes in ticks of one second. People begin calls as the day goes in their
// place; members follow within minutes; most calls are of one city, one in fifty
// of a continent. Every node tells its load once a tick, and decisions are made by
// what it told: by the allocator's own function ([placement.Fleet]), or by a
// yardstick, which is a rule that others use. Then things go wrong: nodes, zones and
// a region fall, nodes lose packets, are flooded, drained and upgraded, heartbeats come
// late, a crowd comes at once.
//
// With our own rule, what follows is decided by the allocator's core ([keeper.Core]):
// it is told of heartbeats, closed connections and answers of media ports in steps as
// fine as its server's, and says who is suspect, lost, ill or too hot, and which call
// goes where and when.
//
// Round trips are held against a lower bound of the best possible, found every few
// minutes for the users and the nodes of that moment, all of whom it may seat anew each
// time, to the last seat of each region, of which calls take the less the less is said in
// them: what calls of one city cost as single users, and calls of a continent as whole
// ones, at the prices that seats have in the cheapest flow (bound.go says why nothing can
// cost less). A second case of 50 nodes and calls of one size is so small that its best is
// known exactly.
//
// What is not simulated: the bus, the clients and the packets. How long clients take to
// follow, and to be moved without a loss, is taken from what fleet tests measure with
// real processes, and told in the report.
package simulate
