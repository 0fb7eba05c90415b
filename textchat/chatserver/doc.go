// Package chatserver runs textchat: REST under /api, the gateway WebSocket on
// /gateway, the page everywhere else.
//
//	s, err := chatserver.New(chatserver.Config{DataDir: dir, Placer: p, Presence: q, Page: page})
//	first, err := s.Bootstrap(ctx, "Voicefleet")   // first.Invite, first.OwnerCode
//	go http.Serve(l, s.Handler())
//	err = s.Run(ctx)                                // until ctx ends; then every session is told to come back
//
// The gateway authenticates by the token in the first frame and never by a
// cookie, so a page of a foreign origin can open it but gains nothing by it: the
// Origin header is not looked at. For the same reason REST sends no CORS headers
// and needs no anti-forgery token.
package chatserver
