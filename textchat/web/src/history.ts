// The part of a channel's history that the page holds: a window of bounded
// length on it, in order, nothing in it twice. What is on its way out stands at
// the end until the server has given it its place.
import { byId, type Emoji, type Message, type Reaction } from './types';

/** A message, or one on its way out: `waiting` is tried again by itself, `failed` is not. */
export interface Line extends Message {
  state?: 'sending' | 'waiting' | 'failed';
  problem?: string;
  /** What goes with it, and how much of that is sent, 0..1. */
  files?: readonly File[];
  progress?: number;
}

export interface History {
  readonly lines: readonly Line[];
  /** The server has more before the first line, or after the last. */
  readonly older: boolean;
  readonly newer: boolean;
}

/** Lines held at most, those on their way out apart: four pages. */
export const WINDOW = 200;

export const nothing: History = { lines: [], older: true, newer: false };

const there = (h: History) => h.lines.filter((l) => !l.state);
const leaving = (h: History) => h.lines.filter((l) => l.state);

/** Two ordered lists as one; of two of the same id the second stays. */
function merge(a: readonly Line[], b: readonly Line[]): Line[] {
  const byKey = new Map<string, Line>();
  for (const l of a) byKey.set(l.id, l);
  for (const l of b) byKey.set(l.id, { ...(byKey.get(l.id)?.nonce !== undefined && { nonce: byKey.get(l.id)!.nonce }), ...l });
  return [...byKey.values()].sort((x, y) => byId(x.id, y.id));
}

/** The newest lines of the window, or the oldest. */
function trim(h: History, keep: 'newest' | 'oldest'): History {
  const have = there(h);
  if (have.length <= WINDOW) return h;
  return keep === 'newest'
    ? { lines: [...have.slice(-WINDOW), ...leaving(h)], older: true, newer: h.newer }
    : { lines: [...have.slice(0, WINDOW), ...leaving(h)], older: h.older, newer: true };
}

/** A message came. It takes the place of the line it was sent as, by its author's nonce. */
export function arrived(h: History, m: Message): History {
  const mine = (l: Line) => l.state !== undefined && m.nonce !== undefined && l.nonce === String(m.nonce) && l.author.id === m.author.id;
  const out = leaving(h).filter((l) => !mine(l));
  if (h.newer) return { ...h, lines: [...there(h), ...out] }; // it lies beyond the window
  const line: Line = { ...m, ...(m.nonce !== undefined && { nonce: String(m.nonce) }) };
  return trim({ ...h, lines: [...merge(there(h), [line]), ...out] }, 'newest');
}

/** A line of ours leaves, or its sending changed. */
export function leaves(h: History, l: Line): History {
  const at = h.lines.findIndex((x) => x.state && x.nonce === l.nonce);
  return { ...h, lines: at < 0 ? [...h.lines, l] : h.lines.map((x, i) => (i === at ? l : x)) };
}

export const without = (h: History, gone: (l: Line) => boolean): History => (h.lines.some(gone) ? { ...h, lines: h.lines.filter((l) => !gone(l)) } : h);

export const patched = (h: History, id: string, fn: (l: Line) => Partial<Line>): History =>
  h.lines.some((l) => l.id === id) ? { ...h, lines: h.lines.map((l) => (l.id === id ? { ...l, ...fn(l) } : l)) } : h;

/** An older page was fetched; `more` lies before it. */
export const before = (h: History, page: readonly Message[], more: boolean): History =>
  trim({ lines: [...merge(page as Line[], there(h)), ...leaving(h)], older: more, newer: h.newer }, 'oldest');

/** A newer page was fetched; `more` lies after it. */
export const after = (h: History, page: readonly Message[], more: boolean): History =>
  trim({ lines: [...merge(there(h), page as Line[]), ...leaving(h)], older: h.older, newer: more }, 'newest');

/**
 * The window is what was fetched just now. `live` are lines that came while the
 * request was out; where the page reaches the present they stay.
 */
export function opened(h: History, page: readonly Message[], older: boolean, newer: boolean): History {
  const last = page.at(-1)?.id;
  const live = newer ? [] : there(h).filter((l) => last === undefined || byId(l.id, last) > 0);
  return trim({ lines: [...merge(page as Line[], live), ...leaving(h)], older, newer }, 'newest');
}

/** One more or one less of an emoji; 0 takes all of it away, or all of all when none is named. */
export function reacted(list: readonly Reaction[], emoji: Emoji | undefined, by: 1 | -1 | 0, own: boolean): Reaction[] {
  if (!emoji) return [];
  const same = (x: Reaction) => x.emoji.name === emoji.name && x.emoji.id === emoji.id;
  if (by === 0) return list.filter((x) => !same(x));
  const had = list.find(same);
  if (own && (had?.me ?? false) === (by > 0)) return [...list]; // known already: it was ours to tell
  if (!had) return by > 0 ? [...list, { emoji, count: 1, me: own }] : [...list];
  return list.map((x) => (same(x) ? { ...x, count: x.count + by, me: own ? by > 0 : x.me } : x)).filter((x) => x.count > 0);
}
