// Package cql is the store of a fleet: ScyllaDB or Apache Cassandra, by CQL that
// both speak. It is tested on Cassandra 5.0; on ScyllaDB it is untested.
//
// Where things are:
//
//   - messages lie in partitions of one channel and ten days (bucket.go), newest
//     first; channel_buckets tells which of them a channel has, and closed buckets
//     that were found empty are remembered, so that the history of a quiet channel
//     is no scan of nothing;
//
//   - a guild is one partition of guild_parts. What Save writes is one
//     single-partition batch, so all of it happens or none. Tables that lead to a
//     guild (by channel, user, webhook, invite) are written before and cleaned up
//     after it, and whoever reads them looks the truth up in the guild: a row that
//     a crash left behind leads nowhere;
//
//   - names, invites, nonces, one-time settings and pairs of private channels are
//     decided by lightweight transactions, in a keyspace of their own without
//     tablets (NAME_lwt), and by nothing else.
//
// Every plain write carries a time stamp of this process that only grows, so that
// doing it again changes nothing: all of them may be retried, and asked of a second node
// when the first is slow. Two instances that write the same row are ordered by their
// clocks; keep them by NTP.
//
// In front of the cluster stand, in this order: coalescing (equal reads that wait
// share one query, which begins after all of them came), lanes (one channel cannot take all room) and the breaker (a
// cluster that does not answer is refused for, not waited for). Of its nodes, one that
// stands still is passed over as soon as it is silent (nodes.go).
package cql
