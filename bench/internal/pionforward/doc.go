// Package pionforward is the yardstick: a voice forwarder as one writes it with
// stock pion/webrtc, one PeerConnection per member, default media engine, default
// interceptors, a TrackLocalStaticRTP per talker, all on one UDP port.
package pionforward
