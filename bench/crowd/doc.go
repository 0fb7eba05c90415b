// Package crowd measures what a machine's text servers hold: a hundred thousand
// gateway sessions and more, all of one channel, beside a loop that only writes to
// as many sockets.
//
// In come the program and how many sessions; out goes a [bench.Report] of Kind
// crowd. The words are those of package gateway: session, writer, post, delivery.
//
// A hall is one server and one process of sessions ([epollclient]), each below its
// limit of open files. A house is the servers that a crowd meets in. That of the guild
// is one voicefleet up, with its store in itself. That of the sizes and of the storm is
// the text side of a fleet as an operator has it: a bus, a CQL store, and as many
// voicefleet text as the crowd asks for. All its sessions are members of one guild and
// read one channel; those of an account are spread over the servers. A message is one
// post to one of the servers, by turns, and is heard at all of them.
//
// A run is four parts, each of which may be left out:
//
//  1. guild: everybody online in one guild of [Config.Guild] hears messages at a
//     rate. By turns with it, in windows of the same length, [rawfan] writes as many
//     frames of the same size to as many sockets: what of the CPU is the kernel's.
//
//  2. sizes: the crowd grows to each size, rests, and hears single messages. At one
//     of the sizes memory is read: that of all text instances, since each began.
//
//  3. storm: at that size a share of all connections is cut, at all servers, while
//     messages go on, and everybody resumes at the same moment, where its READY said.
//
//  4. look-ups: what a permission check takes of a guild that is loaded and of one
//     that is not, and the look-up of a user; in this process, by the server's own
//     handler, without a network.
//
// Times begin at the moment that was intended and end when the kernel had the
// bytes. While a single message is on its way to all, the sessions read only when no
// server wants a core (SCHED_IDLE), as if they were on machines of their own; that needs
// root. Numbers of events leap, so an event that was lost is known by its post. A note
// tells when others used the machine, too.
package crowd
