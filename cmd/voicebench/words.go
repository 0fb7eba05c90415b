package main

const wordsRoot = `Voicebench loads a voice server with calls and tells what each listener got and what it
cost the server.

Scenarios are loads that are written down; scenario run runs one, capacity searches the
largest that a server bears, and call is the smallest of them: one channel with real
WebRTC bots. Join times the way into a call, gateway and crowd load the text side. Forward and
memory measure one media node closely, beside yardsticks, store the stores of messages. Fleet
hurts a whole fleet; simulate places the calls of a large one in virtual time, without any server.

All but that start the servers they need on this machine; call, join, gateway, scenario and
capacity go to one that runs with --server or --data. Run doctor first: it tells what on
this machine would spoil the figures.

Every measurement shows its progress on standard error, ends with a table, can write the
same as JSON (--json FILE) and as one HTML page with plots (--html FILE), and tells the
command that runs it again. Ctrl-C ends it early; what was measured until then is
reported and marked. html makes the page of a report later, compare sets two side by side.

Status 0 means that all goals were met, 2 that one was missed, 1 that there is no result
or only a part of one.`

const wordsForward = `Forward measures what it costs a node to forward a packet of voice: user and
system time of the node's processes (agent and media engine), divided by the
packets its listeners received, while everybody who talks does so without pause.

Beside it, in the same run and by turns, it measures three yardsticks that do the
same work with the same clients:
  raw     a loop that only calls sendmmsg with datagrams of the same size, paced
          and batched alike: the lower bound of what the kernel takes
  sealed  the same loop, which encrypts each datagram with a key of its receiver:
          the lower bound of what a forwarder of SRTP takes on this machine
  pion    a forwarder of stock pion/webrtc, one PeerConnection for each member

What is expected follows from the rule that everybody hears everybody else, not
from what the node says. A yardstick that loses a packet is void.`

const wordsMemory = `Memory connects sessions to a node, lets it come to rest, and divides what its
two processes have grown by (resident memory, goroutines) by the sessions.

The agent collects its garbage when asked; the engine is let alone until its
memory has not fallen for a while. Its goroutines are counted in the stack dump it
leaves when it is ended, once idle and once with all sessions.`

const wordsCall = `Call puts bots into a voice channel, through every door a person goes through, and
lets some of them talk. It is a scenario of one room: the report is that of scenario run.
Each listener tells when it heard the first sound after it was to join, how many packets
of speech it got of those that were due to it, how long they took from the moment they
were due, and whether the voice was the right one: by a mark in each packet, by the name
the server gave it, and, when built with libopus (tags opus,nolibopusfile), by the tones
in what it decodes.

With --light the bots are light clients in processes of their own: hundreds of them, who
count and judge packets but do not decode.

Without --server or --data it starts a server of its own for the run.`

const wordsJoin = `Join lets bots join a channel one after the other while somebody talks there, and
tells how long each stage took, from op 4 to the first sound heard, and how much of
it was the server: each message or datagram of ours until its answer, summed.

Without --server or --data it starts a server of its own, and the goals for joins on
one machine apply.`

const wordsCompare = `Compare sets each figure of report A beside the same figure of report B, both
written with --json, and tells by how much it changed and how sure that is: the
interval holds the true change in 95 of 100 such comparisons.

A figure got better or worse only when its interval does not hold "no change". It
warns when the machine, the scenario, the windows or the commands differ.

With --fail-worse PERCENT it ends with status 2 when a figure got worse in that
sense and by more than so many percent of A. A figure with less than two samples in
either report cannot fail; its verdict says so.`

const wordsHTML = `Html makes of a report that was written with --json one HTML page: goals, tables,
the distribution of each latency, and what changed over time. The page needs
nothing else (no script, no font, no picture from elsewhere), is at most 1 MiB, and
can be sent to somebody. With - as OUT.html it goes to standard output.`

