// Messages: the window on each channel's history, what is on its way out, what
// was not read yet, and who is writing.
import { computed, effect, signal } from '@preact/signals';
import * as api from './api';
import { after, arrived, before, leaves, nothing, opened, patched, reacted, without, type History, type Line } from './history';
import { toWire, type Mentionable } from './markdown';
import { Outbox, type Job } from './outbox';
import { keepMarks, marks } from './settings';
import { complain, guild, house, me, nameOf, textChannel, textChannels } from './store';
import { byId, isThread, type Emoji, type Message } from './types';

export const histories = signal<Readonly<Record<string, History>>>({});
export const typists = signal<readonly { channel: string; user: string; until: number }[]>([]);

const PAGE = 50; // messages that one request brings
const MOST = 100; // that one may bring
const ROUNDS = 4; // requests that bring a window up to date: it holds 200 lines

const put = (channel: string, h: History) => { histories.value = { ...histories.value, [channel]: h }; };
const drop = <T>(s: ReadonlySet<T>, v: T): ReadonlySet<T> => { const c = new Set(s); c.delete(v); return c; };
export const historyOf = (channel: string) => histories.value[channel];
const alter = (channel: string, fn: (h: History) => History) => {
  const h = historyOf(channel);
  if (h) put(channel, fn(h));
};

// ── What comes ──────────────────────────────────────────────────────────────

export function onMessage(m: Message) {
  const own = m.author.id === me.value?.id;
  if (historyOf(m.channel_id)) alter(m.channel_id, (h) => arrived(h, m));
  typists.value = typists.value.filter((t) => t.user !== m.author.id || t.channel !== m.channel_id);
  const seen = own || (m.channel_id === textChannel.value?.id && looking());
  if (!seen && !unread.value.has(m.channel_id)) setDivider(m.channel_id, newest.value[m.channel_id]);
  note(m.channel_id, m.id);
  if (own) markRead(m.channel_id);
  else if (!seen && namesMe(m)) pinged.value = { ...pinged.value, [m.channel_id]: (pinged.value[m.channel_id] ?? 0) + 1 };
}

export function namesMe(m: Message): boolean {
  const mine = house.value?.members.get(me.value?.id ?? '')?.roles ?? [];
  return !!m.mention_everyone || !!m.mentions?.some((u) => u.id === me.value?.id) || !!m.mention_roles?.some((r) => mine.includes(r));
}

export function onEdit(m: Partial<Message> & { id: string; channel_id: string }) {
  // Whose reactions are one's own is not told to all alike: those are counted apart.
  const { reactions: _, ...rest } = m;
  alter(m.channel_id, (h) => patched(h, m.id, () => rest));
}
export function onDelete(channel: string, ids: readonly string[]) {
  alter(channel, (h) => without(h, (l) => ids.includes(l.id)));
  if (replying.value[channel] && ids.includes(replying.value[channel].id)) replyTo(channel, null);
  if (ids.includes(editing.value)) editing.value = '';
}

export function onReaction(r: { channel_id: string; message_id: string; user_id?: string; emoji?: Emoji }, by: 1 | -1 | 0) {
  alter(r.channel_id, (h) => patched(h, r.message_id, (l) => ({ reactions: reacted(l.reactions ?? [], r.emoji, by, r.user_id === me.value?.id) })));
}

export function onTyping(t: { channel_id: string; user_id: string }) {
  if (t.user_id === me.value?.id) return;
  const now = Date.now();
  typists.value = [...typists.value.filter((x) => x.until > now && !(x.user === t.user_id && x.channel === t.channel_id)), { channel: t.channel_id, user: t.user_id, until: now + 9000 }];
  setTimeout(() => { typists.value = typists.value.filter((x) => x.until > Date.now()); }, 9100);
}

// ── The window ──────────────────────────────────────────────────────────────

const turned = async (channel: string, q: Parameters<typeof api.messages>[1]) => (await api.messages(channel, q)).reverse();
const busy = new Map<string, Promise<void>>(); // per channel: one request at a time, so that windows fit together
export const unloaded = signal<ReadonlySet<string>>(new Set()); // channels whose messages could not be fetched

function fetching(channel: string, fn: () => Promise<void>): Promise<void> {
  const p = (busy.get(channel) ?? Promise.resolve()).then(fn).finally(() => { if (busy.get(channel) === p) busy.delete(channel); });
  busy.set(channel, p);
  return p;
}

