// Words and people, as they are shown. Nothing here touches the document.

/** At most two letters that stand for a name. */
export function initials(name: string): string {
  const words = name.split(/[\s._-]+/u).map((w) => [...w.replace(/[^\p{L}\p{N}]/gu, '')][0] ?? '').filter(Boolean);
  return (words.length > 1 ? words[0] + words[words.length - 1] : words[0] ?? [...name][0] ?? '?').toUpperCase();
}

/** A hue of 0..359 that is an id's own. Ids of one second differ only in their low digits, so these are spread. */
export function hue(id: string): number {
  let h = 2166136261;
  for (const c of id) h = Math.imul(h ^ c.charCodeAt(0), 16777619);
  return (((h ^ (h >>> 15)) >>> 0) * 137.508) % 360 | 0;
}

/** The code of an invite link, or the code itself. */
export function inviteCode(s: string): string {
  const m = /\/invite\/([^/?#\s]+)/.exec(s);
  return m ? decodeURIComponent(m[1]) : s.trim();
}

/** What a KeyboardEvent.code is called on the key. */
export function keyName(code: string): string {
  return code.replace(/^Key(?=.$)/, '').replace(/^Digit(?=\d$)/, '').replace(/(Left|Right)$/, (side) => ` (${side.toLowerCase()})`)
    .replace(/^Arrow \((.*)\)$/, 'Arrow $1').replace('Backquote', '`').replace('Control', 'Ctrl');
}

/** Whether a held key leaves no letter behind, so that it may talk even while somebody writes. */
export const isSilent = (code: string) => /^(F\d+|Control(Left|Right)|Alt(Left|Right)|Shift(Left|Right)|Meta(Left|Right)|CapsLock|Insert|Pause|ScrollLock|ContextMenu)$/.test(code);

/** A size in bytes, as people say it. */
export function size(n: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB'];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${i && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}

/** A role's colour as CSS has it; '' for none. */
export const colour = (n: number) => (n ? '#' + n.toString(16).padStart(6, '0') : '');

/** What is told of a call that has another node now; `ms` is from the word of it to sound there. */
export function movedNotice(move: { from: string; cause: string }, to: string, ms: number): string {
  const took = `${(ms / 1000).toFixed(1)} s`;
  if (move.cause === 'mend' || move.from === to) return `Your connection was renewed, ${took}.`;
  if (move.cause === 'node_lost' || move.cause === 'link_lost') return `${move.from || 'Your voice server'} was lost: moved to ${to}, ${took}.`;
  return `Moved to ${to}, ${took}.`;
}