const wordsGateway = `Gateway loads the text gateway of a server with sessions that read everything, and
tells what each of them got and when, in five steps:
  arrive   sessions come at random moments (Poisson) at --rate a second, whether or
           not those before them got in: times until HELLO, READY, GUILD_CREATE
  fan-out  single messages, each to all sessions
  rate     --messages-per-second for --length, at random moments
  resume   a share of the connections is cut while messages go on, and all of them
           RESUME at the same moment: each message must reach each session once
  leave    every session says good-bye

Times begin at the moment that was intended, not at the one the generator managed,
and end when the kernel had the bytes. When more than 1 % of what it sends or reads
is late the generator is the bottleneck: the report says so and a goal is missed.
Refusals are named and counted: 429, op 9, close codes.

A server takes 10 messages in 5 s of one account, 16 sessions of one account, 1,024
connections of one address, and some 2,000 of it that have said nothing yet, so there are enough
accounts and, to a server on this machine, addresses (127.0.0.2 and on). Across a
network all connections come from one address: keep below these.

Without --server or --data it starts a server of its own for the run.`

const wordsGatewayExamples = `  voicebench gateway
  voicebench gateway --sessions 5000 --rate 500 --length 1m --max-delivery 250ms --html gateway.html
  voicebench gateway --sessions 2000 --rate 2000 --fan-outs 0 --messages-per-second 0   # only a storm
  voicebench gateway --data ./data --pid 1234   # of the server, as pidof voicefleet tells
  voicebench gateway --server https://voice.example:8443 --invite CODE --sessions 300 --accounts 20`

const wordsCrowd = `Crowd fills servers of its own with as many sessions as the machine holds, all of one
channel of one guild, in four parts:
  guild     everybody online in one guild hears messages at a rate; by turns with it a
            loop that only writes sends as many frames to as many sockets, so that
            what is the server's can be told from what is the kernel's
  sizes     the crowd grows to each size and hears single messages; at the second
            memory is read when all have sent a heartbeat
  storm     there half of all connections is cut while messages go on, and everybody
            resumes at the same moment: each message must reach each session once
  look-ups  what a permission check and the look-up of a user take

The guild has one voicefleet up, with SQLite. Sizes and storm have the text side of a
fleet: as many voicefleet text as the limit of open files asks for, on one bus and one
CQL store, which is a node of Apache Cassandra that it starts (Java 17 and Maven; up to
8 GB), or a cluster of yours. A message is one post to one of them. The sessions of
each are a process of their own: one loop over epoll, no goroutine each.

Times begin at the moment that was intended and end when the kernel had the bytes.
With --scale it runs on a small machine: 200,000 sessions want some 8 GiB.`

const wordsCrowdExamples = `  voicebench crowd --html crowd.html
  voicebench crowd --short
  voicebench crowd --scale 0.1
  voicebench crowd --sizes 100000 --guild -1 --look-ups -1   # only memory, one size and the storm`

const wordsStore = `Store measures what keeps the messages, through the same interface the chat server uses:
the embedded store (SQLite) on this machine's disk, and one node of Apache Cassandra that
it starts (Java 17 and Maven; a third of the memory, 8 GB at most), or a CQL cluster of yours.

First what the disk alone can do, as no store is faster than that: a block appended and
synced, again and again.

For each: durable messages a second of many writers; the time of inserts and pages at a
rate, from when each was due, what CPU that takes, and on CQL where the time goes (a window
in which the host takes a core away is done again, and told of); on CQL what equal reads cost in
queries; and pages of a history of ten million messages, as it grows. That last step
takes ten minutes or so of a machine with nothing else to do and 20 GB of disk, the
others two minutes.

Data lie in the folder for temporary files: where that is no disk, name one with --dir.`

const wordsStoreExamples = `  voicebench store --html store.html
  voicebench store --short
  voicebench store --only sqlite --history 1000000 --dir /var/tmp
  voicebench store --only cql --cql cql://db1,db2,db3/bench --rate 5000`

const wordsScenario = `A scenario is a load that is written down: rooms and who talks in them, how members
arrive and leave, what goes wrong when, and the goals. Those that come with the
program are a library to run as they are or to start from: show prints one with every
field it has. All fields, their bounds and defaults are in bench/scenario/doc.go.`

