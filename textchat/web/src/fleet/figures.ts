// Figures for people, and what they are drawn from. Nothing here looks at the page.
import type { Call, Entry, Node, PlannedMove } from './types';

/** 1,234 → "1,234"; 12,345 → "12.3 k"; 4,560,000 → "4.56 M". */
export function count(n: number): string {
  if (n < 10_000) return Math.round(n).toLocaleString('en-US');
  const [v, unit] = n < 999_500 ? [n / 1e3, 'k'] : n < 999.5e6 ? [n / 1e6, 'M'] : [n / 1e9, 'G'];
  return `${v.toFixed(v < 10 ? 2 : v < 100 ? 1 : 0)} ${unit}`;
}

export const percent = (share: number) => `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`;
export const ms = (v: number) => (v < 10 ? v.toFixed(1) : v.toFixed(0)) + ' ms';

/** How long ago, or for how long, in the largest unit that fits. */
export function age(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 90) return `${s} s`;
  if (s < 90 * 60) return `${Math.round(s / 60)} min`;
  if (s < 36 * 3600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

export type Mood = 'good' | 'busy' | 'fair' | 'poor' | 'off';

/** What a node's state is, in a word and a mood. */
export function standing(n: Node): { word: string; mood: Mood } {
  if (n.suspect) return { word: 'silent', mood: 'poor' };
  if (n.degraded) return { word: n.degraded === 'degraded' ? 'losing packets' : 'too hot', mood: 'poor' };
  if (n.cordoned) return { word: 'cordoned', mood: 'fair' }; // of state "draining", as it takes no new calls
  switch (n.state) {
    case 'ready':
      if (n.fullness >= 0.97) return { word: 'full', mood: 'poor' };
      if (n.fullness >= 0.85) return { word: 'nearly full', mood: 'fair' };
      return { word: 'ready', mood: 'good' };
    case 'draining': return { word: n.call_count ? 'draining' : 'drained', mood: n.call_count ? 'busy' : 'off' };
    case 'joining': return { word: 'joining', mood: 'busy' };
    default: return { word: n.state, mood: 'off' };
  }
}

export interface Totals { nodes: number; ready: number; sessions: number; seats: number; calls: number; pps: number }

export function totals(nodes: readonly Node[], calls: readonly Call[]): Totals {
  const t: Totals = { nodes: nodes.length, ready: 0, sessions: 0, seats: 0, calls: calls.length, pps: 0 };
  for (const n of nodes) {
    t.sessions += n.load.sessions;
    t.pps += n.load.pps;
    if (n.state !== 'ready') continue;
    t.ready++;
    t.seats += n.capacity.sessions;
  }
  return t;
}

/** Points of a trend, oldest first, at most `most`; the newest is added. */
export function trend(before: readonly number[] | undefined, value: number, most: number): number[] {
  const list = [...(before ?? []), value];
  return list.slice(Math.max(0, list.length - most));
}

/** A line through a trend in a box, for the d of a path. Zero lies at the bottom; the top is the greatest value, `least` at the least. */
export function line(values: readonly number[], width: number, height: number, most: number, least = 1): string {
  if (!values.length) return '';
  const top = Math.max(least, ...values);
  const x = (i: number) => width - ((values.length - 1 - i) * width) / Math.max(1, most - 1);
  return values.map((v, i) => `${i ? 'L' : 'M'}${x(i).toFixed(1)} ${(height - (v / top) * height).toFixed(1)}`).join('');
}

/** Nodes by region, then name; those that want an eye on them stand first. */
export function ordered(nodes: readonly Node[]): Node[] {
  const rank: Record<Mood, number> = { poor: 0, busy: 1, fair: 2, good: 3, off: 4 };
  return [...nodes].sort((a, b) => rank[standing(a).mood] - rank[standing(b).mood] || a.region.localeCompare(b.region) || a.node.localeCompare(b.node));
}

/** Calls whose id, node or further nodes contain what is looked for; the youngest first. */
export function found(calls: readonly Call[], words: string, most: number): { list: Call[]; more: number } {
  const w = words.trim().toLowerCase();
  const all = calls.filter((c) => !w || c.call.includes(w) || c.node.includes(w) || c.spans?.some((s) => s.includes(w)));
  all.sort((a, b) => b.created.localeCompare(a.created) || a.call.localeCompare(b.call));
  return { list: all.slice(0, most), more: Math.max(0, all.length - most) };
}

const deeds: Record<string, string> = {
  suspect: 'is silent', hold: 'stays: it answers', lost: 'is lost', back: 'is back', drain: 'is emptied', cordon: 'takes no new calls',
  undrain: 'takes calls again', degraded: 'loses packets', recovered: 'is well again', mend: 'a listener was seated anew', enrol: 'enrolment', upgrade: 'was upgraded', refused: 'was refused',
};

/** A line of the journal in words. */
export function told(e: Entry): string {
  const who = e.node ?? '';
  if (e.deed === 'move') return `call ${e.call ?? ''} moved from ${who} to ${e.to ?? '?'}`;
  return `${who} ${deeds[e.deed] ?? e.deed}`.trim();
}

export function urgent(e: Entry): boolean { return e.deed === 'lost' || e.deed === 'degraded' || e.deed === 'refused'; }

/** What a drain would do, in a sentence or two. */
export function planned(plan: readonly PlannedMove[]): string {
  const to = new Map<string, number>();
  for (const m of plan) to.set(m.to ?? '', (to.get(m.to ?? '') ?? 0) + 1);
  const nowhere = to.get('') ?? 0;
  to.delete('');
  const calls = (n: number) => (n === 1 ? '1 call' : `${count(n)} calls`);
  const parts = [...to].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).map(([node, n]) => `${calls(n)} to ${node}`);
  const most = 5;
  if (parts.length > most) parts.splice(most, parts.length, `the rest to ${parts.length - most} more`);
  return [
    !plan.length && 'It has no calls.',
    parts.length > 0 && `It would move ${parts.join(', ')}. Nobody hears a gap.`,
    nowhere > 0 && `There is no room elsewhere for ${calls(nowhere)} now.`,
  ].filter(Boolean).join(' ');
}
