// Messages: what was written, what is being written, what was not read yet.
import { effect, signal } from '@preact/signals';
import * as api from './api';
import { complain, me, textChannel } from './store';
import type { Message } from './types';

export interface Line extends Message { state?: 'sending' | 'failed' }

export const lines = signal<Readonly<Record<string, Line[]>>>({});
export const complete = signal<ReadonlySet<string>>(new Set()); // channels whose first message is here
export const unread = signal<ReadonlySet<string>>(new Set());
export const typists = signal<readonly { channel: string; user: string; until: number }[]>([]);

const PAGE = 50; // messages a request brings
const KEPT = 500; // lines of a channel that the page holds

const put = (channel: string, list: Line[]) => { lines.value = { ...lines.value, [channel]: list }; };
const of = (channel: string) => lines.value[channel] ?? [];
const withOut = <T>(s: ReadonlySet<T>, v: T) => { const c = new Set(s); c.delete(v); return c; };

/** A message came, or is on its way out. The answer to one of ours takes its place. */
export function putLine(m: Line) {
  const list = of(m.channel_id);
  const at = list.findIndex((x) => x.id === m.id || (m.nonce !== undefined && x.state && x.nonce === String(m.nonce)));
  put(m.channel_id, at < 0 ? [...list, m].slice(-KEPT) : list.map((x, i) => (i === at ? { ...x, ...m, state: m.state } : x)));
}

export function onMessage(m: Message) {
  putLine(m);
  typists.value = typists.value.filter((t) => t.user !== m.author.id || t.channel !== m.channel_id);
  if (m.author.id !== me.value?.id && (m.channel_id !== textChannel.value?.id || document.visibilityState === 'hidden')) {
    unread.value = new Set(unread.value).add(m.channel_id);
  }
}

export function onEdit(m: Partial<Message> & { id: string; channel_id: string }) {
  put(m.channel_id, of(m.channel_id).map((x) => (x.id === m.id ? { ...x, ...m } : x)));
}
export const onDelete = (m: { id: string; channel_id: string }) => put(m.channel_id, of(m.channel_id).filter((x) => x.id !== m.id));

export function onTyping(t: { channel_id: string; user_id: string }) {
  if (t.user_id === me.value?.id) return;
  const now = Date.now();
  typists.value = [...typists.value.filter((x) => x.until > now && !(x.user === t.user_id && x.channel === t.channel_id)), { channel: t.channel_id, user: t.user_id, until: now + 9000 }];
  setTimeout(() => { typists.value = typists.value.filter((x) => x.until > Date.now()); }, 9100);
}

export async function load(channel: string) {
  if (!channel) return;
  try {
    const page = (await api.messages(channel)).reverse();
    const newest = page.at(-1)?.id;
    // What came while the page was on its way stays.
    put(channel, [...page, ...of(channel).filter((x) => x.state || (newest !== undefined && BigInt(x.id) > BigInt(newest)))]);
    complete.value = page.length < PAGE ? new Set(complete.value).add(channel) : withOut(complete.value, channel);
  } catch (e) { complain(e); }
}

let loading = false;
export async function loadOlder(channel: string) {
  const first = of(channel).find((x) => !x.state);
  if (!first || loading || complete.value.has(channel)) return;
  loading = true;
  try {
    const page = (await api.messages(channel, first.id)).reverse();
    put(channel, [...page, ...of(channel)]);
    if (page.length < PAGE) complete.value = new Set(complete.value).add(channel);
  } catch (e) { complain(e); } finally { loading = false; }
}

export async function say(channel: string, content: string, again?: Line) {
  const nonce = again?.nonce !== undefined ? String(again.nonce) : [...crypto.getRandomValues(new Uint32Array(2))].join('').slice(0, 20);
  putLine({ id: again?.id ?? 'n' + nonce, nonce, channel_id: channel, author: me.value!, content, timestamp: new Date().toISOString(), edited_timestamp: null, state: 'sending' });
  try {
    putLine({ ...(await api.say(channel, content, nonce)), nonce });
  } catch (e) {
    put(channel, of(channel).map((x) => (x.state && x.nonce === nonce ? { ...x, state: 'failed' } : x)));
    complain(e);
  }
}

let told = 0;
/** Tells the others, at most every 8 s, that something is being written. */
export function nowTyping(channel: string) {
  if (Date.now() - told < 8000) return;
  told = Date.now();
  api.typing(channel).catch(() => {});
}

export const forgetLines = () => { lines.value = {}; unread.value = complete.value = new Set(); };

// The channel that is looked at is read.
const read = () => {
  const id = textChannel.value?.id;
  if (id && unread.value.has(id) && document.visibilityState === 'visible') unread.value = withOut(unread.value, id);
};
effect(read);
addEventListener('visibilitychange', read);
