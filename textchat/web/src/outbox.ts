// What is on its way out. Each channel's messages go one after the other, so that
// their order stays. What fails because nobody answered is tried again under the
// same nonce, which the server takes once.

export interface Job {
  readonly channel: string;
  readonly nonce: string;
  readonly content: string;
  readonly reply?: string;
  readonly files?: readonly File[];
}

/** How a try ended when it did not succeed: `wait` in ms, when another may. */
export interface Failure { message: string; again: boolean; wait?: number }

export interface OutboxEvents<M> {
  post(job: Job): Promise<M>;
  failure(e: unknown): Failure;
  sent(job: Job, m: M): void;
  state(job: Job, s: 'sending' | 'waiting' | 'failed', why?: string): void;
}

/** The server remembers a nonce for 5 min; past this a try could say things twice, so people decide. */
export const TRY_FOR = 240_000;
const first = 500, longest = 8_000; // ms between tries, doubling

export class Outbox<M> {
  private queues = new Map<string, Job[]>();
  private wakers = new Set<() => void>();

  constructor(private on: OutboxEvents<M>, private now: () => number = Date.now) {}

  add(job: Job) {
    const q = this.queues.get(job.channel);
    if (q) { q.push(job); return; }
    const fresh = [job];
    this.queues.set(job.channel, fresh);
    void this.run(job.channel, fresh);
  }

  /** The connection is back: what waits goes now. */
  wake() { for (const w of [...this.wakers]) w(); }

  /** Forgets all of it. */
  clear() {
    for (const q of this.queues.values()) q.length = 0;
    this.wake();
  }

  private async run(channel: string, q: Job[]) {
    for (let job = q[0]; job; job = q[0]) {
      await this.deliver(job, q);
      if (q[0] === job) q.shift();
    }
    if (this.queues.get(channel) === q) this.queues.delete(channel);
  }

  private async deliver(job: Job, q: Job[]) {
    const until = this.now() + TRY_FOR;
    for (let pause = first; q[0] === job; pause = Math.min(longest, pause * 2)) {
      this.on.state(job, 'sending');
      try {
        const m = await this.on.post(job);
        if (q[0] === job) this.on.sent(job, m);
        return;
      } catch (e) {
        if (q[0] !== job) return;
        const f = this.on.failure(e);
        if (!f.again || this.now() + (f.wait ?? pause) > until) { this.on.state(job, 'failed', f.message); return; }
        this.on.state(job, 'waiting', f.message);
        await this.rest(f.wait ?? pause, f.wait === undefined);
      }
    }
  }

  private rest(ms: number, wakes: boolean) {
    return new Promise<void>((done) => {
      const end = () => { clearTimeout(timer); this.wakers.delete(end); done(); };
      const timer = setTimeout(end, ms);
      if (wakes) this.wakers.add(end);
    });
  }
}
