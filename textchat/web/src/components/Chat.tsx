import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { complain, displayName, guild, lines, loadOlder, say, textChannel, type Line } from '../store';
import { toggle } from './App';
import { Avatar } from './Avatar';
import { Hash, Menu, People, Send } from './icons';

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });

/** Lines of one person within five minutes stand together. */
function together(a: Line | undefined, b: Line) {
  return a?.author.id === b.author.id && Date.parse(b.timestamp) - Date.parse(a.timestamp) < 300_000;
}

const links = /(https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]])/g;

/** Text with its links; nothing in it is ever read as markup. */
function Text({ s }: { s: string }) {
  return <>{s.split(links).map((part, i) => (i % 2 ? <a href={part} target="_blank" rel="noopener noreferrer nofollow">{part}</a> : part))}</>;
}

export function Chat() {
  const id = textChannel.value;
  const channel = guild.value?.channels.find((c) => c.id === id);
  const list = lines.value[id] ?? [];
  const box = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const [draft, setDraft] = useState('');
  useEffect(() => { atEnd.current = true; }, [id]);
  useLayoutEffect(() => { if (atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight; }, [list.length, id]);
  const scrolled = () => {
    const b = box.current!;
    atEnd.current = b.scrollHeight - b.scrollTop - b.clientHeight < 40;
    if (b.scrollTop === 0 && list.length >= 50) {
      const before = b.scrollHeight;
      loadOlder(id).then(() => { b.scrollTop = b.scrollHeight - before; }, complain);
    }
  };
  const submit = (e: Event) => {
    e.preventDefault();
    const text = draft.trim();
    if (!text || !id) return;
    setDraft('');
    atEnd.current = true;
    void say(id, text);
  };
  return (
    <main class="chat">
      <header class="head">
        <button class="icon only-narrow" aria-label="Channels" onClick={() => toggle('channels')}><Menu /></button>
        <h2><Hash />{channel?.name}</h2>
        <button class="icon" aria-label="Members" title="Members" onClick={() => toggle('people')}><People /></button>
      </header>
      <div class="lines" ref={box} onScroll={scrolled} role="log" aria-label={`Messages in ${channel?.name}`} tabIndex={0}>
        {list.length === 0 && <p class="empty">Nothing was written here yet. Say hello.</p>}
        {list.map((m, i) => {
          const joined = together(list[i - 1], m);
          const newDay = i === 0 || day.format(new Date(list[i - 1].timestamp)) !== day.format(new Date(m.timestamp));
          const name = displayName(m.author.id, m.author);
          return (
            <>
              {newDay && <p class="day">{day.format(new Date(m.timestamp))}</p>}
              <article key={m.id} class={'line' + (joined && !newDay ? ' joined' : '') + (m.state ? ' ' + m.state : '')} aria-label={`${name}: ${m.content}`}>
                {joined && !newDay ? <span class="gutter" /> : <Avatar id={m.author.id} name={name} />}
                <div>
                  {!(joined && !newDay) && <p class="by"><strong>{name}</strong><time dateTime={m.timestamp}>{clock.format(new Date(m.timestamp))}</time></p>}
                  <p class="text"><Text s={m.content} />{m.edited_timestamp && <small> (edited)</small>}{m.state === 'failed' && <small class="problem"> not sent</small>}</p>
                </div>
              </article>
            </>
          );
        })}
      </div>
      <form class="compose" onSubmit={submit}>
        <textarea rows={1} maxLength={2000} value={draft} aria-label={`Message ${channel?.name ?? ''}`} placeholder={`Message ${channel?.name ?? ''}`}
          onInput={(e) => setDraft(e.currentTarget.value)}
          onKeyDown={(e) => { if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) submit(e); }} />
        <button class="icon" aria-label="Send" disabled={!draft.trim()}><Send /></button>
      </form>
    </main>
  );
}
