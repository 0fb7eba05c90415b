package turngate

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// Bounds.
const (
	// PerSession bounds the allocations of one session: one by UDP and one by TCP
	// or TLS, of which a client keeps what works.
	PerSession = 2
	// unproven and proven are how many unauthentic requests of one prefix are
	// answered in a second: by UDP, where an address may be forged, and by TCP.
	unproven = 10
	proven   = 100
	// unprovenAll bounds those by UDP for all prefixes together.
	unprovenAll = 1000
	// maxRatio is how many times the length of an unauthentic request its answer
	// may have.
	maxRatio = 2
	// MaxMessage is the longest datagram or frame read from a client: an SRTP
	// packet in a Send indication.
	MaxMessage = 1600
)

// Client is where a client is: one 5-tuple, as the server has one address only.
type Client struct {
	Stream bool // TCP or TLS: the address is no forgery
	Addr   netip.AddrPort
}

// Verdict is what to do with a datagram. At most one of the fields is set.
type Verdict struct {
	Pass  []byte // give this to the server
	Reply []byte // answer this
	Drop  Reason
}

// Reason says why a datagram goes no further.
type Reason uint8

// The reasons.
const (
	DropNone         Reason = iota
	DropMalformed           // neither STUN nor ChannelData, cut short, too long
	DropMethod              // not a request of TURN, or one that no client makes without credentials
	DropRateLimited         // too many unauthentic requests of its prefix, or of all
	DropShort               // its answer would be more than twice as long
	DropNoAllocation        // data of a client that has none
	DropPeer                // data for an address that is no media socket of the fleet
	reasons
)

var reasonNames = [reasons]string{
	"none", "malformed", "method", "rate_limited", "short", "no_allocation", "peer",
}

// String is the name of the reason in metrics.
func (r Reason) String() string { return reasonNames[r] }

// Reasons are all there are but DropNone.
func Reasons() []Reason {
	list := make([]Reason, 0, reasons-1)
	for r := DropNone + 1; r < reasons; r++ {
		list = append(list, r)
	}
	return list
}

// Config of a Gate.
type Config struct {
	// Permits says whether an address is a media socket of the fleet. Port zero
	// asks for the address alone: a permission is not about ports.
	Permits func(netip.AddrPort) bool
	// Allocations bounds those of all sessions together.
	Allocations int
}

// Gate holds what it has to know of clients that proved who they are, and nothing
// of others. Not safe for concurrent use.
type Gate struct {
	// Immutable.
	cfg     Config
	secrets *secrets

	sessions    map[sfu.SessionID]int // its allocations, by session that lives
	allocations map[Client]sfu.SessionID
	nonce       []byte // of the server behind

	// For answers to strangers.
	unproven, proven, all *limiter

	// Counters, which only grow.
	Refused map[int]uint64  // answers by error code
	Drops   [reasons]uint64 // by Reason
}

// New makes a gate.
func New(now time.Time, cfg Config) *Gate {
	return &Gate{
		cfg: cfg, secrets: newSecrets(),
		sessions: make(map[sfu.SessionID]int), allocations: make(map[Client]sfu.SessionID),
		unproven: newLimiter(unproven, now), proven: newLimiter(proven, now), all: newLimiter(unprovenAll, now),
		Refused: make(map[int]uint64),
	}
}

// Credentials are those of a session from now on for edgeagent.CredentialLife.
func (g *Gate) Credentials(now time.Time, session sfu.SessionID) (user, password string) {
	user = username(session, now.Add(edgeagent.CredentialLife))
	return user, g.secrets.password(user)
}

// Key is what the server must check requests of a user with.
func (g *Gate) Key(username string) []byte { return g.secrets.key(username) }

// Session of a user name.
func (g *Gate) Session(username string) sfu.SessionID {
	id, _, _ := readUsername(username)
	return id
}

// Live says that a session is there and may have allocations.
func (g *Gate) Live(id sfu.SessionID) {
	if _, known := g.sessions[id]; !known {
		g.sessions[id] = 0
	}
}

// Lives says whether it is.
func (g *Gate) Lives(id sfu.SessionID) bool {
	_, lives := g.sessions[id]
	return lives
}

