// Words and people, as they are shown. Nothing here touches the document.

const link = /(https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]])/g;

export interface Piece { text: string; href?: string }

/** Cuts a message into plain text and links. Nothing in it is ever read as markup. */
export function pieces(s: string): Piece[] {
  return s.split(link).map((text, i) => (i % 2 ? { text, href: text } : { text })).filter((p) => p.text !== '');
}

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
