// Package join measures the way into a call: faithful bots come one after the other,
// through every door a person goes through (account, gateway, voice gateway, media),
// while somebody talks in the channel, and each stage is timed until the first sound.
//
// What the server adds by itself is told apart by watching its answers at the bot's
// own sockets (package tap). Joins of many at once are scenarios (package load).
package join
