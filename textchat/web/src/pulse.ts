// Whether anything still comes from the node. The figures are those of
// signaling/protocol.md; what differs is that a browser asks an idle path for a
// sign of life only every 2.5 s, so while nobody is to be heard silence says less.

export const doubtFrom = 600; // a silence is reported at once, so that the node may be asked
export const reportFrom = 1_000; // and again when it counts
export const lostAfter = 1_200; // and the path is lost: of somebody's voice 60 packets in a row
export const idleLostAfter = 6_000; // two signs of life that did not come, and some more
const doubtAfter = 250; // a dozen packets in a row
const idleDoubtAfter = 2_500; // whoever sends gets a report every second or so
const lately = 1_000; // who was to be heard within it may only be told to have ceased too late
const reportEvery = 1_000;

export interface Beat { report: boolean; doubt: boolean; lost: boolean }

/** What is known of one path. Times are in ms. */
export class Pulse {
  private bytes = -1;
  private last = 0; // when anything came
  private reported = 0;
  private reportedDoubt = -reportEvery; // the last report of the first mark
  private said = 0; // of the marks of a silence, how many were reached
  private doubted = false;
  private expected = -lately; // when somebody was, last

  /** For how long nothing has come that ought to. */
  quiet = 0;
  /** For how long nothing has come at all. */
  silent = 0;

  /**
   * Takes what was counted so far. `expected`: somebody is to be heard. Says whether
   * a report is due, whether this host should look if it still reaches anybody, and
   * whether the path is lost; the latter two once in a silence.
   */
  beat(now: number, bytes: number, expected: boolean): Beat {
    if (bytes !== this.bytes) { this.bytes = bytes; this.last = now; }
    const silent = this.silent = now - this.last;
    this.quiet = expected || silent >= idleLostAfter ? silent : 0;
    const marks = [doubtFrom, reportFrom, expected ? lostAfter : idleLostAfter].filter((mark) => this.quiet >= mark).length;
    const first = marks === 1 && this.said < 1 && now - this.reportedDoubt >= reportEvery;
    if (expected) this.expected = now;
    const doubts = silent >= (now - this.expected < lately ? doubtAfter : idleDoubtAfter);
    const out = {
      report: first || (marks > 1 && marks > this.said) || (now - this.reported >= reportEvery && (expected || marks > 0)),
      doubt: doubts && !this.doubted,
      lost: marks === 3 && this.said < 3,
    };
    if (first) this.reportedDoubt = now;
    if (out.report) this.reported = now;
    this.said = marks;
    this.doubted = doubts;
    return out;
  }
}

/**
 * Bytes and packets of sound that a connection got so far, and the candidate it sends
 * from: it is another one when the node sees it at another address.
 */
export function counted(stats: Iterable<any>): { bytes: number; received: number; from?: string } {
  const c = { bytes: 0, received: 0 };
  const from = new Map<string, string>();
  let pair = '';
  for (const s of stats) {
    if (s.type === 'transport') pair = s.selectedCandidatePairId;
    if (s.type === 'candidate-pair') from.set(s.id, s.localCandidateId);
    // The answers to STUN checks are among nobody's bytes. What is counted twice does
    // no harm: only changes count.
    if (s.type === 'transport' || s.type === 'candidate-pair') c.bytes += (s.bytesReceived ?? 0) + (s.responsesReceived ?? 0);
    else if (s.type === 'inbound-rtp' && s.kind === 'audio') c.received += s.packetsReceived ?? 0;
  }
  return { ...c, from: from.get(pair) };
}
