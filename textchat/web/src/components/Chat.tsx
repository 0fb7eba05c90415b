import { useSignalEffect } from '@preact/signals';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { atEnd, chatShown, dividers, editing, histories, load, loadAround, loadNewer, loadOlder, newest, replyTo, typists, unloaded } from '../chat';
import type { Line as Entry } from '../history';
import { bit } from '../permissions';
import { mayIn, me, nameOf, online, textChannel, toast } from '../store';
import { byId, isThread } from '../types';
import { Composer } from './Composer';
import { Branch, Down, Hash, People, Pin, Retry } from './icons';
import { Line, askToDelete, focusComposer, keyOf } from './Line';
import { focused, hovered } from './log';
import { ThreadTools } from './Threads';
import { beginOn, narrow, panel, part, peopleOpen, show, target } from './views';
import { inShort } from './Words';

const NEAR = 60; // pixels from the end that still count as being there
const AHEAD = 900; // pixels before either end of the window at which more is fetched

const lineOf = (e: EventTarget | null) => (e instanceof Element ? e.closest<HTMLElement>('article[data-key]') : null);

/** The first line that is seen, and where it ends: its head may go when another comes before it. */
function anchorOf(box: HTMLElement): { key: string; end: number } | undefined {
  const edge = box.getBoundingClientRect().top;
  for (const a of box.querySelectorAll<HTMLElement>('article[data-key]')) {
    const r = a.getBoundingClientRect();
    if (r.bottom > edge) return { key: a.dataset.key!, end: r.bottom - edge };
  }
  return undefined;
}

