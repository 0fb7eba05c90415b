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
//
// # Sessions that outlive their server
//
// What is acknowledged is told to every session, also to those whose server is killed in
// that moment. Several instances remember for one another (ensemble.go, mirror.go). One that
// is alone, with Config.Told, writes into a journal what the others would remember, and
// reads it when it is started again (alone.go): what happened in each guild before that is
// acknowledged, and which session could see how much of it before it can. That is two writes
// of some hundred bytes for a message, some 10 µs each, beside the one of the store that
// waits for the disk; they are handed to the system and wait for nothing, so a killed process
// loses none. A machine that loses its power may; after it was started anew sessions begin
// anew, too.
//
// # Pages that are remembered
//
// The newest messages of a channel are asked for over and over, by everybody who opens it
// and by bots that poll. Each instance remembers those pages of channels of guilds, as
// JSON (pages.go). A page that is shown has all that was acknowledged, to anybody by any
// instance, before it was asked for, and all that any session had been told of by then;
// what is being written meanwhile it has or not.
//
// It holds because what is acknowledged is told: a message, an edit, a deletion, a
// reaction or a pin is written to the store, then becomes an entry of the guild's log,
// and is acknowledged then. Where one cannot be told in time the answer is 503, and it is
// told later (call.told). What the store has already as somebody wants it, a reaction that
// is there or a message that is gone, may be on its way between store and log still; that
// becomes an entry, too, without an event (guild.Touched), before it is acknowledged.
//
//   - A page is remembered as of an entry: the last one that this instance knew before it
//     began to read the store. What the entries up to there tell of was written before.
//   - An entry that tells something of a channel has its page forgotten, before any session
//     here is given it, unless the page is as of that entry or a later one. One that comes
//     while a page is read keeps that page from being remembered.
//   - A page that is remembered is shown only when the last entry of the guild, asked of the
//     bus after the request came, is known here. All that was acknowledged before has an
//     entry up to that one; so either the page has it or is forgotten. Should the bus not
//     answer, or this instance be behind, the store is read.
//   - An instance that does not follow the guild, that missed entries, or whose connection to
//     the bus was lost has a new version of the guild, at which no page was read.
//   - Requests share the question to the bus, and the reading of a page, only if these begin
//     after they came (joints).
//
// An instance that runs alone asks nobody: what it tells passes here.
//
// What an instance wrote and died before telling was not acknowledged to anybody. A page
// may lack it for pageLife, or until somebody tries the same again; sessions that have the
// channel hear then of a message, and of the rest when they read the channel anew. The
// same bounds what may be missing while a bus that is a cluster has two leaders of a log
// for a moment, or has lost its logs.
//
// Which instance leads a guild makes no difference to its pages, so there is nothing to
// warm when another one does; where an instance is new to a guild, the first request for
// each page reads it, for all who wait.
package chatserver