const wordsScenarioList = `Ls lists the scenarios that come with the program, each with the users, rooms and packets
per second it adds up to, and how long its window is.`

const wordsScenarioShow = `Show prints a scenario with every field it has, defaults filled in, and in the first line
what it adds up to. Redirect it to a file to have one of your own to change.`

const wordsScenarioRun = `Run brings the members of a scenario in, lets them talk, does the scenario's faults at
their times, and reports what every judged listener heard (loss, one-way latency,
jitter, concealment, clipped syllables, audible gaps, quality after ITU-T G.107), how
members came in, and what it cost the server per forwarded packet.

Without --server or --data it starts the server that the scenario names: a media node
(voicefleet edge, with the harness as its allocator) or a whole server (voicefleet up).
Light clients live in processes of their own; with --bus also on other machines, where
voicebench generator waits.

Times count from the moment a packet or a join was due, so a generator that falls behind
shows as latency; if it falls behind too far, all goals are void and it says so.`

const wordsCapacity = `Capacity searches the largest size of a scenario at which its goals are met: more rooms,
or more members when there is one room. Each size is a run of its own; it grows by half
until goals are missed and then narrows down. A size that misses once is tried again.

It ends with the line everybody wants. When the generator gives in before the server
does, the limit is not the server's: the goal is void, and status 2 says so.`

const wordsDoctor = `Doctor looks at this machine as one that is to serve voice or to load a server:
kernel buffers, limits of files and ports, the clock and who keeps it, the cores and
what else they do, and what a datagram costs in a bare loop. It takes two seconds
and changes nothing.

For each it tells what was found, what is wanted, and the command that changes it.
Status 2 means that something is bad: figures of this machine would be about that.`

const wordsGenerator = `Generator offers this machine's cores to a coordinator elsewhere: its light clients
are opened, talk and listen here, and are told what to do over the bus, a NATS server
that both reach. It serves one coordinator at a time and stays for the next; what a
coordinator opened ends with its run, or 5 s after nothing is heard of it.

The clients' packets do not go over the bus: this machine must reach the server's
media ports by itself. Both programs must be built from the same commit.`

const wordsFleet = `Fleet starts a whole fleet of real processes on this machine, fills it with calls, does to
it what happens to fleets, and tells what every listener heard: the audible gap from the last
good packet before a fault to the first of ten consecutive good ones after it.`

const wordsFleetTest = `Test gives every edge, central, text and bus a network namespace of its own, on a bridge in
one more; 200 clients sit in another and follow their calls as any client does. Nodes are then
killed, frozen, cut off and drained, engines and agents killed, the bus stalled and restarted, and
the control side taken down, each as often as its goal wants. When engines are killed, a listener
by a node's relay and one on another node hear the call, too.

It needs root for the namespaces, and touches nothing of this host's network. What it made is
removed at its end; what a run left that was killed, by the next. Status 2 says that a goal was
missed. The seed decides who is hit when.`

const wordsFleetTestExamples = `  voicebench fleet test --html fleet.html
  voicebench fleet test --only node,freeze --rounds 3
  voicebench fleet test --short
  voicebench fleet test --loopback --only engine,agent,node`

const wordsFleetSoak = `Soak is fleet test with three times as many rounds and an outage of 10 minutes. In the
source tree "make fleet-soak" runs before it what else is promised of a fleet.`

const wordsFleetSoakExamples = `  voicebench fleet soak --json soak.json --html soak.html
  voicebench fleet soak --only outage`

const wordsFleetDemo = `Demo starts three edges, two central, text and a bus on this host's loopback addresses, fills
them with bots that talk, and shows the links of the page, where you can talk with them, and of
the operator's console. Keys kill, freeze, drain and upgrade the node that has most listeners;
what they heard of it is shown as it comes: the median and the worst audible gap.

It needs neither root nor anything installed. Where the output is no terminal it is lines, and
keys are read from the input as they come.`

const wordsFleetDemoExamples = `  voicebench fleet demo
  voicebench fleet demo --edges 5 --calls 20
  voicebench fleet demo --log demo.log`
