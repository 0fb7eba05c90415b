// What is looked at: the panel over the page, and on a phone one of its parts.
import { signal } from '@preact/signals';
import type { Message } from '../types';

export type Panel = '' | 'settings' | 'connection' | 'person' | 'pins' | 'threads' | 'community';
export type Part = 'voice' | 'chat' | 'people';

export const panel = signal<Panel>('');
export const person = signal(''); // whose panel it is
export const part = signal<Part>('voice');
export const peopleOpen = signal(false); // in windows too narrow for three columns

let opener: Element | null = null;

export function show(p: Panel, who = '') {
  if (panel.value === p && person.value === who) { hide(); return; }
  opener ??= document.activeElement;
  person.value = who;
  panel.value = p;
}

/** Closes the panel; the focus returns to where it came from. */
export function hide() {
  if (!panel.value) return;
  panel.value = '';
  if (opener instanceof HTMLElement) opener.focus();
  opener = null;
}

// ── Questions ───────────────────────────────────────────────────────────────

/** Something that is not done before one has said yes. */
export interface Question { title: string; text: string; yes: string; quote?: string; act(): Promise<unknown> | void }
export const question = signal<Question | null>(null);

// ── Narrow windows ──────────────────────────────────────────────────────────

const phone = matchMedia('(max-width: 719px)');
export const narrow = signal(phone.matches);
phone.addEventListener('change', () => { narrow.value = phone.matches; });

/** The message that a thread is to begin on; none: it stands on its own. */
export const beginOn = signal<Message | null>(null);

/** A message to be brought before one's eyes. */
export const target = signal('');
