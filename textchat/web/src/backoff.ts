/** Jittered exponential back-off: at most `first`, 2·`first`, … up to `max` ms, each drawn from its upper half. */
export class Backoff {
  private tries = 0;
  constructor(private first: number, private max: number, private random: () => number = Math.random) {}
  next(): number {
    const top = Math.min(this.max, this.first * 2 ** this.tries++);
    return top / 2 + (top / 2) * this.random();
  }
  reset() { this.tries = 0; }
}