/** The present of a channel. */
export const load = (channel: string) => fetching(channel, async () => {
  if (!channel) return;
  const had = historyOf(channel);
  if (!had) put(channel, { ...nothing, older: false });
  try {
    const page = await turned(channel, { limit: PAGE });
    put(channel, opened({ ...(historyOf(channel) ?? nothing) }, page, page.length === PAGE, false));
    unloaded.value = drop(unloaded.value, channel);
    if (page.length) note(channel, page.at(-1)!.id);
  } catch (e) {
    unloaded.value = new Set(unloaded.value).add(channel);
    complain(e);
  }
});

/** Brings a window up to date after an outage: what was changed, deleted or written meanwhile. */
export const refresh = (channel: string) => fetching(channel, async () => {
  const h = historyOf(channel);
  const sent = h?.lines.filter((l) => !l.state) ?? [];
  if (!h || !sent.length || h.newer || unloaded.value.has(channel)) { queueMicrotask(() => void load(channel)); return; }
  const first = sent[0].id;
  try {
    let list: Message[] = [];
    let more = true;
    for (let i = 0; i < ROUNDS && more && (!list.length || byId(list[0].id, first) > 0); i++) {
      const page = await turned(channel, { limit: MOST, before: list[0]?.id });
      list = [...page, ...list];
      more = page.length === MOST;
    }
    const kept = list.filter((m) => byId(m.id, first) >= 0);
    // Too much was written to reach back to where the window began: it begins later now.
    // What stood there when the request went out is what it says now; what came since stays.
    const since = without(historyOf(channel) ?? h, (l) => !l.state && sent.some((s) => s.id === l.id));
    put(channel, opened(since, kept, more || kept.length < list.length, false));
    if (list.length) note(channel, list.at(-1)!.id);
  } catch (e) { complain(e); }
});

export const loadOlder = (channel: string) => fetching(channel, async () => {
  const h = historyOf(channel);
  const first = h?.lines.find((l) => !l.state);
  if (!h?.older || !first) return;
  const page = await turned(channel, { limit: PAGE, before: first.id });
  alter(channel, (h) => before(h, page, page.length === PAGE));
}).catch(complain);

export const loadNewer = (channel: string) => fetching(channel, async () => {
  const h = historyOf(channel);
  const last = h?.lines.findLast((l) => !l.state);
  if (!h?.newer || !last) return;
  const page = await turned(channel, { limit: PAGE, after: last.id });
  alter(channel, (h) => after(h, page, page.length === PAGE));
}).catch(complain);

/** The part of the history around a message. */
export const loadAround = (channel: string, id: string) => fetching(channel, async () => {
  const page = await turned(channel, { limit: PAGE, around: id });
  const last = page.at(-1)?.id ?? '0';
  put(channel, opened(historyOf(channel) ?? nothing, page, true, byId(newest.value[channel] ?? '0', last) > 0));
}).catch(complain);

/** After another gateway session, or in a community that was not open: what is not shown is fetched when it is. */
export function stale(of: (channel: string) => boolean = () => true) {
  const shown = textChannel.value?.id ?? '';
  histories.value = Object.fromEntries(Object.entries(histories.value).flatMap(([id, h]) => {
    const out = h.lines.filter((l) => l.state);
    return id === shown || !of(id) ? [[id, h]] : out.length ? [[id, { ...nothing, lines: out, newer: true }]] : [];
  }));
}

// ── Messages others answered ────────────────────────────────────────────────

const fetched = signal<Readonly<Record<string, Message | null>>>({}); // null: there is none any more

/** The message that a reply answers; undefined while it is fetched, null when it is gone. */
export function answered(m: Message): Message | null | undefined {
  const id = m.message_reference?.message_id;
  if (!id) return undefined;
  const near = historyOf(m.channel_id)?.lines.find((l) => l.id === id);
  if (near) return near;
  if (m.referenced_message !== undefined) return m.referenced_message;
  return fetched.value[id];
}
const asked = new Set<string>();
export function fetchAnswered(m: Message) {
  const id = m.message_reference?.message_id;
  if (!id || asked.has(id) || answered(m) !== undefined) return;
  asked.add(id);
  api.message(m.channel_id, id).then(
    (r) => { fetched.value = { ...fetched.value, [id]: r }; },
    (e) => { if (e.status === 404) fetched.value = { ...fetched.value, [id]: null }; else asked.delete(id); });
}

// ── What goes out ───────────────────────────────────────────────────────────

export const drafts = signal<Readonly<Record<string, string>>>({});
export const setDraft = (channel: string, text: string) => { drafts.value = { ...drafts.value, [channel]: text }; };
export const chosenFiles = signal<Readonly<Record<string, readonly File[]>>>({});
export const replying = signal<Readonly<Record<string, Message>>>({});
export const editing = signal(''); // id of the message that is being edited
export function replyTo(channel: string, m: Message | null) {
  const { [channel]: _, ...others } = replying.value;
  replying.value = m ? { ...others, [channel]: m } : others;
}

