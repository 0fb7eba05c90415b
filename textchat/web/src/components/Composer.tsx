import { useEffect, useRef, useState } from 'preact/hooks';
import { chosenFiles, drafts, editing, historyOf, nowTyping, replyTo, replying, say, setDraft } from '../chat';
import { naming } from '../markdown';
import { bit } from '../permissions';
import { house, mayIn, me, nameOf, textChannels, toast } from '../store';
import type { Channel } from '../types';
import { Avatar } from './Avatar';
import { Chosen } from './Files';
import { Clip, Close, Hash, Reply, Send, Shield, Smile } from './icons';
import { pick } from './Picker';
import { inShort } from './Words';

const LONGEST = 2000; // characters of a message
const MOST = 8; // names offered at a time
const FILES = 10; // of a message

interface Offer { key: string; label: string; also: string; icon: preact.JSX.Element }

/** Who or what begins with what was written after @ or #. */
function offers(query: string, channel: Channel): Offer[] {
  const h = house.value!;
  const q = query.slice(1);
  const fits = (...names: string[]) => names.some((n) => n.toLowerCase().startsWith(q) || n.toLowerCase().includes(' ' + q));
  if (query[0] === '#') return textChannels.value.filter((c) => fits(c.name)).slice(0, MOST).map((c) => ({ key: c.id, label: '#' + c.name, also: c.topic ?? '', icon: <Hash /> }));
  const people = [...h.members.values()].filter((m) => fits(nameOf(m.user.id), m.user.guest ? '' : m.user.username))
    .sort((a, b) => nameOf(a.user.id).localeCompare(nameOf(b.user.id))).slice(0, MOST)
    .map((m) => ({ key: m.user.id, label: '@' + nameOf(m.user.id), also: m.user.guest ? 'guest' : m.user.username, icon: <Avatar id={m.user.id} name={nameOf(m.user.id)} /> }));
  const roles = h.guild.roles.filter((r) => r.id !== h.guild.id && fits(r.name) && (r.mentionable || mayIn(channel, bit.MENTION_EVERYONE))).map((r) => ({ key: r.id, label: '@' + r.name, also: 'role', icon: <Shield /> }));
  const all = mayIn(channel, bit.MENTION_EVERYONE) && fits('everyone') && q ? [{ key: 'everyone', label: '@everyone', also: 'all members', icon: <Shield /> }] : [];
  return [...people, ...roles, ...all].slice(0, MOST);
}

