import { signal } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import { find, groups, wordsFor, type Picked } from '../emoji';
import { change, settings } from '../settings';

/** What is waiting for an emoji, and where on the page. */
export const picking = signal<{ at: DOMRect; line: HTMLElement | null; take(emoji: string): void } | null>(null);
export const pick = (near: Element, take: (emoji: string) => void) => { picking.value = { at: near.getBoundingClientRect(), line: near.closest('article'), take }; };

const WIDE = 340, HIGH = 380, COLUMNS = 8;
const usual = ['👍', '❤️', '😂', '🎉', '👀', '🙏', '🔥', '✅'];

export function Picker() {
  const { at, line, take } = picking.value!;
  const box = useRef<HTMLDialogElement>(null);
  const [query, set] = useState('');
  useEffect(() => {
    const opener = document.activeElement;
    const b = box.current!;
    b.style.setProperty('--x', `${Math.max(12, Math.min(at.right - WIDE, innerWidth - WIDE - 12))}px`);
    b.style.setProperty('--y', `${Math.max(12, at.top > HIGH + 20 ? at.top - HIGH - 8 : Math.min(at.bottom + 8, innerHeight - HIGH - 12))}px`);
    b.showModal();
    return () => { if (opener instanceof HTMLElement && opener.isConnected) opener.focus(); else line?.focus(); }; // tools go with the focus
  }, []);
  const shut = () => { picking.value = null; };
  const chosen = (e: string) => {
    change({ emoji: [e, ...settings.value.emoji.filter((x) => x !== e)].slice(0, COLUMNS) });
    shut();
    take(e);
  };
  const keys = (e: KeyboardEvent) => {
    e.stopPropagation();
    const all = [...box.current!.querySelectorAll<HTMLElement>('.grid button')];
    const i = all.indexOf(e.target as HTMLElement);
    if (i < 0) {
      if (e.key === 'ArrowDown') { e.preventDefault(); all[0]?.focus(); }
      if (e.key === 'Enter') { e.preventDefault(); all[0]?.click(); }
      return;
    }
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -COLUMNS, ArrowDown: COLUMNS }[e.key];
    if (!step) return;
    e.preventDefault();
    (all[i + step] ?? (step < 0 ? box.current!.querySelector('input') : all.at(-1)))?.focus();
  };
  const grid = (name: string, list: Picked[]) => (
    <section key={name}>
      <h3>{name}</h3>
      <div class="grid" role="group" aria-label={name}>
        {list.map((e, i) => <button key={e.emoji} type="button" tabIndex={i ? -1 : 0} aria-label={`${e.emoji} ${e.words.split(' ').slice(0, 2).join(' ')}`.trim()} title={e.words.split(' ')[0]} onClick={() => chosen(e.emoji)}>{e.emoji}</button>)}
      </div>
    </section>
  );
  const recent = [...settings.value.emoji, ...usual.filter((e) => !settings.value.emoji.includes(e))].slice(0, COLUMNS);
  return (
    <dialog class="picker" ref={box} aria-label="Emoji" onCancel={(e) => { e.preventDefault(); shut(); }} onKeyDown={keys} onClick={(e) => { if (e.target === box.current) shut(); }}>
      <div>
        <input type="search" aria-label="Find an emoji" placeholder="Find an emoji" value={query} onInput={(e) => set(e.currentTarget.value)} autoFocus />
        <div class="all">
          {query.trim() ? (find(query).length ? grid('Found', find(query)) : <p class="soft small" role="status">Nothing of this name.</p>)
            : <>{grid('Often used', recent.map((emoji) => ({ emoji, words: wordsFor(emoji) })))}{groups.map((g) => grid(g.name, g.list))}</>}
        </div>
      </div>
    </dialog>
  );
}
