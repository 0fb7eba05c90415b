package main

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/enrol"
	"voicefleet/textchat/chatserver"
)

// What the program says to people. Lines are at most 100 columns.

const (
	wordsRoot = `Voice for gaming communities, on your own machine.

One process holds everything:

  voicefleet up

or each role runs on machines of its own, joined by a NATS server:

  voicefleet text, voicefleet central, voicefleet edge, voicefleet bus`

	wordsUp = `Starts everything in one process: page, accounts, text, calls and one media node.

The page, the REST API and all WebSockets answer on one TCP port, by http and by https; voice
comes in on one UDP port per worker, and from closed networks by TURN. To be reached from elsewhere
open them in the firewall: TCP 8443, UDP from 50000 on, TCP and UDP 3478.`

	wordsUpExamples = `  # At home or at a LAN party: just this.
  voicefleet up

  # Behind a router that forwards TCP 8443 and 3478 and UDP 50000, 50001 and 3478 to this PC:
  voicefleet up --advertise 203.0.113.9

  # On a server with a name of its own; certificates come from Let's Encrypt:
  voicefleet up --port 443 --acme-domain voice.example.org

  # Let more media nodes join:
  voicefleet up --bus-listen 192.168.1.5:4222`

	wordsText = `Runs guilds, accounts, text and the page.

What must last is kept in one folder (SQLite), or in a ScyllaDB or Cassandra cluster by CQL: its
keyspace is made when missing. Options follow a "?": tls=on, ca=FILE, cert=FILE, key=FILE, dc=NAME,
rack=NAME, replicas=N, timeout=800ms. $VOICEFLEET_CQL_PASSWORD keeps the password out of the list of processes.

With a store by CQL any number of instances may run, each with its own --worker, behind one name: they
share all guilds, and when one dies the others go on with them.

Attachments are files of the data folder, or objects of a bucket that is there already, by S3: AWS,
MinIO, Ceph and others. Options: region=NAME, tls=off. Credentials: $AWS_ACCESS_KEY_ID,
$AWS_SECRET_ACCESS_KEY, $AWS_SESSION_TOKEN.`

	wordsTextExamples = `  voicefleet text --bus nats://bus.internal:4222 --store sqlite:/var/lib/voicefleet
  voicefleet text --bus nats://bus.internal:4222 --store "cql://chat@db1,db2,db3/voicefleet?tls=on&dc=fra" --worker 1 \
    --files s3://s3.eu-central-1.amazonaws.com/chat-files`

	wordsLargeFlag = "members from which on people's clients are told of a guild what they look at, not everything"
	wordsFilesFlag = "bucket that keeps attachments: s3://HOST/BUCKET or s3://HOST/BUCKET/PREFIX (default: the data folder)"

	wordsCentral = `Runs the voice gateway and the allocator, which decides on which node a call lives. Any number of
them may run; when one dies, clients resume at another and audio goes on meanwhile.`

	wordsCentralExamples = `  voicefleet central --bus nats://bus.internal:4222 --advertise-endpoint voice1.example.org:8444
  voicefleet central --bus nats://bus.internal:4222 --port 8445`

	wordsEdge = `Runs one media node: an agent, and the media engine as its child process. The agent opens the
media ports; when the engine dies it starts another one on them.`

	wordsEdgeExamples = `  voicefleet edge --bus nats://bus.internal:4222 --node fra1 --region eu-central
  voicefleet edge --bus nats://192.168.1.5:4222 --advertise 203.0.113.9 --workers 8`

	wordsBus = `Runs the NATS server that is built in: alone, or as one of three that form a cluster, each with the
others' --cluster-listen as --routes. Without --store what it keeps ends with it.

Whoever reaches its port, and has the token if there is one, commands the fleet: listen where only
its members can. For a fleet whose machines are enrolled one by one see voicefleet fleet --help.`

	wordsBusExamples = `  voicefleet bus --listen 127.0.0.1:4222

  # One of three; the others have their own --name and addresses:
  voicefleet bus --name bus1 --listen 10.0.0.1:4222 --store /var/lib/voicefleet-bus --token SECRET \
    --cluster-listen 10.0.0.1:6222 --routes 10.0.0.1:6222,10.0.0.2:6222,10.0.0.3:6222`

	wordsFleet = `Makes, on the operator's own machine and without a network, what a fleet begins with: the authority,
which vouches for every machine, the configuration of its NATS servers, and the identity of the
first programs. All others join by themselves: voicefleet ctl node add.

Whoever has the authority's folder can let anybody in. Keep a copy of it where nobody looks.`

	wordsFleetExamples = `  voicefleet fleet init ./fleet --bus 10.0.0.1:4222
  voicefleet fleet bus ./fleet bus1 --listen 10.0.0.1:4222
  voicefleet central --authority ./fleet`

	wordsFleetBus = `Writes nats-server.conf, a certificate with its key, and the authority's certificate into a folder.
Carry it to the machine (server.key is a secret) and start there one of

  nats-server -c /etc/voicefleet/bus/nats-server.conf
  voicefleet bus --config /etc/voicefleet/bus/nats-server.conf`

	wordsNode = `Says who belongs to the fleet. It wants a program that holds the fleet's authority: "voicefleet up
--bus-listen ADDR:4222 --enrol", or "voicefleet central" or "text" with --authority.

A machine that was added makes its own keys and proves itself once by the token of the command; then
it may publish on the bus only as itself. Revoked, its connection is closed and refused at once.`

	wordsNodeExamples = `  voicefleet ctl node add fra1 --region eu-west
  voicefleet ctl node list
  voicefleet ctl node revoke fra1`

	wordsCtl = `Asks or changes a running "voicefleet up" or "voicefleet text" or, of nodes and calls, "central". It finds its address and its admin
token in the data folder; for one elsewhere give --url and --token.`

	wordsCtlExamples = `  voicefleet ctl status
  voicefleet ctl nodes
  voicefleet ctl explain 1234567890123456789
  voicefleet ctl drain fra1 --deadline 10m
  voicefleet ctl bot create Parrot
  voicefleet ctl reset-password ada`

	wordsDrain = `Empties a media node. New calls go to other nodes at once. Live calls are moved, make before break:
clients open the way to the new node, and leave the old one when they hear everybody there. Who does
not follow within 5 s is ended on the old node and joins again.

Nodes take it at about 30 people a second, faster where the deadline asks for it. The progress is
shown until the node is empty; a second "drain" shows it again. With --dry-run nothing is changed and
each call is listed with the node that it would go to. Where no other node has room, calls stay.

It lasts until "voicefleet ctl undrain", or until the node ends: when it starts again, it takes
calls. An edge that is told to end (SIGTERM) drains itself first, for at most its --drain-time.`

	wordsDrainExamples = `  voicefleet ctl drain fra1 --dry-run
  voicefleet ctl drain fra1 --reason "new kernel"
  voicefleet ctl drain fra1 --deadline 30s`

	wordsCordon = `Has a media node take no new calls: they go to other nodes, and are refused where there is none.

The calls it has stay on it, and whoever joins one of them is let in. Nobody is moved: a call ends
when its members leave. To move them, too: voicefleet ctl drain.

It lasts until "voicefleet ctl undrain", or until the node ends: when it starts again, it takes
calls.`

	wordsLabel = `Has the calls of a guild try the nodes of a label first, those of "voicefleet edge --label LABEL",
whatever share of the others' calls these take by their --weight. Where such a node takes calls and
has room they go there, unless another is 150 ms nearer; else they go where others do.

It holds for calls that begin from now on, or move; those that live stay where they are. It outlasts
restarts, of the bus, too, until --clear. Without arguments the guilds that try a label are listed;
"voicefleet ctl explain CHANNEL" tells what came of it for a live call.`

	wordsLabelExamples = `  voicefleet ctl label 1234567890123456789 canary
  voicefleet ctl label
  voicefleet ctl label 1234567890123456789 --clear`

	wordsEnding = "\nEnding in order; Ctrl-C again ends at once."
	wordsEnded  = "Everything has ended."
)

