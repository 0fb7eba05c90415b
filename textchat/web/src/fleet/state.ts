// What the console knows, asked for once a second while it is looked at.
import { signal } from '@preact/signals';
import { Backoff } from '../backoff';
import { trend } from './figures';
import type { Call, Entry, Explained, Node } from './types';

/** Points of a trend: five minutes. */
export const TREND = 300;
/** Lines of the journal that are shown. */
const LINES = 100;

const KEY = 'voicefleet.operator';

export const token = signal(sessionStorage.getItem(KEY) ?? '');
export const nodes = signal<Node[]>([]);
export const calls = signal<Call[]>([]);
export const journal = signal<Entry[]>([]);
export const trends = signal<ReadonlyMap<string, number[]>>(new Map());
/** What is wrong with the connection; '' when all is well. */
export const trouble = signal('');
/** When the fleet was last heard of, by this machine's clock; 0: never. */
export const heard = signal(0);
/** Sessions that a node had when it began to empty: what its progress is measured by. */
export const before = signal<ReadonlyMap<string, number>>(new Map());

export class Refused extends Error {
  constructor(readonly status: number, message: string) { super(message); }
}

async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  let res: Response;
  try {
    res = await fetch('/api/admin/fleet/' + path, {
      method, headers: { Authorization: `Bearer ${token.value}`, ...(body !== undefined && { 'Content-Type': 'application/json' }) },
      body: body === undefined ? undefined : JSON.stringify(body), signal: AbortSignal.timeout(10_000),
    });
  } catch { throw new Refused(0, 'This server cannot be reached.'); }
  const data = await res.json().catch(() => ({}));
  if (!res.ok) throw new Refused(res.status, res.status === 401 ? 'This token is not the one of this house.' : data.message ?? `The server answered ${res.status}.`);
  return data as T;
}

export const explain = (call: string) => ask<Explained>('GET', `explain/${encodeURIComponent(call)}`);
export const order = <T>(node: string, verb: 'drain' | 'undrain' | 'cordon', body: Record<string, unknown> = {}) =>
  ask<T>('POST', `nodes/${encodeURIComponent(node)}/${verb}`, { by: 'console', ...body });

function take(list: Node[]) {
  const lines = new Map<string, number[]>();
  const had = new Map(before.value);
  for (const n of list) {
    lines.set(n.node, trend(trends.value.get(n.node), n.load.sessions, TREND));
    if (n.state !== 'draining') had.delete(n.node);
    else had.set(n.node, Math.max(had.get(n.node) ?? 0, n.load.sessions));
  }
  nodes.value = list;
  trends.value = lines;
  before.value = had;
}

let running = 0;

async function run(turn: number) {
  const wait = new Backoff(500, 8000);
  while (running === turn) {
    let pause = 1000;
    try {
      const [n, c, j] = await Promise.all([ask<Node[] | null>('GET', 'nodes'), ask<Call[] | null>('GET', 'calls'), ask<Entry[] | null>('GET', `journal?limit=${LINES}`)]);
      if (running !== turn) return;
      take(n ?? []);
      calls.value = c ?? [];
      journal.value = j ?? [];
      heard.value = Date.now();
      trouble.value = '';
      wait.reset();
    } catch (e) {
      if (running !== turn) return;
      if ((e as Refused).status === 401) { leave((e as Error).message); return; }
      trouble.value = (e as Error).message;
      pause = wait.next();
    }
    await new Promise((r) => setTimeout(r, pause));
    if (document.hidden) await new Promise<void>((r) => document.addEventListener('visibilitychange', () => r(), { once: true }));
  }
}

/** Watches the fleet with the token there is. */
export function watch() {
  if (token.value) void run(++running);
}

export function enter(t: string) {
  token.value = t;
  sessionStorage.setItem(KEY, t);
  trouble.value = '';
  watch();
}

export function leave(why = '') {
  running++;
  token.value = '';
  sessionStorage.removeItem(KEY);
  nodes.value = [];
  calls.value = [];
  journal.value = [];
  trends.value = new Map();
  before.value = new Map();
  heard.value = 0;
  trouble.value = why;
}

// The link that `voicefleet ctl console` prints bears the token behind the #, which no server sees.
const given = new URLSearchParams(location.hash.slice(1)).get('token');
if (given) {
  history.replaceState(null, '', location.pathname);
  token.value = given;
  sessionStorage.setItem(KEY, given);
}
