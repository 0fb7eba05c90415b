import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import * as api from '../api';
import { complete, lines, loadOlder, nowTyping, say, typists, type Line } from '../chat';
import { MANAGE_MESSAGES, complain, may, me, nameOf, textChannel } from '../store';
import { pieces } from '../text';
import { Avatar } from './Avatar';
import { Bin, Hash, People, Retry, Send } from './icons';
import { peopleOpen } from './views';

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'short' });

const NEAR = 60; // pixels from the end that still count as being there

/** Lines of one person within five minutes stand together. */
const together = (a: Line | undefined, b: Line) => a?.author.id === b.author.id && Date.parse(b.timestamp) - Date.parse(a.timestamp) < 300_000;

const Text = ({ s }: { s: string }) => (
  <>{pieces(s).map((p) => (p.href ? <a href={p.href} target="_blank" rel="noopener noreferrer nofollow">{p.text}</a> : p.text))}</>
);

function Entry({ m, before }: { m: Line; before?: Line }) {
  const newDay = !before || day.format(new Date(before.timestamp)) !== day.format(new Date(m.timestamp));
  const joined = !newDay && together(before, m);
  const name = nameOf(m.author.id, m.author);
  const own = m.author.id === me.value?.id;
  return (
    <>
      {newDay && <p class="day"><span>{day.format(new Date(m.timestamp))}</span></p>}
      <article class={'line' + (joined ? ' joined' : '') + (m.state ? ' ' + m.state : '')} aria-label={`${name}: ${m.content}`}>
        {joined ? <time class="gutter" dateTime={m.timestamp}>{clock.format(new Date(m.timestamp))}</time> : <Avatar id={m.author.id} name={name} />}
        <div>
          {!joined && <p class="by"><strong>{name}</strong><time dateTime={m.timestamp} title={full.format(new Date(m.timestamp))}>{clock.format(new Date(m.timestamp))}</time></p>}
          <p class="text"><Text s={m.content} />{m.edited_timestamp && <small> edited</small>}</p>
          {m.state === 'failed' && <p class="problem">Not sent. <button class="quiet" onClick={() => void say(m.channel_id, m.content, m)}><Retry />Send again</button></p>}
        </div>
        {!m.state && (own || may(MANAGE_MESSAGES)) && (
          <button class="icon delete" aria-label={`Delete message: ${m.content.slice(0, 40)}`} title="Delete" onClick={() => api.unsay(m.channel_id, m.id).catch(complain)}><Bin /></button>
        )}
      </article>
    </>
  );
}

export function Chat() {
  const channel = textChannel.value;
  const id = channel?.id ?? '';
  const list = lines.value[id] ?? [];
  const box = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const [drafts, setDrafts] = useState<Record<string, string>>({});
  const draft = drafts[id] ?? '';
  const typing = typists.value.filter((t) => t.channel === id).map((t) => nameOf(t.user));

  useEffect(() => { atEnd.current = true; }, [id]);
  useLayoutEffect(() => { if (atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight; }, [list.length, id, typing.length]);
  useEffect(() => {
    const o = new ResizeObserver(() => { if (atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight; });
    if (box.current) o.observe(box.current);
    return () => o.disconnect();
  }, []);

  const scrolled = () => {
    const b = box.current!;
    atEnd.current = b.scrollHeight - b.scrollTop - b.clientHeight < NEAR;
    if (b.scrollTop < 200 && list.length && !complete.value.has(id)) {
      const before = b.scrollHeight;
      void loadOlder(id).then(() => requestAnimationFrame(() => { if (!atEnd.current) b.scrollTop += b.scrollHeight - before; }));
    }
  };
  const submit = (e: Event) => {
    e.preventDefault();
    const text = draft.trim();
    if (!text || !id) return;
    setDrafts({ ...drafts, [id]: '' });
    atEnd.current = true;
    void say(id, text);
  };

  return (
    <main class="chat">
      <header class="head">
        <h2><Hash />{channel?.name ?? 'No text channel'}</h2>
        <button class="icon only-medium" aria-label="Members" title="Members" aria-expanded={peopleOpen.value} onClick={() => { peopleOpen.value = !peopleOpen.value; }}><People /></button>
      </header>
      <div class="lines" ref={box} onScroll={scrolled} role="log" aria-label={`Messages in ${channel?.name ?? ''}`} tabIndex={0}>
        {list.length === 0 ? <p class="empty">{complete.value.has(id) ? 'Nothing was written here yet.' : ''}</p>
          : list.map((m, i) => <Entry key={m.nonce ?? m.id} m={m} before={list[i - 1]} />)}
      </div>
      <p class="typing" aria-live="polite">{typing.length === 0 ? '' : typing.length > 3 ? 'Several people are writing…' : `${typing.join(', ')} ${typing.length === 1 ? 'is' : 'are'} writing…`}</p>
      {channel && (
        <form class="compose" onSubmit={submit}>
          <textarea rows={Math.min(8, draft.split('\n').length)} maxLength={2000} value={draft} aria-label={`Message ${channel.name}`} placeholder={`Message ${channel.name}`}
            onInput={(e) => { setDrafts({ ...drafts, [id]: e.currentTarget.value }); if (e.currentTarget.value.trim()) nowTyping(id); }}
            onKeyDown={(e) => { if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) submit(e); }} />
          <button class="icon" aria-label="Send message" disabled={!draft.trim()}><Send /></button>
        </form>
      )}
    </main>
  );
}
