import { useEffect, useState } from 'preact/hooks';
import * as api from '../api';
import { pinsChanged } from '../chat';
import { bit } from '../permissions';
import { complain, mayIn, nameOf, textChannel } from '../store';
import type { Message } from '../types';
import { Avatar } from './Avatar';
import { Panel } from './Panel';
import { hide, target } from './views';
import { Name, Words } from './Words';

const when = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium' });

/** What was pinned in the channel. */
export function Pins() {
  const channel = textChannel.value;
  const [list, set] = useState<Message[] | null>(null);
  useEffect(() => { if (channel) api.pins(channel.id).then((p) => set(p.items.map((i) => i.message)), complain); }, [channel?.id, pinsChanged.value]);
  return (
    <Panel label="Pinned messages">
      {list === null ? <p class="soft" role="status">Fetching…</p> : list.length === 0 ? <p class="soft">Nothing is pinned in this channel yet.</p> : (
        <ul class="pins">
          {list.map((m) => {
            const name = nameOf(m.author.id, m.author);
            return (
              <li key={m.id}>
                <p class="by"><Avatar id={m.author.id} name={name} /><Name id={m.author.id} name={name} /><time dateTime={m.timestamp}>{when.format(new Date(m.timestamp))}</time></p>
                <div class="text"><Words s={m.content} /></div>
                {!!m.attachments?.length && <small>{m.attachments.map((a) => a.filename).join(', ')}</small>}
                <p class="row">
                  <button class="quiet" onClick={() => { hide(); target.value = m.id; }}>Jump there</button>
                  {mayIn(channel, bit.PIN) && <button class="quiet" onClick={() => api.pin(channel!.id, m.id, false).catch(complain)}>Unpin</button>}
                </p>
              </li>
            );
          })}
        </ul>
      )}
    </Panel>
  );
}
