import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import * as api from '../api';
import { audio } from '../audio';
import { accept, enter, link, signOut, start } from '../session';
import { me, token } from '../store';
import { inviteCode } from '../text';
import type { Invite } from '../types';
import { Mark } from './icons';
import { MicTest } from './MicTest';

type Way = 'guest' | 'register' | 'login' | 'owner' | 'known';
const way = signal<Way>(link.value?.kind === 'owner' ? 'owner' : token.value ? 'known' : link.value ? 'guest' : 'login');
const problem = signal<{ text: string; field?: string } | null>(null);
const busy = signal(false);
const invitation = signal<Invite | null>(null);

const code = () => (link.value?.kind === 'invite' ? link.value.code : '');
const target = (s: { guild_id?: string; channel_id?: string }) => ({ guild: s.guild_id, channel: s.channel_id });

async function submit(e: Event) {
  e.preventDefault();
  const f = new FormData(e.target as HTMLFormElement);
  const get = (k: string) => String(f.get(k) ?? '').trim();
  const password = String(f.get('password') ?? '');
  const invited = code() || inviteCode(get('invite'));
  audio(); // this press wakes it, so that the call may play at once
  busy.value = true;
  problem.value = null;
  try {
    switch (way.value) {
      case 'guest': { const s = await api.guest(invited, get('nickname')); enter(s, target(s)); break; }
      case 'register': { const s = await api.register(get('username'), password, invited || undefined); enter(s, invited ? target(s) : undefined); break; }
      case 'login': {
        const s = await api.login(get('username'), password);
        if (!invited) { enter(s); break; }
        api.setToken(s.token);
        const i = await api.accept(invited);
        enter(s, { guild: i.guild.id, channel: i.channel?.id });
        break;
      }
      case 'owner': enter(await api.owner(link.value!.code, get('username'), password)); break;
      case 'known': await accept(code()); break;
    }
  } catch (err) {
    const a = err as api.ApiError;
    problem.value = { text: a.message, field: a.field };
    if (a.status === 401 && way.value === 'known') { await signOut(); way.value = 'guest'; }
  } finally {
    busy.value = false;
  }
}

function Field({ name, label, ...rest }: { name: string; label: string; [k: string]: unknown }) {
  const wrong = problem.value?.field === name;
  return (
    <label class="field">
      <span>{label}</span>
      <input name={name} required aria-invalid={wrong} aria-describedby={wrong ? 'problem' : undefined} {...rest} />
    </label>
  );
}

const buttons: Record<Way, string> = { guest: 'Join', known: 'Join', login: 'Log in', register: 'Register', owner: 'Take it' };
const others: [Way, string][] = [['guest', 'Come in as a guest'], ['login', 'I have an account'], ['register', 'Make an account']];

export function Welcome() {
  useEffect(() => {
    if (token.value) start();
    if (!code()) return;
    api.invite(code()).then((i) => { invitation.value = i; }, (e) => { problem.value = { text: e.code === 10006 ? 'This invite is not valid any more. Ask for a new one.' : e.message }; });
  }, []);
  const w = way.value === 'known' && !token.value ? (code() ? 'guest' : 'login') : way.value;
  const i = invitation.value;
  const count = i?.approximate_member_count ?? 0;
  return (
    <main class="welcome">
      <div class="sea" aria-hidden="true" />
      <form class="card" onSubmit={submit}>
        <p class="brand"><Mark />voicefleet</p>
        <h1>{w === 'owner' ? 'This community is yours' : i ? i.guild.name : code() ? 'You are invited' : 'Come in'}</h1>
        <p class="lead">
          {w === 'owner' ? 'Choose the name and password you will run it with.'
            : i ? `You are invited to talk.${count > 1 ? ` ${count} people are members.` : ''}`
            : w === 'register' ? 'An account keeps your name, on every device.' : 'Talk with your community.'}
        </p>
        {w === 'guest' && (
          <>
            {!code() && <Field name="invite" label="Invite link" />}
            <Field name="nickname" label="Nickname" maxLength={32} autoComplete="nickname" autoFocus />
          </>
        )}
        {(w === 'login' || w === 'register' || w === 'owner') && (
          <>
            {w === 'register' && !code() && <Field name="invite" label="Invite link (if you have one)" required={false} />}
            <Field name="username" label="Username" autoComplete="username" autoCapitalize="none" minLength={2} maxLength={32} autoFocus />
            <Field name="password" label="Password" type="password" minLength={8} autoComplete={w === 'login' ? 'current-password' : 'new-password'} />
          </>
        )}
        {w === 'known' && me.value && <p>You are <strong>{me.value.global_name || me.value.username}</strong> here.</p>}
        <p id="problem" class="problem" role="alert">{problem.value?.text}</p>
        <button class="primary" disabled={busy.value}>{buttons[w]}</button>
        {(w === 'guest' || w === 'known') && (
          <>
            <p class="soft small">You land in the voice channel, with your microphone on. One press mutes it.</p>
            <MicTest />
          </>
        )}
        {w !== 'owner' && (
          <p class="ways">
            {others.filter(([o]) => o !== w).map(([o, label]) => <button key={o} type="button" onClick={() => { way.value = o; problem.value = null; }}>{label}</button>)}
          </p>
        )}
      </form>
    </main>
  );
}

/** Signed in, but a member of nothing. */
export function Homeless() {
  const go = (e: Event) => {
    e.preventDefault();
    problem.value = null;
    audio();
    accept(inviteCode(String(new FormData(e.target as HTMLFormElement).get('invite')))).catch((err) => { problem.value = { text: err.message, field: 'invite' }; });
  };
  return (
    <main class="welcome">
      <div class="sea" aria-hidden="true" />
      <form class="card" onSubmit={go}>
        <p class="brand"><Mark />voicefleet</p>
        <h1>Where to?</h1>
        <p class="lead">You are in no community yet. Ask somebody for an invite link.</p>
        <Field name="invite" label="Invite link" autoFocus />
        <p id="problem" class="problem" role="alert">{problem.value?.text}</p>
        <button class="primary">Join</button>
        <p class="ways"><button type="button" onClick={() => void signOut()}>Log out</button></p>
      </form>
    </main>
  );
}
