import { useComputed } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import * as api from '../api';
import { again, answered, discard, edit, editing, fetchAnswered, namesMe, pin, react, remove, replyTo, stopUpload } from '../chat';
import type { Line as Entry } from '../history';
import { fromWire, jumbo } from '../markdown';
import { bit } from '../permissions';
import { channelOf, complain, mayIn, me, nameOf, names, textChannel } from '../store';
import { Avatar } from './Avatar';
import { Files, Leaving } from './Files';
import { Bin, Branch, Close, Copy, Dots, Pen, Pin, Reply, Retry, SmilePlus } from './icons';
import { pick } from './Picker';
import { Hanging, mayBegin, openThread } from './Threads';
import { beginOn, panel, question, show, target } from './views';
import { focused, hovered } from './log';
import type { Reaction } from '../types';
import { Name, Words, inShort } from './Words';

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'short' });

/** Lines of one person within five minutes stand together. */
const together = (a: Entry | undefined, b: Entry) =>
  a?.type !== 6 && a?.type !== 18 && a?.author.id === b.author.id && a.author.username === b.author.username && !b.message_reference && Date.parse(b.timestamp) - Date.parse(a.timestamp) < 300_000;

/** What stays the same for a line from when it leaves on. */
export const keyOf = (m: Entry) => String(m.nonce ?? m.id);

export const focusComposer = () => document.querySelector<HTMLTextAreaElement>('.compose textarea')?.focus();

export function askToDelete(m: Entry) {
  question.value = { title: 'Delete this message?', text: 'Nobody can read it any more.', quote: inShort(m.content).slice(0, 200), yes: 'Delete message', act: () => remove(m) };
}

export function Line({ m, prior, isNew }: { m: Entry; prior?: Entry; isNew: boolean }) {
  const key = keyOf(m);
  const active = useComputed(() => hovered.value === key || focused.value === key);
  const changing = useComputed(() => editing.value === m.id);
  const newDay = !prior || day.format(new Date(prior.timestamp)) !== day.format(new Date(m.timestamp));
  const joined = !newDay && !isNew && together(prior, m);
  const name = nameOf(m.author.id, m.author);
  const at = new Date(m.timestamp);
  if (m.type === 6) {
    return <p class="event" data-key={key}><Pin /><span><strong>{name}</strong> pinned <button class="link" onClick={() => { target.value = m.message_reference?.message_id ?? ''; }}>a message</button>.</span><time dateTime={m.timestamp}>{clock.format(at)}</time></p>;
  }
  if (m.type === 18) {
    const t = channelOf(m.message_reference?.channel_id ?? '');
    return <p class="event" data-key={key}><Branch /><span><strong>{name}</strong> began a thread: {t ? <button class="link" aria-label={`Open thread ${t.name}`} onClick={() => openThread(t)}>{t.name}</button> : m.content}.</span><time dateTime={m.timestamp}>{clock.format(at)}</time></p>;
  }
  const label = `${name}: ${[inShort(m.content), ...(m.attachments ?? []).map((a) => a.filename), ...(m.state ? m.files ?? [] : []).map((f) => f.name)].filter(Boolean).join(', ')}`;
  return (
    <>
      {newDay && <p class="day"><span>{day.format(at)}</span></p>}
      {isNew && <p class="day new" id="new-from-here"><span>New</span></p>}
      <article class={'line' + (joined ? ' joined' : '') + (m.state ? ' ' + m.state : '') + (namesMe(m) ? ' to-me' : '')} data-key={key} data-id={m.id} tabIndex={-1}
        aria-label={label}>
        {m.message_reference?.message_id && <Answered m={m} />}
        {joined ? <time class="gutter" dateTime={m.timestamp} title={full.format(at)}>{clock.format(at)}</time> : <Avatar id={m.author.id} name={name} />}
        <div class="said">
          {!joined && <p class="by"><Name id={m.author.id} name={name} />{m.author.bot && <small class="tag">bot</small>}<time dateTime={m.timestamp} title={full.format(at)}>{clock.format(at)}</time></p>}
          {changing.value ? <Editor m={m} /> : m.content && (
            <div class={'text' + (jumbo(m.content) ? ' jumbo' : '')}>
              <Words s={m.content} />
              {m.edited_timestamp && <small class="edited" title={full.format(new Date(m.edited_timestamp))}>edited</small>}
            </div>
          )}
          {!!m.attachments?.length && <Files list={m.attachments} />}
          {m.state && !!m.files?.length && <Leaving files={m.files} progress={m.state === 'sending' ? m.progress ?? 0 : undefined} onStop={() => stopUpload(m)} />}
          {!!m.reactions?.length && <Reactions m={m} />}
          {!m.state && <Hanging id={m.id} />}
          {m.state === 'waiting' && <p class="soft small">Not sent yet: {m.problem} It is tried again by itself.</p>}
          {m.state === 'failed' && (
            <p class="problem">Not sent: {m.problem}
              <button class="quiet" onClick={() => again(m)}><Retry />Send again</button><button class="quiet" onClick={() => discard(m)}><Close />Discard</button>
            </p>
          )}
        </div>
        {!m.state && !changing.value && (active.value ? <Tools m={m} /> : <button class="icon more-tools" tabIndex={-1} aria-label={`Actions for message: ${inShort(m.content).slice(0, 40).trim()}`} onClick={(e) => openTools(e.currentTarget, key)}><Dots /></button>)}
      </article>
    </>
  );
}

