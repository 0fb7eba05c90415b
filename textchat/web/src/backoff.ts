/**
 * Exponential back-off with full jitter: anything up to `first`, 2·`first`, … up to
 * `max` ms. Thousands of pages lose a server in the same moment; drawn from zero on,
 * their tries lie evenly, and no more than a fifth of them in any second of a long
 * outage with a `max` of 5 s.
 */
export class Backoff {
  private tries = 0;
  constructor(private first: number, private max: number, private random: () => number = Math.random) {}
  /** `least` is what the server asked to wait. */
  next(least = 0): number {
    return least + Math.min(this.max, this.first * 2 ** this.tries++) * this.random();
  }
  reset() { this.tries = 0; }
}
