// Package placement decides which node a call goes to: the closest and emptiest
// one. It is a state machine without I/O, clock or goroutine: heartbeats and
// calls are told to it, [Core.Decide] answers, and every answer explains itself.
//
// [Fleet.Choose] is the one function that decides, over the nodes alone. [Core]
// adds the calls to it for the allocator server, [Fleet.Explain] the figures of
// all nodes for people, and bench/simulate calls it in virtual time, for which
// this package is not an internal one.
//
// The rule. A live call stays where it is, as long as its node is there; when the
// node has no room for one more, all of the call goes to one that has. One that began
// while what is near was full comes nearer when there is room: when another node is
// [NearerSaves] nearer, and cheaper, than its own ([Fleet.Nearer]; package keeper says
// when that is looked at). For a new one each ready node has a cost in milliseconds:
//
//	cost = RTT(user → node) + penalty(fullness) + domain + aside
//
// The RTT is what the client measured to the node or its region, or what the
// regions of both tell. Fullness is the fullest of packets/s, bits/s and sessions,
// load and reservations together; the penalty is 0 below one half and grows steeply
// towards the limit. A node that the call would carry over its limit is no
// candidate. Domain is for failure domains that have lost nodes within a minute, in
// proportion. Aside is for a call that is not of the share a node takes: a node
// that has become ready takes 10 to 100 % of its calls within a minute, a labelled
// one its weight of those whose guild does not try the label. Which calls these are is
// drawn by call and node, so it stays the same when asked again. It is also for each
// node without the label that the call's guild tries ([Fleet.Try]).
//
// Among those nearly as cheap as the cheapest, two are drawn at random and the
// emptier one is taken, so that a burst does not herd.
//
// A reservation stands for load that was placed and does not show in a
// heartbeat yet: each seat given counts until the node reports as many more
// sessions of the call and three seconds more, over which its packets are averaged,
// for 10 s at most; and a young call counts with its
// predicted size for a minute, a call that was placed again with the size it had. Where
// no node has room for the predicted size, a call begins where there is room for a part.
package placement