// Ended says that it is over. Its allocations are to be closed.
func (g *Gate) Ended(id sfu.SessionID) { delete(g.sessions, id) }

// MayAllocate says whether a session may have another allocation.
func (g *Gate) MayAllocate(id sfu.SessionID) bool {
	n, lives := g.sessions[id]
	return lives && n < PerSession && len(g.allocations) < g.cfg.Allocations
}

// Allocated and Released keep count of the server's allocations.
func (g *Gate) Allocated(c Client, id sfu.SessionID) {
	if _, had := g.allocations[c]; had {
		return
	}
	g.allocations[c] = id
	if n, lives := g.sessions[id]; lives {
		g.sessions[id] = n + 1
	}
}

func (g *Gate) Released(c Client) {
	id, had := g.allocations[c]
	if !had {
		return
	}
	delete(g.allocations, c)
	if n, lives := g.sessions[id]; lives && n > 0 {
		g.sessions[id] = n - 1
	}
}

// Allocates says whether a client has an allocation.
func (g *Gate) Allocates(c Client) bool {
	_, has := g.allocations[c]
	return has
}

// Count is how many allocations there are.
func (g *Gate) Count() int { return len(g.allocations) }

// Probe is a request at which the server behind tells a nonce of its own. Its
// answer goes to Learn.
func Probe() []byte {
	m := message{kind: typeAllocate}
	return sealed(with(reply(nil, &m, 0), attrRequestedTransport, []byte{transportUDP, 0, 0, 0}), nil)
}

// Learn takes the nonce out of the server's answer to Probe.
func (g *Gate) Learn(d []byte) bool {
	m, ok := parse(d)
	if !ok || m.nonce == nil {
		return false
	}
	g.nonce = append(g.nonce[:0], m.nonce...)
	return true
}

// Stale says of an answer of the server that it did not take the nonce it was
// given: then it must be asked for another, and the client asks again by itself.
func Stale(d []byte) bool {
	m, ok := parse(d)
	return ok && m.kind&classMask == classError && m.nonce != nil
}

func (g *Gate) drop(why Reason) Verdict {
	g.Drops[why]++
	return Verdict{Drop: why}
}

// Take decides about a datagram, or a frame of a stream. What comes back may be
// lent from d until the next call.
func (g *Gate) Take(now time.Time, c Client, d []byte) Verdict {
	if len(d) > MaxMessage {
		return g.drop(DropMalformed)
	}
	if isChannel(d) {
		return g.channel(c, d)
	}
	m, ok := parse(d)
	if !ok {
		return g.drop(DropMalformed)
	}
	switch m.kind {
	case typeBinding:
		return g.unauthentic(now, c, len(d), mapped(nil, &m, c.Addr))
	case typeSend:
		return g.send(c, &m, d)
	case typeAllocate:
		if m.integrity == 0 {
			if !m.hasTransport {
				return g.drop(DropMethod)
			}
			return g.challenge(now, c, &m, len(d), 401)
		}
	case typeRefresh, typeCreatePermission, typeChannelBind, typeConnect, typeConnectionBind:
		if m.integrity == 0 {
			return g.drop(DropMethod)
		}
	default:
		return g.drop(DropMethod)
	}
	return g.request(now, c, &m, d)
}

// channel passes data on for a client that has an allocation.
func (g *Gate) channel(c Client, d []byte) Verdict {
	n := int(binary.BigEndian.Uint16(d[2:]))
	if 4+n > len(d) || len(d) > 4+(n+3)&^3 {
		return g.drop(DropMalformed)
	}
	if _, has := g.allocations[c]; !has {
		return g.drop(DropNoAllocation)
	}
	return Verdict{Pass: d}
}

// send is the same for data in an indication, which names its peer.
func (g *Gate) send(c Client, m *message, d []byte) Verdict {
	if _, has := g.allocations[c]; !has {
		return g.drop(DropNoAllocation)
	}
	if m.peerCount != 1 || !m.hasData || m.foreign {
		return g.drop(DropMalformed)
	}
	if !g.cfg.Permits(m.peers[0]) {
		return g.drop(DropPeer)
	}
	return Verdict{Pass: d}
}

