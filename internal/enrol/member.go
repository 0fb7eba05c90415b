package enrol

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"

	"voicefleet/internal/bus"
)

// Member is who somebody is in the fleet: a role, and a name that is unique in it.
type Member struct {
	Role string `json:"role"` // one of bus.RoleEdge, RoleCentral, RoleText
	Name string `json:"name"` // 1 to 64 of a-z 0-9 -; of an edge its node id
}

// String is the name with which the member connects to the bus.
func (m Member) String() string { return bus.ClientName(m.Role, m.Name) }

// key is where the bucket has the member.
func (m Member) key() string { return m.Role + "." + m.Name }

// domain is where the names of members live that stand in their certificates. No
// resolver knows it: who dials a member asks for its name there.
const domain = ".voicefleet.internal"

// ServerName is the name in the member's certificate, to be set as
// tls.Config.ServerName by who dials it.
func (m Member) ServerName() string { return m.Name + "." + m.Role + domain }

// MemberOf is whose certificate it is; verify its chain first.
func MemberOf(cert *x509.Certificate) (Member, bool) {
	for _, name := range cert.DNSNames {
		if rest, ok := strings.CutSuffix(name, domain); ok {
			if i := strings.LastIndexByte(rest, '.'); i > 0 {
				m := Member{Role: rest[i+1:], Name: rest[:i]}
				return m, m.validate() == nil
			}
		}
	}
	return Member{}, false
}

func (m Member) validate() error {
	switch m.Role {
	case bus.RoleEdge, bus.RoleCentral, bus.RoleText:
	default:
		return fmt.Errorf("role %.20q: want edge, central or text", m.Role)
	}
	if len(m.Name) == 0 || len(m.Name) > 63 || strings.Trim(m.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("name %.70q: want 1 to 63 of a-z 0-9 -", m.Name)
	}
	return nil
}

// answerTime is how long a member may take to answer a request it was sent.
const answerTime = time.Minute

// permissions are what the bus lets the member do. Central and text run the fleet
// and may do everything in its account, though nothing in the system's. An edge may
// publish only where the subject ends in its own name, answer what it is asked,
// ask who is in a call, read where a call is, which nodes there are, who signs grants
// and who was revoked, and write its own heartbeat.
//
// NATS does not hold the subject at which an answer is wanted against these: one that
// was broken into can have a server's answer sent where it may not publish itself.
// Such a message is none of what is expected there: bus.Subscribe, bus.Serve and
// bus.Keyed refuse and count it.
func (m Member) permissions() jwt.Permissions {
	var p jwt.Permissions
	if m.Role != bus.RoleEdge {
		p.Pub.Allow.Add(">")
		p.Sub.Allow.Add(">")
		return p
	}
	p.Pub.Allow.Add(
		"$KV."+bus.NodesBucket+"."+m.Name,
		bus.CallSubject("*", m.Name), bus.PresenceSubject("*", m.Name),
		bus.AllocatorSubject+"peers", bus.NodeSubject("*", "roster"),
		"$JS.API.STREAM.INFO.KV_"+bus.CallsBucket, "$JS.API.DIRECT.GET.KV_"+bus.CallsBucket+".>",
		"$JS.API.DIRECT.GET.KV_"+bus.KeysBucket+".>",
	)
	for _, b := range []string{bus.NodesBucket, bus.KeysBucket, bus.EnrolledBucket} {
		// No consumers, as bus.Bucket.Watch needs none for a guest.
		p.Pub.Allow.Add("$JS.API.STREAM.INFO.KV_"+b, "$JS.API.DIRECT.GET.KV_"+b)
		p.Sub.Allow.Add("$KV." + b + ".>")
	}
	p.Sub.Allow.Add(m.inbox()+".>", bus.NodeSubject(m.Name, ">"), "$SRV.>")
	p.Resp = &jwt.ResponsePermission{MaxMsgs: 1, Expires: answerTime}
	return p
}

// inbox is where the bus answers the member; of an edge it is its own, so that it
// does not hear what others are answered.
func (m Member) inbox() string {
	if m.Role == bus.RoleEdge {
		return "_INBOX.edge." + m.Name
	}
	return "_INBOX"
}
