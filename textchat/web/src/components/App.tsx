import { computed, signal } from '@preact/signals';
import { guild, online, toasts, token } from '../store';
import { CallBar } from './CallBar';
import { Chat } from './Chat';
import { Connection } from './Connection';
import { People } from './People';
import { Settings } from './Settings';
import { Sidebar } from './Sidebar';
import { Welcome } from './Welcome';

export type Drawer = '' | 'settings' | 'connection' | 'people' | 'channels';
export const drawer = signal<Drawer>('');
export const toggle = (d: Drawer) => { drawer.value = drawer.value === d ? '' : d; };
const inside = computed(() => token.value !== '');

addEventListener('keydown', (e) => { if (e.key === 'Escape') drawer.value = ''; });

export function App() {
  return (
    <>
      {inside.value ? <Inside /> : <Welcome />}
      <div class="toasts" role="status" aria-live="polite">
        {toasts.value.map((t) => <p key={t.id}>{t.text}</p>)}
      </div>
    </>
  );
}

function Inside() {
  if (!guild.value) return <main class="blank"><p role="status">{online.value ? 'You are in no community yet: open an invite link.' : 'Connecting…'}</p></main>;
  return (
    <div class={'house ' + (drawer.value && 'show-' + drawer.value)}>
      {!online.value && <p class="lost" role="status">Connection lost. Coming back by itself…</p>}
      <nav class="side" aria-label="Channels">
        <Sidebar />
        <CallBar />
      </nav>
      <Chat />
      <People />
      {drawer.value === 'settings' && <Settings />}
      {drawer.value === 'connection' && <Connection />}
    </div>
  );
}