// What the roles say once they are up; tests and scripts wait for these lines.
func wordsBusUp(url string) string { return "bus is up: --bus " + url }
func wordsCentralUp(endpoint string) string {
	return "central is up: voice gateway wss://" + endpoint + "/"
}
func wordsEdgeUp(node string, first, last int, addrs []netip.Addr) string {
	return fmt.Sprintf("edge %s is up: UDP %d to %d, reachable at %v", node, first, last, addrs)
}

// wordsPortTaken is said when a port cannot be had; holder may be empty.
func wordsPortTaken(proto string, port int, flag, holder string) string {
	by := "another program"
	if holder != "" {
		by = holder
	}
	return fmt.Sprintf("%s port %d is taken by %s.\nEnd that first, or choose another port with %s.", proto, port, by, flag)
}

func wordsPortForbidden(proto string, port int, flag string) string {
	return fmt.Sprintf("%s port %d is for the system only.\nChoose one above 1023 with %s, or allow it: sudo setcap cap_net_bind_service=+ep $(command -v voicefleet)", proto, port, flag)
}

func wordsFolderTaken(path, pid string) string {
	by := "Another voicefleet"
	if pid != "" {
		by += " (process " + pid + ")"
	}
	return fmt.Sprintf("%s is using the data folder %s.\nEnd it first, or choose another folder with --data.", by, path)
}

