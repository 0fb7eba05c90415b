import { signal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import * as api from '../api';
import { access, bit, offered, withAccess } from '../permissions';
import { complain, guild, may, nameOf, textChannels, toast, voiceChannels } from '../store';
import { colour } from '../text';
import { TEXT, VOICE, type Channel, type Invite, type Role, type User } from '../types';
import { Avatar } from './Avatar';
import { AddPerson, Bin, Close, Copy, Down, Hash, Plus, Shield, Speaker } from './icons';
import { hide, question } from './views';

type Tab = 'about' | 'channels' | 'roles' | 'invites' | 'bans';
const tabs: [Tab, string, bigint][] = [
  ['about', 'About', bit.MANAGE_GUILD], ['channels', 'Channels', bit.MANAGE_CHANNELS], ['roles', 'Roles', bit.MANAGE_ROLES], ['invites', 'Invites', bit.MANAGE_GUILD], ['bans', 'Bans', bit.BAN],
];
const tab = signal<Tab>('about');

/** Whether there is anything here that one may do. */
export const mayManage = () => tabs.some(([, , need]) => may(need));

/** What makes a community: its name, channels, roles, invites. The page behind it waits. */
export function Community() {
  const box = useRef<HTMLDialogElement>(null);
  const mine = tabs.filter(([, , need]) => may(need));
  const now = mine.find(([t]) => t === tab.value) ?? mine[0];
  useEffect(() => { box.current!.showModal(); }, []);
  useEffect(() => { if (!now) hide(); });
  if (!now) return <dialog ref={box} aria-label="Community settings" />;
  const keys = (e: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[e.key];
    if (!step) return;
    e.preventDefault();
    tab.value = mine[(mine.indexOf(now) + step + mine.length) % mine.length][0];
    requestAnimationFrame(() => box.current?.querySelector<HTMLElement>('[role=tab][aria-selected=true]')?.focus());
  };
  return (
    <dialog class="community" ref={box} aria-label="Community settings" onCancel={(e) => { e.preventDefault(); hide(); }} onKeyDown={(e) => e.stopPropagation()} onClick={(e) => { if (e.target === box.current) hide(); }}>
      <div>
        <header class="head"><h2>{guild.value!.name}</h2><button class="icon" aria-label="Close Community settings" onClick={hide}><Close /></button></header>
        <div class="tabs" role="tablist" aria-label="Community settings" onKeyDown={keys}>
          {mine.map(([t, label]) => <button key={t} role="tab" id={`tab-${t}`} aria-selected={t === now[0]} aria-controls="tab-body" tabIndex={t === now[0] ? 0 : -1} onClick={() => { tab.value = t; }}>{label}</button>)}
        </div>
        <div class="body" role="tabpanel" id="tab-body" aria-labelledby={`tab-${now[0]}`} tabIndex={0}>
          {now[0] === 'about' && <About />}
          {now[0] === 'channels' && <Channels />}
          {now[0] === 'roles' && <Roles />}
          {now[0] === 'invites' && <Invites />}
          {now[0] === 'bans' && <Bans />}
        </div>
      </div>
    </dialog>
  );
}

/** A form that says what went wrong, and where. */
function Form({ label, save, children, done, also }: { label: string; save(f: FormData): Promise<unknown>; children: ComponentChildren; done?: string; also?: ComponentChildren }) {
  const [problem, set] = useState('');
  const [busy, setBusy] = useState(false);
  const submit = async (e: Event) => {
    e.preventDefault();
    const form = e.currentTarget as HTMLFormElement;
    setBusy(true);
    set('');
    try { await save(new FormData(form)); if (done) toast(done); } catch (err) { set((err as Error).message); }
    setBusy(false);
  };
  return (
    <form class="group" onSubmit={(e) => void submit(e)}>
      {children}
      <p class="problem" role="alert">{problem}</p>
      <p class="row"><button class="primary" disabled={busy}>{label}</button>{also}</p>
    </form>
  );
}

const text = (f: FormData, k: string) => String(f.get(k) ?? '').trim();

function Field({ label, name, ...rest }: { label: string; name: string; [k: string]: unknown }) {
  return <label class="field"><span>{label}</span><input name={name} autoComplete="off" {...rest} /></label>;
}
function Flag({ label, checked, set }: { label: string; checked: boolean; set(on: boolean): void }) {
  return <label class="switch"><span>{label}</span><input type="checkbox" role="switch" checked={checked} onChange={(e) => set(e.currentTarget.checked)} /></label>;
}

function About() {
  const g = guild.value!;
  return (
    <Form label="Save" done="Saved." save={(f) => api.changeGuild(g.id, { name: text(f, 'name'), description: text(f, 'description') })}>
      <Field label="Name of the community" name="name" required maxLength={100} value={g.name} />
      <label class="field"><span>What it is about</span><textarea name="description" rows={3} maxLength={300} value={g.description ?? ''} /></label>
    </Form>
  );
}

// ── Channels ────────────────────────────────────────────────────────────────

function Channels() {
  const [open, set] = useState('');
  const [making, make] = useState(false);
  const g = guild.value!;
  const list = (title: string, all: Channel[]) => (
    <section class="group">
      <h3>{title}</h3>
      <ul class="rows">
        {all.map((c, i) => (
          <li key={c.id}>
            <div class="line-row">
              {c.type === VOICE ? <Speaker /> : <Hash />}<strong>{c.name}</strong>
              <button class="icon up" aria-label={`Move ${c.name} up`} disabled={i === 0} onClick={() => move(all, i)}><Down /></button>
              <button class="quiet" aria-label={`Edit channel ${c.name}`} aria-expanded={open === c.id} onClick={() => set(open === c.id ? '' : c.id)}>Edit</button>
            </div>
            {open === c.id && <EditChannel key={c.id} c={c} shut={() => set('')} />}
          </li>
        ))}
      </ul>
    </section>
  );
  const move = (all: Channel[], i: number) => {
    const order = all.map((c) => c.id);
    [order[i - 1], order[i]] = [order[i], order[i - 1]];
    api.arrange(g.id, 'channels', order.map((id, position) => ({ id, position }))).catch(complain);
  };
  return (
    <>
      {making ? (
        <Form label="Make channel" save={(f) => api.makeChannel(g.id, { name: text(f, 'name'), type: Number(f.get('type')) }).then(() => make(false))} also={<button type="button" class="quiet" onClick={() => make(false)}>Cancel</button>}>
          <h3>New channel</h3>
          <Field label="Name of the channel" name="name" required maxLength={100} autoFocus />
          <div class="choices" role="radiogroup" aria-label="Kind">
            <label class="choice"><input type="radio" name="type" value={TEXT} defaultChecked /><span>Text</span></label>
            <label class="choice"><input type="radio" name="type" value={VOICE} /><span>Voice</span></label>
          </div>
        </Form>
      ) : <p class="row"><button class="quiet" onClick={() => make(true)}><Plus />New channel</button></p>}
      {list('Text', textChannels.value)}
      {list('Voice', voiceChannels.value)}
    </>
  );
}

function EditChannel({ c, shut }: { c: Channel; shut(): void }) {
  const g = guild.value!;
  const [who, set] = useState(() => access(c.permission_overwrites ?? [], g.id));
  const roles = g.roles.filter((r) => r.id !== g.id);
  const save = async (f: FormData) => {
    await api.changeChannel(c.id, {
      name: text(f, 'name'), ...(c.type === VOICE ? { user_limit: Number(f.get('limit')) } : { topic: text(f, 'topic') }),
      ...(may(bit.MANAGE_ROLES) && { permission_overwrites: withAccess(c.permission_overwrites ?? [], g.id, who) }),
    });
    shut();
  };
  const erase = () => {
    question.value = { title: `Delete ${c.name}?`, text: c.type === VOICE ? 'Whoever is in it is disconnected.' : 'All its messages go with it.', yes: 'Delete channel', act: () => api.dropChannel(c.id) };
  };
  return (
    <Form label="Save" save={save} also={<><button type="button" class="quiet" onClick={shut}>Cancel</button><button type="button" class="quiet bad" onClick={erase}><Bin />Delete channel</button></>}>
      <Field label="Name of the channel" name="name" required maxLength={100} value={c.name} />
      {c.type === VOICE ? <Field label="People at most (0: no limit)" name="limit" type="number" min={0} max={99} value={c.user_limit ?? 0} /> : <Field label="Topic" name="topic" maxLength={1024} value={c.topic ?? ''} />}
      {may(bit.MANAGE_ROLES) && (
        <>
          <Flag label="Only some roles may see it" checked={who.hidden} set={(hidden) => set({ ...who, hidden })} />
          {c.type !== VOICE && <Flag label="Only some roles may write in it" checked={who.quiet} set={(quiet) => set({ ...who, quiet })} />}
          {(who.hidden || who.quiet) && (
            <div class="choices" role="group" aria-label="Roles that may">
              {roles.map((r) => (
                <label class="choice" key={r.id}><input type="checkbox" checked={who.roles.includes(r.id)} onChange={(e) => set({ ...who, roles: e.currentTarget.checked ? [...who.roles, r.id] : who.roles.filter((x) => x !== r.id) })} /><span>{r.name}</span></label>
              ))}
              {roles.length === 0 && <p class="soft small">There are no roles yet. The owner and administrators may always.</p>}
            </div>
          )}
        </>
      )}
    </Form>
  );
}

// ── Roles ───────────────────────────────────────────────────────────────────

function Roles() {
  const g = guild.value!;
  const [open, set] = useState('');
  const list = [...g.roles].sort((a, b) => b.position - a.position);
  return (
    <>
      <p class="soft small">Whoever has several roles may what any of them may. Of two roles the upper one counts as higher.</p>
      <p class="row"><button class="quiet" onClick={() => api.makeRole(g.id, { name: 'New role' }).then((r) => set(r.id), complain)}><Plus />New role</button></p>
      <ul class="rows">
        {list.map((r) => (
          <li key={r.id}>
            <div class="line-row">
              <i class="swatch" style={{ '--role': colour(r.color) || undefined }} /><strong>{r.id === g.id ? 'Everyone' : r.name}</strong>
              <button class="quiet" aria-label={`Edit role ${r.id === g.id ? 'Everyone' : r.name}`} aria-expanded={open === r.id} onClick={() => set(open === r.id ? '' : r.id)}>Edit</button>
            </div>
            {open === r.id && <EditRole key={r.id} r={r} all={r.id === g.id} shut={() => set('')} />}
          </li>
        ))}
      </ul>
    </>
  );
}

function EditRole({ r, all, shut }: { r: Role; all: boolean; shut(): void }) {
  const g = guild.value!;
  const [bits, setBits] = useState(BigInt(r.permissions));
  const [looks, setLooks] = useState({ hoist: r.hoist, mentionable: r.mentionable, coloured: r.color !== 0 });
  const save = async (f: FormData) => {
    const permissions = String(bits);
    await api.changeRole(g.id, r.id, all ? { permissions } : {
      name: text(f, 'name'), permissions, hoist: looks.hoist, mentionable: looks.mentionable, color: looks.coloured ? Number.parseInt(String(f.get('color')).slice(1), 16) : 0,
    });
    shut();
  };
  const erase = () => { question.value = { title: `Delete the role ${r.name}?`, text: 'Whoever has it loses what it gave them.', yes: 'Delete role', act: () => api.dropRole(g.id, r.id) }; };
  return (
    <Form label="Save" save={save} also={<><button type="button" class="quiet" onClick={shut}>Cancel</button>{!all && <button type="button" class="quiet bad" onClick={erase}><Bin />Delete role</button>}</>}>
      {!all && (
        <>
          <Field label="Name of the role" name="name" required maxLength={100} value={r.name} />
          <Flag label="Colour of names" checked={looks.coloured} set={(coloured) => setLooks({ ...looks, coloured })} />
          {looks.coloured && <label class="field"><span>Colour</span><input type="color" name="color" value={colour(r.color) || '#0b6a70'} /></label>}
          <Flag label="Listed apart among the members" checked={looks.hoist} set={(hoist) => setLooks({ ...looks, hoist })} />
          <Flag label="Anybody may mention it" checked={looks.mentionable} set={(mentionable) => setLooks({ ...looks, mentionable })} />
        </>
      )}
      {offered.map(({ group, bits: some }) => (
        <fieldset key={group}>
          <legend>{group}</legend>
          {some.map(([k, label]) => <Flag key={k} label={label} checked={(bits & bit[k]) !== 0n} set={(on) => setBits(on ? bits | bit[k] : bits & ~bit[k])} />)}
        </fieldset>
      ))}
    </Form>
  );
}

// ── Invites and bans ────────────────────────────────────────────────────────

const ages: [number, string][] = [[0, 'never'], [1800, 'in half an hour'], [3600, 'in an hour'], [86400, 'in a day'], [604800, 'in a week']];
const uses = [0, 1, 5, 10, 25, 100];
const until = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });

