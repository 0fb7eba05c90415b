// Package ear is what a node knows of one listener's hearing: whether what is
// sent to it arrives, and how much of it does not. It is told what is sent, what
// the listener's RTCP says, and the time.
//
// Evidence that a listener hears comes in two speeds. Quick: transport-wide
// congestion feedback, a few times a second. Slow: receiver reports whose highest
// sequence number has grown, every 5 s or so, requests to send a packet again, and
// the client's own word over its WebSocket.
//
// That evidence is missing says little by itself: at 30 % loss three reports in a
// row are lost every few minutes. So a listener is deaf only on one of these, each
// counted in time in which it was sent something (audible time) since the last
// evidence:
//
//   - 3 s, where feedback is known to work and the client itself is heard.
//     After 1 s without evidence every packet asks for feedback, so that some 20
//     answers would have to be lost in a row: 0.3^20 is 3·10^-11;
//   - 3 s and the client's word that nothing more came, twice, with 2 s between:
//     a single one may come late, and tell of a pause of who speaks;
//   - 15 s and a report, at least 4 s after the last evidence, that says the same:
//     100 packets in a row would have to be lost;
//   - as long as 15 of the listener's reports take (75 s in Chromium), if none
//     came: 0.3^15 is 10^-8. This is not for one that sends none and only gave its
//     word so far: it cannot when its WebSocket is away, as when all of central is.
//
// One that cannot be heard itself is not deaf but gone, which the lack of STUN
// checks tells (RFC 7675).
package ear