func wordsNotRunning(data string) string {
	return fmt.Sprintf("No voicefleet is running on the data folder %s.\nStart it, name its folder with --data, or give --url and --token.", data)
}

const wordsRestore = `Checks a backup that "voicefleet ctl backup" made, moves what is in the data folder to
backups/TIME.before-restore in it, and copies the backup there. The backup itself stays as it is.
What gateway sessions were told of late (told/) is removed: they begin anew. An authority (fleet/) and
keys of certificates (acme/) that are there stay as they are: who was shut out stays out.
The program must not run on the folder meanwhile. Until the copy is whole nothing is moved.

With --files it also brings the attachments of the backup to a bucket, those that it lacks: so it is
also how files of a folder move into one.`

const wordsRestoreExamples = `  voicefleet restore ./data/backups/2026-01-02T030405Z
  voicefleet restore /mnt/copy --data ./data
  voicefleet restore /mnt/copy --data ./data --files s3://s3.eu-central-1.amazonaws.com/attachments`

func wordsRestoredFiles(n int) string {
	return fmt.Sprintf("The bucket has all attachments of the backup; it lacked %d.", n)
}

func wordsRestored(data, before string) string {
	text := data + " is as it was when the backup was made. Start: voicefleet up --data " + data
	if before != "" {
		text += "\nWhat was there before is in " + before
	}
	return text
}

const wordsCopy = `Brings all accounts, tokens, guilds, messages, reactions, pins and private channels that a single
machine kept to a keyspace of a ScyllaDB or Cassandra cluster, for "voicefleet text --store cql://..."
to go on with: everybody stays logged in, and all invites and links are good.

FOLDER is a data folder whose program has ended, so that nothing is missing, or a backup that
"voicefleet ctl backup" made. It stays as it is. The keyspace is made when missing; it must be empty,
and no "text" may run on it before this is done: one that is started on half a copy ends at once.
Interrupted, it goes on when it is repeated on the same folder as it was. What is left out: entries of
audit logs that are older than 45 days, and what keeps a message from being sent twice within minutes.

With --files it also brings the attachments to a bucket, those that it lacks.`

const wordsCopyExamples = `  voicefleet copy /var/lib/voicefleet --store "cql://chat@db1,db2,db3/voicefleet?tls=on&dc=fra"
  voicefleet copy /mnt/copy --store cql://db1/voicefleet --files s3://s3.eu-central-1.amazonaws.com/attachments`

const wordsCopyEnding = "\nEnding; what is there so far stays. Repeat the command to go on."

func wordsCopying(c chatserver.Copied) string {
	return fmt.Sprintf("%d accounts, %d guilds, %d messages, %d reactions ...", c.Users, c.Guilds, c.Messages, c.Reactions)
}

func wordsCopied(c chatserver.Copied) string {
	return fmt.Sprintf("The cluster has all of it. Brought this time: %d accounts, %d guilds, %d private channels, %d messages, %d reactions, %d pins.",
		c.Users, c.Guilds, c.DMs, c.Messages, c.Reactions, c.Pins)
}

const wordsUser = `Export writes the account, its memberships, bans, webhooks, private channels and reactions, the
entries of audit logs by it and about it, where others mention it, and every message it wrote,
private ones included, with the addresses of its files: a line of JSON each; the last one says
"done". It looks through all messages there are, which takes a while in a large house.

Erase deletes those messages, files and reactions, takes the person out of all guilds, ends their
sessions, and leaves an account without name and password in their place: also where others
mentioned it, in bans and webhooks. Bans about it and audit logs lose their reasons, audit logs its
nicknames. From its beginning on nobody can use the account. Interrupted, it goes on when it is
repeated. Who owns a guild hands it over first.
What was deleted is then overwritten in the file of the embedded store; on a cluster it leaves the
files by compaction, 2 to 10 days later. What gateway sessions were told of late (told/) is removed:
a client that is cut off just then begins a new session. Where several instances share a store, what
they told one another leaves the bus within 10 minutes. What stays: the account's number, the
channels, threads and roles it made, what others wrote by themselves, and backups.`

func wordsEraseSure(user string) string {
	return fmt.Sprintf("erasing %s cannot be undone: export first if they want a copy, then say --yes", user)
}

