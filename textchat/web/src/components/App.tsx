import { useLayoutEffect, useRef } from 'preact/hooks';
import { callChannel } from '../calls';
import { link, rejoin, rejoinable, stayOut } from '../session';
import { anyUnread } from '../chat';
import { channelOf, dismiss, guild, me, online, ready, toasts, token } from '../store';
import { Ask } from './Ask';
import { Chat } from './Chat';
import { Community } from './Community';
import { Connection } from './Connection';
import { Dock } from './Dock';
import { Close, Mark, People as PeopleIcon, Speaker, Talk } from './icons';
import { People } from './People';
import { Person } from './Person';
import { Picker, picking } from './Picker';
import { Pins } from './Pins';
import { Rooms } from './Rooms';
import { Settings } from './Settings';
import { Stage } from './Stage';
import { Threads } from './Threads';
import { beginOn, hide, panel, part, peopleOpen, person, question, type Part } from './views';
import { Homeless, Welcome } from './Welcome';

addEventListener('keydown', (e) => { if (e.key === 'Escape') { hide(); peopleOpen.value = false; } });

export function App() {
  return (
    <>
      {token.value && !link.value ? <Inside /> : <Welcome />}
      <Toasts />
    </>
  );
}

/** Notes lie above all, a dialog included: the one that was opened last is the uppermost. */
function Toasts() {
  const box = useRef<HTMLDivElement>(null);
  const list = toasts.value;
  useLayoutEffect(() => {
    const b = box.current!;
    if (!b.showPopover) return;
    if (b.matches(':popover-open')) b.hidePopover();
    if (list.length) b.showPopover();
  }, [list]);
  return (
    <div class="toasts" role="alert" popover="manual" ref={box}>
      {list.map((t) => (
        <p key={t.id}><span>{t.text}</span><button class="icon" aria-label="Dismiss" onClick={() => dismiss(t.id)}><Close /></button></p>
      ))}
    </div>
  );
}

function Inside() {
  if (!guild.value || !me.value) {
    return ready.value ? <Homeless /> : <main class="blank"><div class="sea" aria-hidden="true" /><p role="status"><Mark />{online.value ? 'Coming in…' : 'Connecting…'}</p></main>;
  }
  return (
    <div class={`house part-${part.value}${callChannel.value ? ' in-call' : ''}${peopleOpen.value ? ' with-people' : ''}`}>
      <a class="skip" href="#chat" onClick={(e) => { e.preventDefault(); part.value = 'chat'; requestAnimationFrame(() => document.querySelector<HTMLElement>('.compose textarea, .lines')?.focus()); }}>Skip to the messages</a>
      <Rooms />
      {callChannel.value && <Stage />}
      {callChannel.value && <Dock />}
      <Chat />
      <People />
      <Parts />
      <p class="lost" role="status">{online.value ? '' : 'Connection lost. It comes back by itself.'}</p>
      {!callChannel.value && channelOf(rejoinable.value) && (
        <p class="back" role="status">
          <span>You were in <strong>{channelOf(rejoinable.value)!.name}</strong>.</span>
          <button class="quiet" onClick={rejoin}><Speaker />Rejoin call</button>
          <button class="icon" aria-label="Do not rejoin" onClick={stayOut}><Close /></button>
        </p>
      )}
      {picking.value && <Picker />}
      {panel.value === 'pins' && <Pins />}
      {panel.value === 'threads' && <Threads key={beginOn.value?.id ?? ''} />}
      {panel.value === 'community' && <Community />}
      {panel.value === 'settings' && <Settings />}
      {panel.value === 'connection' && <Connection />}
      {question.value && <Ask />}
      {panel.value === 'person' && <Person key={person.value} id={person.value} />}
    </div>
  );
}

/** The parts of the page that a phone shows one at a time. */
function Parts() {
  const one = (p: Part, label: string, Icon: () => preact.JSX.Element, dot = false) => (
    <button aria-current={part.value === p ? 'page' : undefined} onClick={() => { part.value = p; }}>
      <Icon /><span>{label}</span>{dot && <i class="dot" />}
    </button>
  );
  return (
    <nav class="parts" aria-label="Parts of the page">
      {one('voice', 'Voice', Speaker)}
      {one('chat', 'Chat', Talk, anyUnread.value)}
      {one('people', 'People', PeopleIcon)}
    </nav>
  );
}
