// Package gate decides which packets of one speaker are voice. In come the Opus
// payload's shape and the audio level (RFC 6464) of each packet; out goes what to
// do with it.
//
// A packet is silent when it is one of discontinuous transmission (at most two
// bytes behind the TOC), or its level is 127, or its V bit is clear and it is
// quieter than -60 dBov. The gate closes at once on the first two forms and
// after 400 ms without a break on the third; it opens on any packet that is not
// silent. Without a level only the first form is known.
//
// When it closes, three packets are replaced by frames of silence, so that
// receivers fade out instead of concealing a loss; after those nothing passes.
// While it is closed the last three packets with a voice's shape are worth
// keeping: they go first when it opens.
package gate