/** Screen readers press this; for the others the tools come by pointer or focus. */
function openTools(button: HTMLElement, key: string) {
  const line = button.closest('article');
  focused.value = key;
  requestAnimationFrame(() => line?.querySelector<HTMLElement>('.tools button')?.focus());
}

function Tools({ m }: { m: Entry }) {
  const about = inShort(m.content).slice(0, 40).trim();
  const channel = textChannel.value;
  const own = m.author.id === me.value?.id;
  return (
    <div class="tools" role="group" aria-label="Message actions">
      {mayIn(channel, bit.ADD_REACTIONS) && <button class="icon" aria-label={`React to message: ${about}`} title="React" onClick={(e) => pick(e.currentTarget, (emoji) => void react(m, emoji, true))}><SmilePlus /></button>}
      {mayIn(channel, bit.SEND) && <button class="icon" aria-label={`Reply to message: ${about}`} title="Reply (R)" onClick={() => { replyTo(m.channel_id, m); focusComposer(); }}><Reply /></button>}
      {own && <button class="icon" aria-label={`Edit message: ${about}`} title="Edit (E)" onClick={() => { editing.value = m.id; }}><Pen /></button>}
      {mayBegin(channel) && !channelOf(m.id) && <button class="icon" aria-label={`Begin a thread on message: ${about}`} title="Begin a thread" onClick={() => { beginOn.value = m; if (panel.value !== 'threads') show('threads'); }}><Branch /></button>}
      {m.content && <button class="icon" aria-label={`Copy message: ${about}`} title="Copy" onClick={() => void navigator.clipboard.writeText(fromWire(m.content, names)).catch(complain)}><Copy /></button>}
      {mayIn(channel, bit.PIN) && <button class={'icon' + (m.pinned ? ' on' : '')} aria-label={`${m.pinned ? 'Unpin' : 'Pin'} message: ${about}`} title={m.pinned ? 'Unpin' : 'Pin'} onClick={() => void pin(m, !m.pinned).catch(complain)}><Pin /></button>}
      {(own || mayIn(channel, bit.MANAGE_MESSAGES)) && <button class="icon bad" aria-label={`Delete message: ${about}`} title="Delete (Del)" onClick={() => askToDelete(m)}><Bin /></button>}
    </div>
  );
}

/** What others put under a message, each once with how many. */
function Reactions({ m }: { m: Entry }) {
  return (
    <div class="reactions" role="group" aria-label="Reactions">
      {m.reactions!.map((r) => <Chip key={r.emoji.name} m={m} r={r} />)}
      {mayIn(textChannel.value, bit.ADD_REACTIONS) && <button class="chip add" aria-label="Add a reaction" onClick={(e) => pick(e.currentTarget, (emoji) => void react(m, emoji, true))}><SmilePlus /></button>}
    </div>
  );
}

function Chip({ m, r }: { m: Entry; r: Reaction }) {
  const [who, set] = useState('');
  const ask = () => {
    if (!who) api.reactors(m.channel_id, m.id, r.emoji.name).then((list) => set(list.map((u) => nameOf(u.id, u)).join(', ')), () => {});
  };
  useEffect(() => set(''), [r.count]);
  return (
    <button class="chip" aria-pressed={r.me} aria-label={`${r.emoji.name}, ${r.count}`} title={who} onPointerEnter={ask} onClick={() => void react(m, r.emoji.name, !r.me)}><span aria-hidden="true">{r.emoji.name}</span>{r.count}</button>
  );
}

/** The line above a reply: whom it answers, and what. */
function Answered({ m }: { m: Entry }) {
  const a = answered(m);
  useEffect(() => fetchAnswered(m), [m.message_reference?.message_id]);
  if (!a) return <p class="answered soft"><Reply />{a === null ? 'The message it answers was deleted.' : 'An older message'}</p>;
  const who = nameOf(a.author.id, a.author);
  const words = inShort(a.content).slice(0, 80).trim();
  return (
    <button class="answered" aria-label={`In reply to ${who}: ${words}`} onClick={() => { target.value = a.id; }}>
      <Reply /><Avatar id={a.author.id} name={who} /><Name id={a.author.id} name={who} />{' '}<span data-drawn={words ? undefined : 'a message without words'}>{words}</span>
    </button>
  );
}

function Editor({ m }: { m: Entry }) {
  const [text, set] = useState(() => fromWire(m.content, names));
  const [problem, setProblem] = useState('');
  const box = useRef<HTMLTextAreaElement>(null);
  const done = () => { editing.value = ''; focusComposer(); };
  useEffect(() => {
    box.current?.focus();
    box.current?.setSelectionRange(text.length, text.length);
    box.current?.scrollIntoView({ block: 'nearest' });
  }, []);
  const save = () => {
    if (!text.trim()) { done(); askToDelete(m); return; }
    edit(m, text).catch((e: Error) => { editing.value = m.id; setProblem(e.message); });
    done();
  };
  return (
    <form class="editor" onSubmit={(e) => { e.preventDefault(); save(); }}>
      <textarea ref={box} rows={Math.min(10, text.split('\n').length)} maxLength={2000} value={text} aria-label="Edit message" onInput={(e) => set(e.currentTarget.value)}
        onKeyDown={(e) => {
          if (e.key === 'Escape') { e.stopPropagation(); done(); }
          if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) { e.preventDefault(); save(); }
        }} />
      <p class="small soft"><button type="button" class="link" onClick={done}>Cancel</button> with Escape, <button class="link">Save</button> with Enter</p>
      {problem && <p class="problem" role="alert">{problem}</p>}
    </form>
  );
}