// unauthentic answers somebody who has proved nothing, if at all.
func (g *Gate) unauthentic(now time.Time, c Client, asked int, answer []byte) Verdict {
	if len(answer) > maxRatio*asked {
		return g.drop(DropShort)
	}
	prefix := Prefix(c.Addr.Addr())
	if c.Stream {
		if !g.proven.allow(now, prefix) {
			return g.drop(DropRateLimited)
		}
	} else if !g.unproven.allow(now, prefix) || !g.all.allow(now, 0) {
		return g.drop(DropRateLimited)
	}
	return Verdict{Reply: answer}
}

// challenge asks for credentials, or for a new nonce.
func (g *Gate) challenge(now time.Time, c Client, m *message, asked, code int) Verdict {
	answer := withCode(reply(nil, m, classError), code)
	answer = with(answer, attrRealm, []byte(Realm))
	answer = with(answer, attrNonce, []byte(g.secrets.nonce(now, c.Addr.Addr())))
	v := g.unauthentic(now, c, asked, sealed(answer, nil))
	if v.Reply != nil {
		g.Refused[code]++
	}
	return v
}

// request is one with credentials.
func (g *Gate) request(now time.Time, c Client, m *message, d []byte) Verdict {
	if m.username == nil || m.realm == nil || m.nonce == nil {
		return g.drop(DropMalformed)
	}
	if !g.secrets.freshNonce(now, c.Addr.Addr(), m.nonce) {
		return g.challenge(now, c, m, len(d), 438)
	}
	name := string(m.username)
	id, expires, ok := readUsername(name)
	_, lives := g.sessions[id]
	holder, has := g.allocations[c]
	key := g.secrets.key(name)
	// All of it is looked at whatever the first finds: an answer, and the time it
	// takes, says nothing of users.
	authentic := m.authentic(d, key)
	current := has && holder == id || !now.After(expires) && expires.Sub(now) <= edgeagent.CredentialLife+edgeagent.ClockLeeway
	if !authentic || !ok || !lives || !current || string(m.realm) != Realm {
		return g.challenge(now, c, m, len(d), 401)
	}
	if code := g.judge(m); code != 0 {
		g.Refused[code]++
		return Verdict{Reply: sealed(withCode(reply(nil, m, classError), code), key)}
	}
	return Verdict{Pass: g.readdress(m, d, key)}
}

// judge is the error code of an authentic request that the server must not see,
// or 0.
func (g *Gate) judge(m *message) int {
	switch m.kind {
	case typeAllocate:
		switch {
		case !m.hasTransport:
			return 400
		case m.transport != transportUDP:
			return 442
		case m.reserves:
			return 508
		}
	case typeCreatePermission, typeChannelBind:
		if m.peerCount == 0 {
			return 400
		}
		if m.peerCount > maxPeers || m.kind == typeChannelBind && (m.peerCount != 1 || m.peers[0].Port() == 0) {
			return 400
		}
		for _, p := range m.peers[:m.peerCount] {
			if !g.cfg.Permits(p) {
				return 403
			}
		}
	case typeConnect, typeConnectionBind: // RFC 6062 is not served
		return 403
	}
	return 0
}

// readdress puts the server's nonce in place of the gate's and signs again.
func (g *Gate) readdress(m *message, d, key []byte) []byte {
	out := make([]byte, 0, len(d)+len(g.nonce))
	out = append(out, d[:m.nonceAt]...)
	out = append(out, d[m.nonceEnd:m.integrity]...)
	out = with(out, attrNonce, g.nonce)
	return sealed(out, key)
}

// Ufrag is the server's half of USERNAME in a binding request, as a connectivity
// check has it (RFC 8445 section 7.2.2).
func Ufrag(d []byte) (string, bool) {
	m, ok := parse(d)
	if !ok || m.kind != typeBinding || m.integrity == 0 {
		return "", false
	}
	ufrag, _, ok := strings.Cut(string(m.username), ":")
	return ufrag, ok
}
