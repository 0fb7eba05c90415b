// Package placement decides which node a call goes to: the closest and emptiest
// one. It is a state machine without I/O, clock or goroutine: heartbeats and
// calls are told to it, [Core.Decide] answers, and every answer explains itself.
//
// The rule. A live call stays where it is, as long as its node is there. For a
// new one each ready node has a cost in milliseconds:
//
//	cost = RTT(user → node) + penalty(fullness)
//
// where fullness is the fullest of packets/s, bits/s and sessions, load and
// reservations together, and the penalty is 0 below one half and grows without
// bound towards the limit. A node that the call would carry over its limit is
// no candidate. Among those nearly as cheap as the cheapest, two are drawn at
// random and the emptier one is taken, so that a burst does not herd.
//
// A reservation stands for load that was placed and does not show in a
// heartbeat yet: each seat given counts until the node reports as many more
// sessions of the call, for 10 s at most; and a young call counts with its
// predicted size for 30 s.
package placement