export function Composer({ channel }: { channel: Channel }) {
  const id = channel.id;
  const draft = drafts.value[id] ?? '';
  const reply = replying.value[id];
  const box = useRef<HTMLTextAreaElement>(null);
  const [caret, setCaret] = useState(0);
  const [chosen, choose] = useState(0);
  const [dragged, setDragged] = useState(false);
  const [shut, setShut] = useState(-1); // the place of a name one wants no offers for
  const named = naming(draft, caret);
  const list = named && named.from !== shut ? offers(named.query, channel) : [];
  const at = Math.min(chosen, list.length - 1);
  useEffect(() => choose(0), [named?.query]);

  const files = chosenFiles.value[id] ?? [];
  const setFiles = (list: readonly File[]) => { chosenFiles.value = { ...chosenFiles.value, [id]: list }; };
  const attach = (list: FileList | null | undefined) => {
    const all = [...files, ...(list ?? [])];
    if (all.length > FILES) toast(`A message takes ${FILES} files.`);
    setFiles(all.slice(0, FILES));
    box.current?.focus();
  };
  const mayAttach = mayIn(channel, bit.ATTACH);
  useEffect(() => {
    if (!mayAttach) return;
    const over = (e: DragEvent) => { if (e.dataTransfer?.types.includes('Files')) { e.preventDefault(); setDragged(true); } };
    const out = (e: DragEvent) => { if (!e.relatedTarget) setDragged(false); };
    const drop = (e: DragEvent) => { if (e.dataTransfer?.files.length) { e.preventDefault(); setDragged(false); attach(e.dataTransfer.files); } };
    addEventListener('dragover', over);
    addEventListener('dragleave', out);
    addEventListener('drop', drop);
    return () => { removeEventListener('dragover', over); removeEventListener('dragleave', out); removeEventListener('drop', drop); };
  });

  const insert = (s: string) => {
    const b = box.current!;
    const at = b.selectionStart;
    setDraft(id, draft.slice(0, at) + s + draft.slice(b.selectionEnd));
    requestAnimationFrame(() => { b.focus(); b.setSelectionRange(at + s.length, at + s.length); });
  };
  const submit = () => {
    const text = draft.trim();
    if ((!text && !files.length) || [...text].length > LONGEST) return;
    setDraft(id, '');
    setFiles([]);
    setShut(-1);
    void say(id, text, files);
  };
  const take = (o: Offer) => {
    const b = box.current!;
    const text = draft.slice(0, named!.from) + o.label + ' ' + draft.slice(caret).replace(/^ /, '');
    const to = named!.from + o.label.length + 1;
    setDraft(id, text);
    setCaret(to);
    b.focus();
    requestAnimationFrame(() => b.setSelectionRange(to, to));
  };
  const keys = (e: KeyboardEvent) => {
    if (e.isComposing) return;
    if (list.length) {
      const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
      if (step) { e.preventDefault(); choose((at + step + list.length) % list.length); return; }
      if ((e.key === 'Enter' && !e.shiftKey) || e.key === 'Tab') { e.preventDefault(); take(list[at]); return; }
      if (e.key === 'Escape') { e.stopPropagation(); setShut(named!.from); return; }
    }
    if (e.key === 'Enter' && !e.shiftKey) { e.preventDefault(); submit(); }
    if (e.key === 'Escape' && reply) { e.stopPropagation(); replyTo(id, null); }
    if (e.key === 'ArrowUp' && !draft) {
      const mine = historyOf(id)?.lines.findLast((l) => !l.state && l.author.id === me.value?.id);
      if (mine) { e.preventDefault(); editing.value = mine.id; }
    }
  };
  const moved = () => { if (box.current) setCaret(box.current.selectionStart); };
  const left = LONGEST - [...draft].length;
  return (
    <form class={'compose' + (dragged ? ' dragged' : '')} onSubmit={(e) => { e.preventDefault(); submit(); }}>
      {list.length > 0 && (
        <ul class="offers" role="listbox" id="offers" aria-label="Names">
          {list.map((o, i) => (
            <li key={o.key} id={`offer-${i}`} role="option" aria-selected={i === at} onPointerDown={(e) => { e.preventDefault(); take(o); }} onPointerMove={() => choose(i)}>
              {o.icon}<strong>{o.label.slice(1)}</strong><small>{o.also}</small>
            </li>
          ))}
        </ul>
      )}
      {reply && (
        <p class="replying">
          <Reply /><span>Replying to <strong>{nameOf(reply.author.id, reply.author)}</strong> <small>{inShort(reply.content).slice(0, 100)}</small></span>
          <button type="button" class="icon" aria-label="Stop replying" onClick={() => { replyTo(id, null); box.current?.focus(); }}><Close /></button>
        </p>
      )}
      {files.length > 0 && <Chosen files={files} drop={(i) => setFiles(files.filter((_, k) => k !== i))} />}
      <div class="writing">
        {mayAttach && (
          <label class="icon attach" title="Attach files"><Clip /><input type="file" class="hush" multiple aria-label="Attach files" onChange={(e) => { attach(e.currentTarget.files); e.currentTarget.value = ''; }} /></label>
        )}
        <textarea ref={box} rows={Math.min(8, draft.split('\n').length)} value={draft} aria-label={`Message ${channel.name}`} placeholder={`Message ${channel.name}`}
          aria-autocomplete="list" aria-controls={list.length ? 'offers' : undefined} aria-activedescendant={list.length ? `offer-${at}` : undefined}
          onInput={(e) => { setDraft(id, e.currentTarget.value); setCaret(e.currentTarget.selectionStart); if (e.currentTarget.value.trim()) nowTyping(id); }}
          onPaste={(e) => { if (mayAttach && e.clipboardData?.files.length) { e.preventDefault(); attach(e.clipboardData.files); } }}
          onSelect={moved} onKeyUp={moved} onBlur={() => setShut(named?.from ?? -1)} onFocus={() => setShut(-1)} onKeyDown={keys} />
        {left < 200 && <small class={'left' + (left < 0 ? ' bad' : '')} role="status">{left}</small>}
        <button type="button" class="icon" aria-label="Emoji" title="Emoji" onClick={(e) => pick(e.currentTarget, insert)}><Smile /></button>
        <button class="icon" aria-label="Send message" title="Send message" disabled={(!draft.trim() && !files.length) || left < 0}><Send /></button>
      </div>
    </form>
  );
}