const outbox = new Outbox<Message>({
  post: (j) => {
    if (!j.files?.length) return api.say(j.channel, j.content, j.nonce, j.reply);
    const stop = new AbortController();
    stops.set(j.nonce, stop);
    return api.sayWithFiles(j.channel, j.content, j.nonce, j.reply, j.files, (progress) => going(j, { progress }), stop.signal).finally(() => stops.delete(j.nonce));
  },
  failure: (e) => {
    const a = e instanceof api.ApiError ? e : new api.ApiError(0, 0, String(e));
    const passing = a.status === 0 || a.status >= 500 || a.status === 429;
    return { message: a.message, again: passing, wait: a.wait };
  },
  sent: (j, m) => alter(j.channel, (h) => arrived(h, { ...m, nonce: j.nonce })),
  state: (j, state, problem) => going(j, { state, problem, progress: undefined }),
});
const stops = new Map<string, AbortController>(); // of uploads under way, by nonce
export const stopUpload = (l: Line) => stops.get(l.nonce as string)?.abort();

function going(j: Job, change: Partial<Line>) {
  const l = historyOf(j.channel)?.lines.find((x) => x.state && x.nonce === j.nonce);
  if (l) alter(j.channel, (h) => leaves(h, { ...l, ...change }));
}
export const hurry = () => outbox.wake();

const jobs = new Map<string, Job>(); // of the lines on their way out, by nonce

/** What can be named in the community, as it is written and as it is sent. */
export function mentionables(): Mentionable[] {
  const h = house.value;
  if (!h) return [];
  const people = [...h.members.values()].flatMap((m) => [
    { label: '@' + nameOf(m.user.id), token: `<@${m.user.id}>` },
    ...(m.user.guest ? [] : [{ label: '@' + m.user.username, token: `<@${m.user.id}>` }]),
  ]);
  const roles = h.guild.roles.filter((r) => r.id !== h.guild.id).map((r) => ({ label: '@' + r.name, token: `<@&${r.id}>` }));
  const channels = textChannels.value.map((c) => ({ label: '#' + c.name, token: `<#${c.id}>` }));
  return [...people, ...roles, ...channels];
}

export async function say(channel: string, text: string, files: readonly File[] = []) {
  const nonce = [...crypto.getRandomValues(new Uint32Array(2))].join('').slice(0, 20);
  const reply = replying.value[channel];
  const job: Job = { channel, nonce, content: toWire(text, mentionables()), reply: reply?.id, files };
  replyTo(channel, null);
  jobs.set(nonce, job);
  const line: Line = {
    id: 'n' + nonce, nonce, channel_id: channel, author: me.value!, content: job.content, timestamp: new Date().toISOString(), edited_timestamp: null, state: 'sending', files,
    ...(reply && { type: 19, message_reference: { message_id: reply.id, channel_id: channel }, referenced_message: reply }),
  };
  if (historyOf(channel)?.newer) await load(channel); // what one says is seen at the end
  put(channel, leaves(historyOf(channel) ?? nothing, line));
  atEnd.value = true;
  clearDivider(channel);
  told = 0;
  outbox.add(job);
}

/** A failed line is sent anew, under its old nonce: whatever became of the first try, it is there once. */
export function again(l: Line) {
  const job = jobs.get(l.nonce as string);
  if (!job) return;
  alter(l.channel_id, (h) => leaves(h, { ...l, state: 'sending', problem: undefined }));
  outbox.add(job);
}
export function discard(l: Line) {
  jobs.delete(l.nonce as string);
  alter(l.channel_id, (h) => without(h, (x) => !!x.state && x.nonce === l.nonce));
}

export async function edit(l: Line, text: string) {
  const content = toWire(text.trim(), mentionables());
  if (content === l.content) return;
  const was = l.content;
  alter(l.channel_id, (h) => patched(h, l.id, () => ({ content })));
  try {
    onEdit(await api.edit(l.channel_id, l.id, content));
  } catch (e) {
    alter(l.channel_id, (h) => patched(h, l.id, () => ({ content: was })));
    throw e;
  }
}

export async function remove(l: Line) {
  await api.unsay(l.channel_id, l.id).catch((e) => { if (e.status !== 404) throw e; });
  onDelete(l.channel_id, [l.id]);
}

/** Puts an emoji under a message, or takes one's own away. */
export async function react(l: Line, emoji: string, on: boolean) {
  const r = { channel_id: l.channel_id, message_id: l.id, user_id: me.value!.id, emoji: { id: null, name: emoji } };
  if ((l.reactions?.find((x) => x.emoji.name === emoji)?.me ?? false) === on) return;
  onReaction(r, on ? 1 : -1);
  try { await api.react(l.channel_id, l.id, emoji, on); } catch (e) { onReaction(r, on ? -1 : 1); complain(e); }
}