/** A list of the server's, fetched when it is shown. */
function useList<T>(fetch: () => Promise<T[]>): [T[] | null, () => void] {
  const [list, set] = useState<T[] | null>(null);
  const read = () => void fetch().then(set, complain);
  useEffect(read, []);
  return [list, read];
}

const linkOf = (code: string) => `${location.origin}/invite/${code}`;
const copy = (code: string) => navigator.clipboard.writeText(linkOf(code)).then(() => toast('The invite link is copied.'), () => toast(linkOf(code)));

function Invites() {
  const g = guild.value!;
  const [list, read] = useList<Invite>(() => api.invites(g.id));
  const make = async (f: FormData) => {
    const i = await api.makeInvite(String(f.get('channel')), { max_age: Number(f.get('age')), max_uses: Number(f.get('uses')) });
    await copy(i.code);
    read();
  };
  return (
    <>
      <Form label="Make and copy" save={make}>
        <h3>New invite</h3>
        <div class="pair">
          <label class="field"><span>Leads to</span><select name="channel">{[...voiceChannels.value.filter((c) => !c.echo), ...textChannels.value].map((c) => <option key={c.id} value={c.id}>{c.name}</option>)}</select></label>
          <label class="field"><span>Ends</span><select name="age">{ages.map(([s, label]) => <option key={s} value={s}>{label}</option>)}</select></label>
          <label class="field"><span>Good for</span><select name="uses">{uses.map((n) => <option key={n} value={n}>{n === 0 ? 'any number' : n === 1 ? 'one person' : `${n} people`}</option>)}</select></label>
        </div>
      </Form>
      <section class="group">
        <h3>Open invites</h3>
        {list === null ? <p class="soft" role="status">Fetching…</p> : list.length === 0 ? <p class="soft">There are none.</p> : (
          <ul class="rows">
            {list.map((i) => (
              <li key={i.code} class="line-row">
                <AddPerson />
                <span class="grow"><strong>{i.code}</strong><small>to {i.channel?.name ?? 'a channel'}{i.inviter ? ` · by ${nameOf(i.inviter.id, i.inviter)}` : ''} · used {i.uses ?? 0}{i.max_uses ? ` of ${i.max_uses}` : ''} times{i.expires_at ? ` · until ${until.format(new Date(i.expires_at))}` : ''}</small></span>
                <button class="icon" aria-label={`Copy invite ${i.code}`} title="Copy the link" onClick={() => void copy(i.code)}><Copy /></button>
                <button class="icon" aria-label={`Revoke invite ${i.code}`} title="Revoke" onClick={() => { question.value = { title: 'Revoke this invite?', text: 'The link lets nobody in any more.', quote: linkOf(i.code), yes: 'Revoke invite', act: () => api.dropInvite(i.code).then(read) }; }}><Bin /></button>
              </li>
            ))}
          </ul>
        )}
      </section>
    </>
  );
}

function Bans() {
  const g = guild.value!;
  const [list, read] = useList<{ user: User; reason: string | null }>(() => api.bans(g.id));
  return list === null ? <p class="soft" role="status">Fetching…</p> : list.length === 0 ? <p class="soft"><Shield /> Nobody is banned.</p> : (
    <ul class="rows">
      {list.map(({ user, reason }) => (
        <li key={user.id} class="line-row">
          <Avatar id={user.id} name={nameOf(user.id, user)} /><span class="grow"><strong>{nameOf(user.id, user)}</strong>{reason && <small>{reason}</small>}</span>
          <button class="quiet" aria-label={`Lift the ban of ${nameOf(user.id, user)}`} onClick={() => api.ban(g.id, user.id, false).then(read, complain)}>Lift</button>
        </li>
      ))}
    </ul>
  );
}