// wordsJournal is a line of the journal.
func wordsJournal(e allocator.JournalEntry) string {
	line := e.At.Local().Format(time.DateTime) + "  " + string(e.Deed)
	if e.Node != "" {
		line += " " + string(e.Node)
	}
	if e.Call.ID != 0 {
		line += " call " + e.Call.String()
	}
	if e.To != "" {
		line += " to " + string(e.To)
	}
	if e.Why != "" {
		line += ": " + e.Why
	}
	return line + " (" + e.By + ")"
}

// wordsLabelled tells what became of a guild's label.
func wordsLabelled(l allocator.GuildLabel) string {
	if l.Label == "" {
		return fmt.Sprintf("Calls of guild %s that begin from now on try no label.", l.Guild)
	}
	line := fmt.Sprintf("Calls of guild %s that begin from now on try nodes of label %s; ready ones: %d.", l.Guild, l.Label, l.Nodes)
	if l.Nodes == 0 {
		line += " Until there is one they go where others do."
	}
	return line
}

// wordsOrdered tells how a node stands after drain, cordon and undrain.
func wordsOrdered(p allocator.Progress) string {
	if p.State != edgeagent.Draining {
		return fmt.Sprintf("%s takes calls.", p.Node)
	}
	left := "It has none left: it can be stopped now."
	switch {
	case p.Sessions > 0 && p.Emptying:
		left = fmt.Sprintf("Those it has move elsewhere: %d, with %d people. voicefleet ctl drain %s shows how it goes.", p.Calls, p.Sessions, p.Node)
	case p.Sessions > 0:
		left = fmt.Sprintf("Those it has stay: %d, with %d people. voicefleet ctl nodes shows when none is left.", p.Calls, p.Sessions)
	}
	return fmt.Sprintf("%s takes no new calls. %s\nTake it back: voicefleet ctl undrain %s", p.Node, left, p.Node)
}

// wordsDraining is a line of a drain's progress.
func wordsDraining(p allocator.Progress) string {
	line := fmt.Sprintf("%s: %d calls with %d people left", p.Node, p.Calls, p.Sessions)
	if p.Moving > 0 {
		line += fmt.Sprintf(", %d of them on their way", p.Moving)
	}
	if p.Stuck != "" {
		line += "; the others wait: " + p.Stuck
	}
	return line
}

// wordsNotEmpty is said when a drain is over and people are left.
func wordsNotEmpty(p allocator.Progress) string {
	why := ""
	if p.Stuck != "" {
		why = ": " + p.Stuck
	}
	return fmt.Sprintf("%s is not empty in time: %d calls with %d people are left%s. It takes no new calls; take it back with voicefleet ctl undrain %s.", p.Node, p.Calls, p.Sessions, why, p.Node)
}

// wordsPlan heads the plan of a dry run.
func wordsPlan(p allocator.Progress) string {
	nowhere := 0
	for _, m := range p.Plan {
		if m.To == "" {
			nowhere++
		}
	}
	line := fmt.Sprintf("%s has %d calls with %d people. Nothing was changed.", p.Node, p.Calls, p.Sessions)
	if nowhere > 0 {
		line += fmt.Sprintf(" %d calls would stay: no other node has room.", nowhere)
	}
	return line
}

// wordsMoved tells how a call came to its node.
func wordsMoved(m allocator.CallMove) string {
	how := "when it was gone"
	if m.Planned {
		how = "make before break"
	}
	return fmt.Sprintf("it was moved from %s at %s with %d people, %s, because of: %s", m.From, m.At.Local().Format(time.TimeOnly), m.Sessions, how, m.Cause)
}

// wordsUpgrade is the long help of ctl upgrade.
const wordsUpgrade = `Has a media node go on with the program that is on its disk now. Replace the file first (move the new
one into its place; do not write into the old one).

The node looks whether the new program starts at all, replaces its media engine on the same sockets
and keys, and then its agent. Calls hear a pause of a fraction of a second; nobody has to do
anything, nobody is moved. A program that does not start is refused, and the node stays as it is.
Whoever reaches the node by TURN or TCP connects again.`

// wordsEngineUpgraded and wordsAgentUpgraded tell how an upgrade goes.
func wordsEngineUpgraded(node edgeagent.NodeID, rep edgeagent.UpgradeReply) string {
	return fmt.Sprintf("%s: the media engine is version %s now (was %s): %d sessions go on, after %v.", node, rep.To, rep.From, rep.Sessions, rep.Engine.Round(time.Millisecond))
}

