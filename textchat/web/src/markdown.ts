// Messages as they are written: a small part of Markdown, as a tree. Nothing in
// a message is ever read as HTML, and what is not understood stays text.

export type Inline =
  | { kind: 'text'; text: string }
  | { kind: 'strong' | 'em' | 'under' | 'strike' | 'spoiler'; nodes: Inline[] }
  | { kind: 'code'; text: string }
  | { kind: 'link'; href: string; text: string }
  | { kind: 'user' | 'role' | 'channel'; id: string }
  | { kind: 'all'; text: string };

export type Block =
  | { kind: 'par'; nodes: Inline[] }
  | { kind: 'heading'; level: 1 | 2 | 3; nodes: Inline[] }
  | { kind: 'quote'; blocks: Block[] }
  | { kind: 'list'; ordered: boolean; start: number; items: Inline[][] }
  | { kind: 'fence'; lang: string; text: string };

const DEEPEST = 8; // marks within marks; deeper ones stay text

const marks: [string, 'strong' | 'em' | 'under' | 'strike' | 'spoiler'][] = [
  ['**', 'strong'], ['__', 'under'], ['~~', 'strike'], ['||', 'spoiler'], ['*', 'em'], ['_', 'em'],
];
const link = /^https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]*_~|]/;
const mention = /^<(@!?|@&|#)(\d{1,20})>/;
const bracketed = /^<(https?:\/\/[^\s<>"']+)>/;
const word = /[\p{L}\p{N}_]/u;
const escapable = /[\\`*_~|<>#@()[\]\-.!]/;

/** What stands within a line or several of them. */
export function inline(s: string, depth = 0): Inline[] {
  const out: Inline[] = [];
  let text = '';
  const never = new Set<string>(); // marks of which no closing one follows
  const flush = () => { if (text) out.push({ kind: 'text', text }); text = ''; };
  const put = (n: Inline) => { flush(); out.push(n); };
  for (let i = 0; i < s.length;) {
    const c = s[i];
    const rest = () => s.slice(i);
    if (c === '\\' && i + 1 < s.length && escapable.test(s[i + 1])) { text += s[i + 1]; i += 2; continue; }
    if (c === '`') {
      const ticks = /^`+/.exec(rest())![0];
      const end = never.has(ticks) ? -1 : s.indexOf(ticks, i + ticks.length);
      if (end > 0) {
        const body = s.slice(i + ticks.length, end);
        put({ kind: 'code', text: body.trim() ? body.replace(/^ (.*) $/s, '$1') : body });
        i = end + ticks.length;
      } else { never.add(ticks); text += ticks; i += ticks.length; }
      continue;
    }
    if (c === 'h' && s.startsWith('http', i)) {
      const m = link.exec(rest());
      if (m) { put({ kind: 'link', href: m[0], text: m[0] }); i += m[0].length; continue; }
    }
    if (c === '<') {
      const m = mention.exec(rest());
      if (m) { put({ kind: m[1] === '#' ? 'channel' : m[1] === '@&' ? 'role' : 'user', id: m[2] }); i += m[0].length; continue; }
      const b = bracketed.exec(rest());
      if (b) { put({ kind: 'link', href: b[1], text: b[1] }); i += b[0].length; continue; }
    }
    if (c === '@') {
      const m = /^@(everyone|here)/.exec(rest());
      if (m) { put({ kind: 'all', text: m[0] }); i += m[0].length; continue; }
    }
    const hit = depth < DEEPEST ? marks.find(([m]) => s.startsWith(m, i)) : undefined;
    if (hit) {
      const [m, kind] = hit;
      const end = never.has(m) ? -1 : closing(s, m, i);
      if (end > 0) {
        put({ kind, nodes: inline(s.slice(i + m.length, end), depth + 1) });
        i = end + m.length;
        continue;
      }
      if (end === 0) never.add(m);
      text += m;
      i += m.length;
      continue;
    }
    text += c;
    i++;
  }
  flush();
  return out;
}

/** Where the mark that opens at `at` closes; -1 when it opens nothing here, 0 when none that follows closes any. */
function closing(s: string, mark: string, at: number): number {
  const from = at + mark.length;
  if (from >= s.length || /\s/.test(s[from])) return -1;
  if (mark === '_' && at > 0 && word.test(s[at - 1])) return -1; // snake_case
  for (let end = s.indexOf(mark, from + 1); end > 0; end = s.indexOf(mark, end + 1)) {
    if (s[end - 1] === '\\' || /\s/.test(s[end - 1])) continue;
    if (mark.length === 1 && (s[end + 1] === mark || s[end - 1] === mark)) { // part of a double mark, not this one
      if (s[end + 1] === mark) end++;
      continue;
    }
    if (mark === '_' && end + 1 < s.length && word.test(s[end + 1])) continue;
    // Of "**a*b***" the last two are the mark's.
    while (mark.length === 2 && s.startsWith(mark, end + 1)) end++;
    return end;
  }
  return 0; // what keeps one from closing has nothing to do with where it opened
}

/** A whole message. */
export function parse(s: string, quoted = false): Block[] {
  const out: Block[] = [];
  const lines = s.replace(/\r\n?/g, '\n').split('\n');
  let par: string[] = [];
  const flush = () => {
    if (par.some((l) => l.trim())) out.push({ kind: 'par', nodes: inline(par.join('\n').replace(/^\n+|\s+$/g, '')) });
    par = [];
  };
  for (let i = 0; i < lines.length; i++) {
    const l = lines[i];
    const open = l.indexOf('```');
    if (open >= 0) {
      // To the next fence, on this line or a later one; without one it is text.
      const all = lines.slice(i).join('\n');
      const end = all.indexOf('```', open + 3);
      if (end > open + 3 && all.slice(open + 3, end).trim()) {
        if (all.slice(0, open).trim()) par.push(l.slice(0, open));
        flush();
        const body = /^(?:([\w+#.-]{1,20})\n)?([\s\S]*)$/.exec(all.slice(open + 3, end))!;
        out.push({ kind: 'fence', lang: body[1] ?? '', text: body[2].replace(/^\n|\n$/g, '') });
        const taken = all.slice(0, end + 3).split('\n').length - 1;
        const left = all.slice(end + 3).split('\n')[0];
        i += taken;
        if (left.trim()) { lines[i] = left; i--; }
        continue;
      }
    }
    const heading = /^(#{1,3}) +(\S.*)$/.exec(l);
    if (heading) { flush(); out.push({ kind: 'heading', level: heading[1].length as 1, nodes: inline(heading[2]) }); continue; }
    if (!quoted && /^> /.test(l)) {
      flush();
      const body: string[] = [];
      while (i < lines.length && /^>( |$)/.test(lines[i])) body.push(lines[i++].slice(2));
      i--;
      out.push({ kind: 'quote', blocks: parse(body.join('\n'), true) });
      continue;
    }
    const item = /^(?:[-*]|(\d{1,4})\.) +(?=\S)/.exec(l);
    if (item) {
      flush();
      const items: Inline[][] = [];
      const ordered = item[1] !== undefined;
      for (let m; i < lines.length && (m = (ordered ? /^\d{1,4}\. +(?=\S)/ : /^[-*] +(?=\S)/).exec(lines[i])); i++) items.push(inline(lines[i].slice(m[0].length)));
      i--;
      out.push({ kind: 'list', ordered, start: Number(item[1] ?? 1), items });
      continue;
    }
    par.push(l);
  }
  flush();
  return out;
}

export interface Names { user(id: string): string; role(id: string): string; channel(id: string): string }

/** The message in plain words, for labels, previews and notices. */
export function plain(s: string, names: Names): string {
  const words = (nodes: Inline[]): string => nodes.map((n) => {
    switch (n.kind) {
      case 'text': case 'code': case 'all': case 'link': return n.text;
      case 'user': return '@' + names.user(n.id);
      case 'role': return '@' + names.role(n.id);
      case 'channel': return '#' + names.channel(n.id);
      case 'spoiler': return '(hidden)';
      default: return words(n.nodes);
    }
  }).join('');
  const block = (b: Block): string => {
    switch (b.kind) {
      case 'par': case 'heading': return words(b.nodes);
      case 'fence': return b.text;
      case 'list': return b.items.map(words).join(', ');
      case 'quote': return b.blocks.map(block).join('\n');
    }
  };
  return parse(s).map(block).join('\n');
}

/** Whether a message is nothing but a few emoji, which are then shown large. */
export const jumbo = (s: string) => /^(?:\s*(?:\p{Emoji_Presentation}|\p{Extended_Pictographic}\uFE0F?)(?:\p{Emoji_Modifier}|\u200D(?:\p{Emoji_Presentation}|\p{Extended_Pictographic})\uFE0F?)*){1,6}\s*$/u.test(s);

// ── Names in what one writes ────────────────────────────────────────────────

export interface Mentionable { label: string; token: string } // "@Ada Lovelace" and "<@1>"

/** Puts the ids into what was written with names; code stays as it is. The longest name wins. */
export function toWire(s: string, list: readonly Mentionable[]): string {
  const sorted = [...list].sort((a, b) => b.label.length - a.label.length);
  return s.split(/(```[\s\S]*?```|`[^`\n]*`)/).map((part, i) => {
    if (i % 2) return part;
    let out = '';
    for (let at = 0; at < part.length;) {
      const hit = /[@#]/.test(part[at]) && (at === 0 || !word.test(part[at - 1])) ? sorted.find((m) => part.slice(at, at + m.label.length).toLowerCase() === m.label.toLowerCase() && !word.test(part[at + m.label.length] ?? ' ')) : undefined;
      if (hit) { out += hit.token; at += hit.label.length; } else out += part[at++];
    }
    return out;
  }).join('');
}

/** The other way round, for editing. */
export const fromWire = (s: string, names: Names): string =>
  s.replace(/<(@!?|@&|#)(\d{1,20})>/g, (_, kind: string, id: string) => (kind === '#' ? '#' + names.channel(id) : kind === '@&' ? '@' + names.role(id) : '@' + names.user(id)));

/** What is being named where the caret stands: "@ad" of "hello @ad|". */
export function naming(s: string, caret: number): { from: number; query: string } | null {
  const m = /(?:^|[\s(])([@#])([^\s@#]{0,32})$/.exec(s.slice(0, caret));
  return m ? { from: caret - m[2].length - 1, query: m[1] + m[2].toLowerCase() } : null;
}
