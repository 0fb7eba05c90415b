// What the browser remembers between visits.
import { effect, signal } from '@preact/signals';
import type { MicSettings } from './audio';

export interface Settings extends MicSettings {
  sink: string;
  pushToTalk: boolean;
  talkKey: string; // KeyboardEvent.code
  theme: 'system' | 'dark' | 'light';
  chimes: boolean;
  volumes: Record<string, number>; // user id → 0..2; absent is 1
  emoji: string[]; // picked last, newest first
}

const initial: Settings = {
  device: '', sink: '', echoCancellation: true, noiseSuppression: true, autoGainControl: true,
  pushToTalk: false, talkKey: 'Space', theme: 'system', chimes: true, volumes: {}, emoji: [],
};

function stored<T extends object>(key: string, otherwise: T): T {
  try {
    const v = JSON.parse(localStorage.getItem(key) ?? 'null');
    return v && typeof v === 'object' ? { ...otherwise, ...v } : otherwise;
  } catch { return otherwise; }
}

function keep(key: string, value: string | null) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch { /* private windows may refuse: then nothing is remembered */ }
}

export const settings = signal<Settings>(stored('voicefleet.settings', initial));
export const change = (part: Partial<Settings>) => { settings.value = { ...settings.value, ...part }; };
effect(() => keep('voicefleet.settings', JSON.stringify(settings.value)));
effect(() => { document.documentElement.dataset.theme = settings.value.theme; });

export const volumeOf = (user: string) => settings.value.volumes[user] ?? 1;

export const remembered = () => { try { return localStorage.getItem('voicefleet.token') ?? ''; } catch { return ''; } };
export const remember = (token: string) => keep('voicefleet.token', token || null);

// ── Where one was ───────────────────────────────────────────────────────────

/** Per community, the text channel that was looked at last; and the community. */
export interface Place { guild: string; channels: Record<string, string> }
export const place = () => stored<Place>('voicefleet.place', { guild: '', channels: {} });
export const keepPlace = (p: Place) => keep('voicefleet.place', JSON.stringify(p));

/** The newest message read in each channel, by this account in this browser. */
export const marks = (user: string) => stored<Record<string, string>>(`voicefleet.read.${user}`, {});
export const keepMarks = (user: string, m: Record<string, string>) => keep(`voicefleet.read.${user}`, JSON.stringify(m));

/** The call this tab was in, through a reload of it; and whether it was a moment ago. */
export function lastCall(): { channel: string; justNow: boolean } {
  try {
    const [channel = '', at = '0'] = (sessionStorage.getItem('voicefleet.call') ?? '').split(' ');
    return { channel, justNow: Date.now() - Number(at) < 30_000 };
  } catch { return { channel: '', justNow: false }; }
}
export function keepCall(channel: string) {
  try { if (channel) sessionStorage.setItem('voicefleet.call', `${channel} ${Date.now()}`); else sessionStorage.removeItem('voicefleet.call'); } catch { /* as above */ }
}