func wordsAgentUpgraded(node edgeagent.NodeID, done upgraded) string {
	return fmt.Sprintf("%s: its agent is version %s, too, after another %v.", node, done.To, done.Agent.Round(10*time.Millisecond))
}

// wordsNoNode is said when a node does not answer.
func wordsNoNode(err error) string {
	return err.Error() + ". Is it up? voicefleet ctl nodes lists those that are."
}

// byEnrolment stands for the address of a bus that lets in only who was added.
const byEnrolment = "enrol"

// banner is what `up` says once it is up.
type banner struct {
	Name   string
	Port   int
	Scheme string       // of links for others
	Host   string       // that others reach us by
	Addrs  []netip.Addr // all of them
	Invite string       // code
	QR     string       // of the invite link, or empty
	Owner  string       // one-time code, or empty when the house has its owner
	Data   string
	CA     bool   // the certificate is self-made
	Finger string // of the authority
	Bus    string // where nodes may join, byEnrolment, or empty
	Bold   func(string) string
}

// Here is the address on this PC; browsers allow the microphone there without a
// certificate.
func (b banner) Here() string { return fmt.Sprintf("http://localhost:%d", b.Port) }

// There is the address for others.
func (b banner) There() string {
	if b.Scheme == "https" && b.Port == 443 {
		return "https://" + b.Host
	}
	return b.Scheme + "://" + net.JoinHostPort(strings.Trim(b.Host, "[]"), strconv.Itoa(b.Port))
}

// DataShort is the data folder as one would type it.
func (b banner) DataShort() string { return filepath.Clean(b.Data) }

var bannerText = template.Must(template.New("banner").Parse(`
{{call .Bold .Name}} is up.

  Talk      {{.Here}}   on this PC
{{- if ne .Host "localhost"}}
            {{.There}}   from others
{{- end}}
{{- if .Invite}}

  Invite    {{call .Bold (printf "%s/invite/%s" .There .Invite)}}
            Whoever opens it gives a nickname and talks. For the phone beside you:
{{.QR}}
{{- end}}
{{- if .Owner}}
  Owner     {{.Here}}/owner/{{.Owner}}
            Yours alone, and good for one time: whoever opens it first owns the house. Anywhere else
            than on this PC: {{.There}}/owner/{{.Owner}}
{{end}}
{{- if .CA}}
  Trust     Other PCs are warned once, because no authority knows this one. Go past the warning, or
            end it for good: open {{.There}}/ca.pem there and add it to the trusted
            authorities. It can vouch for this host and its network only. Its SHA-256 begins with
            {{.Finger}}
{{end}}
  Data      {{.DataShort}}
            Accounts, messages, keys. Keep a copy of it.
  Nodes     {{if eq .Bus "enrol"}}voicefleet ctl --data {{.DataShort}} node add NAME   shows what to run on another machine.
{{- else if .Bus}}voicefleet edge --bus {{.Bus}}   on another machine adds a media node.
{{- else}}To add media nodes start this with --bus-listen ADDR:4222, then on another machine:
            voicefleet edge --bus nats://ADDR:4222
{{- end}}
  Operate   voicefleet ctl --data {{.DataShort}} --help
  End       Ctrl-C
`))

func wordsFleetBusUp(url string) string { return "bus is up for enrolled members: " + url }

func wordsInvited(i invited) string {
	return fmt.Sprintf("Run this on the new machine before %s; it works once:\n\n  voicefleet %s --join '%s'\n\nWhat it gets it keeps in ./identity (--identity FOLDER).",
		i.Expires.Local().Format(time.DateTime), i.Role, i.Join)
}

func wordsRevoked(e enrol.Entry) string {
	again := "voicefleet ctl node add " + e.Name
	if e.Role != bus.RoleEdge {
		again += " --role " + e.Role
	}
	return fmt.Sprintf("%v is shut out. The name is free again: %s", e.Member, again)
}

func wordsAuthority(dir string, known bool) string {
	if known {
		return "The authority in " + dir + " stays; the addresses of the bus are written down."
	}
	return "The fleet's authority is in " + dir + ". Whoever has it can let anybody in: keep a copy where nobody looks."
}

func wordsBundle(out string, s enrol.ServerSpec) string {
	return fmt.Sprintf("%s holds what bus server %s needs. Carry it to %s on its machine, then:\n\n  voicefleet bus --config %s", out, s.Name, s.At, filepath.Join(s.At, "nats-server.conf"))
}

func wordsCredentials(out string, m enrol.Member) string {
	return fmt.Sprintf("%s holds the identity of %v, a secret. Carry it to its machine, then:\n\n  voicefleet %s --identity FOLDER", out, m, m.Role)
}