export function Chat() {
  const channel = textChannel.value;
  const id = channel?.id ?? '';
  const h = histories.value[id];
  const box = useRef<HTMLDivElement>(null);
  const seen = useRef({ h, id });
  // Read while the old lines still stand: where one looks stays where it is when lines come or go around it.
  const anchor = box.current && seen.current.h !== h && seen.current.id === id && !atEnd.peek() ? anchorOf(box.current) : undefined;
  const typing = typists.value.filter((t) => t.channel === id).map((t) => nameOf(t.user));
  chatShown.value = !narrow.value || part.value === 'chat';

  const last = useRef(0); // where the scroll stood when we last looked
  const toEnd = () => {
    const b = box.current;
    if (!b) return;
    b.scrollTop = b.scrollHeight;
    last.current = b.scrollTop;
  };
  // Whoever has just scrolled up stays there, though the event that tells of it is still to come. When there is less to scroll the end comes up, too.
  const follow = () => {
    const b = box.current!;
    if (b.scrollTop < last.current - 1 && b.scrollHeight - b.scrollTop - b.clientHeight >= NEAR) atEnd.value = false;
    else toEnd();
  };
  useLayoutEffect(() => {
    const b = box.current!;
    const other = seen.current.id !== id;
    if (other) { atEnd.value = !h?.newer; hovered.value = focused.value = ''; }
    seen.current = { h, id };
    if (atEnd.peek() && !h?.newer) { if (other) toEnd(); else follow(); }
    else if (anchor) {
      const a = b.querySelector<HTMLElement>(`article[data-key="${anchor.key}"]`);
      if (a) b.scrollTop += a.getBoundingClientRect().bottom - b.getBoundingClientRect().top - anchor.end;
    }
    if (h?.older && b.clientHeight && b.scrollHeight <= b.clientHeight) void loadOlder(id);
  }, [h, id, typing.length, narrow.value, part.value]);
  useEffect(() => {
    const o = new ResizeObserver(() => { if (atEnd.peek()) follow(); });
    o.observe(box.current!);
    return () => o.disconnect();
  }, []);

  // What one asked to see is brought into sight, fetched when it is far away.
  const sought = useRef('');
  useSignalEffect(() => {
    const want = target.value;
    const here = histories.value[textChannel.value?.id ?? ''];
    if (!want || !here) return;
    if (!here.lines.some((l) => l.id === want)) {
      if (sought.current === want) return;
      sought.current = want;
      void loadAround(textChannel.value!.id, want).then(() => {
        sought.current = '';
        if (target.peek() === want && !histories.peek()[textChannel.value?.id ?? '']?.lines.some((l) => l.id === want)) { target.value = ''; toast('That message is not there any more.'); }
      });
      return;
    }
    requestAnimationFrame(() => {
      const a = box.current?.querySelector<HTMLElement>(`article[data-id="${want}"]`);
      if (!a) return;
      target.value = '';
      atEnd.value = false;
      a.scrollIntoView({ block: 'center' });
      a.focus({ preventScroll: true });
      a.classList.add('flash');
      setTimeout(() => a.classList.remove('flash'), 2000);
    });
  });

  const scrolled = () => {
    const b = box.current!;
    if (!b.clientHeight) return; // not shown now
    last.current = b.scrollTop;
    const below = b.scrollHeight - b.scrollTop - b.clientHeight;
    atEnd.value = below < NEAR && !h?.newer;
    if (b.scrollTop < AHEAD && h?.older) void loadOlder(id);
    if (below < AHEAD && h?.newer) void loadNewer(id);
  };

  const keys = (e: KeyboardEvent) => {
    const t = e.target as HTMLElement;
    const line = lineOf(t);
    if (e.ctrlKey || e.metaKey || e.altKey || (t !== box.current && t !== line)) return;
    const all = [...box.current!.querySelectorAll<HTMLElement>('article[data-key]')];
    const at = line ? all.indexOf(line) : all.length;
    const go = (to: HTMLElement | undefined) => { if (to) { e.preventDefault(); to.focus(); to.scrollIntoView({ block: 'nearest' }); } };
    const m = h?.lines.find((l) => keyOf(l) === line?.dataset.key);
    switch (e.key) {
      case 'ArrowUp': return go(all[at - 1]);
      case 'ArrowDown': return line ? go(all[at + 1]) : undefined;
      case 'Home': return go(all[0]);
      case 'End': return go(all.at(-1));
      case 'Escape': if (line) { e.stopPropagation(); focusComposer(); } return;
    }
    if (!m || m.state) return;
    const own = m.author.id === me.value?.id;
    if (e.key === 'r' && mayIn(channel, bit.SEND)) { e.preventDefault(); replyTo(id, m); focusComposer(); }
    if (e.key === 'e' && own) { e.preventDefault(); editing.value = m.id; }
    if (e.key === 'Delete' && (own || mayIn(channel, bit.MANAGE_MESSAGES))) askToDelete(m);
  };

  const lines = h?.newer ? h.lines.filter((l) => !l.state) : h?.lines ?? [];
  const divider = dividers.value[id];
  const firstNew = divider === undefined ? undefined : lines.find((l) => !l.state && byId(l.id, divider) > 0 && l.author.id !== me.value?.id);
  const above = firstNew !== undefined && firstNew === lines[0] && !!h?.older; // what is new begins before the window
  return (
    <main class="chat" id="chat">
      <header class="head">
        <h2 title={channel?.name}>{isThread(channel) ? <Branch /> : <Hash />}<span>{channel?.name ?? 'No text channel'}</span></h2>
        {channel?.topic && <p class="topic" title={channel.topic}>{channel.topic}</p>}
        {channel && isThread(channel) && <ThreadTools thread={channel} />}
        <button class="icon" aria-label="Threads" title="Threads" aria-expanded={panel.value === 'threads'} onClick={() => { beginOn.value = null; show('threads'); }}><Branch /></button>
        <button class="icon" aria-label="Pinned messages" title="Pinned messages" aria-expanded={panel.value === 'pins'} onClick={() => show('pins')}><Pin /></button>
        <button class="icon only-medium" aria-label="Members" title="Members" aria-expanded={peopleOpen.value} onClick={() => { peopleOpen.value = !peopleOpen.value; }}><People /></button>
      </header>
      <div class="scroll">
        <div class="lines" ref={box} onScroll={scrolled} onKeyDown={keys} role="log" aria-live="off" aria-label={`Messages in ${channel?.name ?? ''}`} aria-busy={!h} tabIndex={0}
          onPointerOver={(e) => { if (e.pointerType === 'mouse') hovered.value = lineOf(e.target)?.dataset.key ?? ''; }} onPointerLeave={() => { hovered.value = ''; }}
          onFocusIn={(e) => { focused.value = lineOf(e.target)?.dataset.key ?? ''; }} onFocusOut={(e) => { if (!box.current?.contains(e.relatedTarget as Node)) focused.value = ''; }}>
          {h?.older ? <p class="begin soft" aria-hidden="true"><i class="spin" /></p>
            : h && !unloaded.value.has(id) && <p class="begin"><span class="ring">{isThread(channel) ? <Branch /> : <Hash />}</span><strong>{channel?.name}</strong><span class="soft">{lines.length ? 'This is where it began.' : 'Nothing was written here yet. Say something.'}</span></p>}
          {unloaded.value.has(id) && <p class="begin"><span class="problem">The messages could not be fetched.</span><button class="quiet" onClick={() => void load(id)}><Retry />Try again</button></p>}
          {lines.map((m, i) => <Line key={keyOf(m)} m={m} prior={lines[i - 1]} isNew={m === firstNew && !above} />)}
        </div>
        {above && <button class="jump top" onClick={() => { target.value = divider!; }}>Jump to where the new begins</button>}
        {h && lines.length > 0 && !atEnd.value && (
          <button class="jump" onClick={() => { atEnd.value = true; if (h.newer) void load(id).then(toEnd); else toEnd(); }}><Down />{h.newer || byId(newest.value[id] ?? '0', lines.at(-1)!.id) > 0 ? 'Newer messages' : 'To the newest message'}</button>
        )}
      </div>
      <p class="typing" aria-live="polite">{typing.length === 0 ? '' : typing.length > 3 ? 'Several people are writing…' : `${typing.join(', ')} ${typing.length === 1 ? 'is' : 'are'} writing…`}</p>
      <Announcer lines={lines} id={id} />
      {channel && (mayIn(channel, bit.SEND) && !channel.thread_metadata?.archived ? <Composer key={id} channel={channel} /> : <p class="compose mute soft">{channel.thread_metadata?.archived ? 'This thread is closed.' : 'You may read here, but not write.'}</p>)}
      {!online.value && <span class="hush">Connection lost</span>}
    </main>
  );
}

/** Tells screen readers what came while one looks at the end; not what is fetched while one reads back. */
function Announcer({ lines, id }: { lines: readonly Entry[]; id: string }) {
  const last = lines.at(-1);
  const was = useRef({ id, last: last?.id });
  const said = useRef('');
  if (was.current.id !== id) said.current = '';
  else if (last && was.current.last !== undefined && last.id !== was.current.last && atEnd.peek() && !last.state && last.author.id !== me.value?.id) said.current = `${nameOf(last.author.id, last.author)}: ${inShort(last.content)}`;
  was.current = { id, last: last?.id };
  return <p class="hush" aria-live="polite">{said.current}</p>;
}