/** Counts up when what is pinned has changed somewhere. */
export const pinsChanged = signal(0);
export async function pin(l: Line, on: boolean) {
  await api.pin(l.channel_id, l.id, on);
  alter(l.channel_id, (h) => patched(h, l.id, () => ({ pinned: on })));
}

let told = 0;
/** Tells the others, at most every 8 s, that something is being written. */
export function nowTyping(channel: string) {
  if (Date.now() - told < 8000) return;
  told = Date.now();
  api.typing(channel).catch(() => {});
}

// ── Read and unread ─────────────────────────────────────────────────────────

/** Newest message there is, and newest one read, per channel. */
export const newest = signal<Readonly<Record<string, string>>>({});
const read = signal<Readonly<Record<string, string>>>({});
export const pinged = signal<Readonly<Record<string, number>>>({}); // how often one was named since
export const unread = computed<ReadonlySet<string>>(() => new Set(Object.keys(newest.value).filter((c) => byId(newest.value[c], read.value[c] ?? '0') > 0)));
export const anyUnread = computed(() => [...textChannels.value, ...(guild.value?.channels ?? []).filter((c) => isThread(c) && c.member)].some((c) => unread.value.has(c.id)));
/** Where the new begins: the last message that had been read when one came. */
export const dividers = signal<Readonly<Record<string, string>>>({});

function setDivider(channel: string, id: string | undefined) { if (id) dividers.value = { ...dividers.value, [channel]: id }; }
export function clearDivider(channel: string) {
  if (!(channel in dividers.value)) return;
  const { [channel]: _, ...others } = dividers.value;
  dividers.value = others;
}

function note(channel: string, id: string) {
  if (byId(id, newest.value[channel] ?? '0') > 0) newest.value = { ...newest.value, [channel]: id };
}

/** A community is here: what was read before counts; what this browser never saw is not called new. */
export function noteChannels(channels: readonly { id: string; last_message_id?: string | null }[]) {
  const known = me.value ? { ...marks(me.value.id), ...read.value } : read.value;
  const next = { ...known };
  for (const c of channels) {
    if (c.last_message_id) note(c.id, c.last_message_id);
    if (!(c.id in next)) next[c.id] = c.last_message_id ?? '0';
    else if (c.last_message_id && byId(c.last_message_id, next[c.id]) > 0 && !(c.id in dividers.value)) setDivider(c.id, next[c.id]);
  }
  read.value = next;
  if (me.value) keepMarks(me.value.id, next);
}

/** What a community that was not open has new. */
export function noteNewest(channels: readonly { id: string; last_message_id: string }[]) {
  for (const c of channels) {
    const before = newest.value[c.id];
    if (byId(c.last_message_id, before ?? '0') <= 0) continue;
    if (!unread.value.has(c.id)) setDivider(c.id, before);
    note(c.id, c.last_message_id);
  }
}

export function markRead(channel: string) {
  const last = newest.value[channel];
  if (last && byId(last, read.value[channel] ?? '0') > 0) {
    read.value = { ...read.value, [channel]: last };
    if (me.value) keepMarks(me.value.id, read.value);
  }
  if (pinged.value[channel]) pinged.value = { ...pinged.value, [channel]: 0 };
}

/** Whether the end of the shown channel is before somebody's eyes. Set by what shows it. */
export const atEnd = signal(true);
export const chatShown = signal(true); // a phone may show another part
const visible = signal(document.visibilityState === 'visible');
addEventListener('visibilitychange', () => { visible.value = document.visibilityState === 'visible'; });
const looking = () => visible.value && atEnd.value && chatShown.value;

effect(() => {
  const id = textChannel.value?.id;
  if (id && looking() && !histories.value[id]?.newer && unread.value.has(id)) queueMicrotask(() => markRead(id));
});

export function forgetChat() {
  for (const s of stops.values()) s.abort();
  outbox.clear();
  jobs.clear();
  asked.clear();
  histories.value = {};
  newest.value = read.value = dividers.value = fetched.value = drafts.value = {};
  replying.value = {};
  chosenFiles.value = {};
  pinged.value = {};
  editing.value = '';
}

// The tab tells that one was named.
effect(() => {
  const n = Object.values(pinged.value).reduce((a, b) => a + b, 0);
  document.title = `${n ? `(${n}) ` : ''}${textChannel.value && guild.value ? `${textChannel.value.name} · ${guild.value.name}` : 'voicefleet'}`;
});
