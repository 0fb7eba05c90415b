import { useEffect, useState } from 'preact/hooks';
import * as api from '../api';
import { bit } from '../permissions';
import { channelOf, chooseText, complain, mayIn, me, parentOf, putThread, textChannel, threadsOf } from '../store';
import { isThread, type Channel } from '../types';
import { Back, Branch } from './icons';
import { focusComposer } from './Line';
import { Panel } from './Panel';
import { beginOn, hide, part } from './views';
import { inShort } from './Words';

/** What one reads and writes in is this thread now. */
export function openThread(t: Channel) {
  putThread(t); // one that is closed was only listed
  hide();
  chooseText(t.id);
  part.value = 'chat';
  requestAnimationFrame(focusComposer);
}

export const mayBegin = (c: Channel | null) => !!c && !isThread(c) && mayIn(c, bit.MAKE_THREADS);

/** The threads of the channel that is shown: those that are open, the others, and a new one. */
export function Threads() {
  const channel = parentOf(textChannel.value) ?? textChannel.value;
  const on = beginOn.value;
  const [closed, set] = useState<Channel[] | null>(null);
  const [name, setName] = useState('');
  const [problem, setProblem] = useState('');
  const open = channel ? threadsOf(channel.id) : [];
  useEffect(() => { if (channel) api.closedThreads(channel.id).then((l) => set(l.threads), complain); }, [channel?.id, open.length]);
  useEffect(() => () => { beginOn.value = null; }, []);
  if (!channel) return null;
  const begin = async (e: Event) => {
    e.preventDefault();
    try { openThread(await api.beginThread(channel.id, name.trim(), on?.id)); } catch (err) { setProblem((err as Error).message); }
  };
  return (
    <Panel label={`Threads of ${channel.name}`}>
      {mayBegin(channel) && (
        <form class="group" onSubmit={(e) => void begin(e)}>
          {on && <blockquote class="soft">{inShort(on.content).slice(0, 200)}</blockquote>}
          <label class="field"><span>Name of the thread</span><input required maxLength={100} autoComplete="off" value={name} onInput={(e) => setName(e.currentTarget.value)} /></label>
          <p class="problem" role="alert">{problem}</p>
          <p class="row"><button class="primary">Begin thread</button></p>
        </form>
      )}
      <List label="Open threads" list={open} none="No thread is open in this channel." />
      {closed === null ? <p class="soft" role="status">Fetching…</p> : closed.length > 0 && <List label="Closed threads" list={closed} none="" />}
    </Panel>
  );
}

function List({ label, list, none }: { label: string; list: readonly Channel[]; none: string }) {
  return (
    <section class="threads">
      <h3>{label}</h3>
      {list.length === 0 ? <p class="soft">{none}</p> : (
        <ul aria-label={label}>
          {list.map((t) => <li key={t.id}><button class="channel" aria-label={`Open thread ${t.name}`} aria-description={count(t)} onClick={() => openThread(t)}><Branch /><span>{t.name}</span><small data-drawn={count(t)} /></button></li>)}
        </ul>
      )}
    </section>
  );
}

const count = (t: Channel) => (t.message_count === 1 ? '1 message' : `${t.message_count ?? 0} messages`);

/** Under a message: the thread that hangs on it. */
export function Hanging({ id }: { id: string }) {
  const t = channelOf(id);
  if (!t || !isThread(t)) return null;
  const closed = t.thread_metadata?.archived ? 'closed' : undefined;
  return <button class="hanging" aria-label={`Open thread ${t.name}`} aria-description={closed} onClick={() => openThread(t)}><Branch /><span>{t.name}</span>{closed && <small data-drawn={closed} />}</button>;
}

/** What one may do with the thread that is shown. */
export function ThreadTools({ thread }: { thread: Channel }) {
  const parent = parentOf(thread);
  const archived = !!thread.thread_metadata?.archived;
  const manages = mayIn(thread, bit.MANAGE_THREADS);
  const follow = (on: boolean) => api.followThread(thread.id, on).then(() => putThread(thread, on ? {} : null), complain);
  return (
    <>
      {parent && <button class="icon" aria-label={`Back to ${parent.name}`} title={`Back to ${parent.name}`} onClick={() => chooseText(parent.id)}><Back /></button>}
      {!archived && <button class="quiet" onClick={() => void follow(!thread.member)}>{thread.member ? 'Following' : 'Follow'}</button>}
      {(manages || thread.owner_id === me.value?.id) && (manages || !thread.thread_metadata?.locked) && (
        <button class="quiet" onClick={() => void api.changeThread(thread.id, { archived: !archived }).then((t) => putThread(t), complain)}>{archived ? 'Open again' : 'Close thread'}</button>
      )}
    </>
  );
}
