// Whether anything still comes from the node. The figures are those of
// signaling/protocol.md; what differs is that a browser asks an idle path for a
// sign of life only every 2.5 s, so while nobody is to be heard silence says less.

export const reportFrom = 1_000; // a silence is reported at once
export const lostAfter = 1_500; // and the path is lost
export const idleLostAfter = 6_000; // two signs of life that did not come, and some more
const reportEvery = 1_000;

export interface Beat { report?: { received: number; silent: number }; lost: boolean }

/** What is known of one path. Times are in ms. */
export class Pulse {
  private bytes = -1;
  private last = 0; // when anything came
  private reported = 0;
  private received = 0; // as reported
  private said = 0; // of the marks of a silence, how many were reported

  /** For how long nothing has come. */
  quiet = 0;

  /** Takes what was counted so far. `expected`: somebody is to be heard. */
  beat(now: number, bytes: number, received: number, expected: boolean): Beat {
    if (bytes !== this.bytes) { this.bytes = bytes; this.last = now; }
    const quiet = now - this.last;
    const lost = expected ? lostAfter : idleLostAfter;
    this.quiet = expected || quiet >= idleLostAfter ? quiet : 0;
    const marks = this.quiet >= lost ? 2 : this.quiet >= reportFrom ? 1 : 0;
    const out: Beat = { lost: marks === 2 && this.said < 2 };
    const due = now - this.reported >= reportEvery && (received !== this.received || this.quiet >= reportFrom);
    if (marks > this.said || due) {
      this.reported = now;
      this.received = received;
      out.report = { received, silent: Math.round(this.quiet) };
    }
    this.said = marks;
    return out;
  }
}

/** Bytes and media packets that a connection got so far. */
export function counted(stats: Iterable<any>): { bytes: number; received: number } {
  const c = { bytes: 0, received: 0 };
  for (const s of stats) {
    // The answers to STUN checks are among nobody's bytes. What is counted twice does
    // no harm: only changes count.
    if (s.type === 'transport' || s.type === 'candidate-pair') c.bytes += (s.bytesReceived ?? 0) + (s.responsesReceived ?? 0);
    else if (s.type === 'inbound-rtp') c.received += s.packetsReceived ?? 0;
  }
  return c;
}
