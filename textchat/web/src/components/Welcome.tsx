import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import * as api from '../api';
import { enter } from '../store';
import { MicTest } from './MicTest';

const path = location.pathname.split('/').filter(Boolean);
const invited = path[0] === 'invite' ? decodeURIComponent(path[1] ?? '') : '';
const owner = path[0] === 'owner' ? decodeURIComponent(path[1] ?? '') : '';

type Way = 'guest' | 'register' | 'login' | 'owner';
const way = signal<Way>(owner ? 'owner' : invited ? 'guest' : 'login');
const problem = signal<{ text: string; field?: string } | null>(null);
const busy = signal(false);
const house = signal<api.Invite | null>(null);

async function submit(e: Event) {
  e.preventDefault();
  const f = new FormData(e.target as HTMLFormElement);
  const get = (k: string) => String(f.get(k) ?? '').trim();
  busy.value = true;
  problem.value = null;
  try {
    switch (way.value) {
      case 'guest': enter(await api.guest(invited || get('invite'), get('nickname'))); break;
      case 'register': enter(await api.register(get('username'), String(f.get('password')), invited || get('invite') || undefined)); break;
      case 'login': {
        const s = await api.login(get('username'), String(f.get('password')));
        if (invited) { api.setToken(s.token); await api.accept(invited); }
        enter(s);
        break;
      }
      case 'owner': enter(await api.owner(owner, get('username'), String(f.get('password')))); break;
    }
  } catch (err) {
    const a = err as api.ApiError;
    problem.value = { text: a.message, field: a.field };
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

export function Welcome() {
  useEffect(() => {
    if (!invited) return;
    api.invite(invited).then((i) => { house.value = i; }, (e) => { problem.value = { text: e.code === 10006 ? 'This invite is not valid any more. Ask for a new one.' : e.message }; });
  }, []);
  const w = way.value;
  const title = w === 'owner' ? 'This community is yours' : house.value ? house.value.guild.name : 'voicefleet';
  return (
    <main class="welcome">
      <form class="card" onSubmit={submit}>
        <div class="logo" aria-hidden="true"><i /><i /><i /><i /><i /></div>
        <h1>{title}</h1>
        <p class="lead">
          {w === 'owner' ? 'Choose the name and password you will run it with.'
            : house.value ? `You are invited to talk.${house.value.approximate_member_count ? ` ${house.value.approximate_member_count} ${house.value.approximate_member_count === 1 ? 'person is' : 'people are'} here.` : ''}`
            : 'Voice for your community.'}
        </p>
        {w === 'guest' ? (
          <>
            {!invited && <Field name="invite" label="Invite code" />}
            <Field name="nickname" label="Nickname" maxLength={32} autoComplete="nickname" autoFocus />
          </>
        ) : (
          <>
            {w === 'register' && !invited && <Field name="invite" label="Invite code" required={false} />}
            <Field name="username" label="Username" autoComplete="username" autoCapitalize="none" minLength={2} maxLength={32} autoFocus />
            <Field name="password" label="Password" type="password" minLength={8} autoComplete={w === 'login' ? 'current-password' : 'new-password'} />
          </>
        )}
        <p id="problem" class="problem" role="alert">{problem.value?.text}</p>
        <button class="primary" disabled={busy.value}>{w === 'guest' ? 'Join' : w === 'login' ? 'Log in' : w === 'owner' ? 'Take it' : 'Register'}</button>
        {w === 'guest' && <MicTest />}
        {w !== 'owner' && (
          <p class="ways">
            {w !== 'guest' && <button type="button" onClick={() => { way.value = 'guest'; problem.value = null; }}>Come in as a guest</button>}
            {w !== 'login' && <button type="button" onClick={() => { way.value = 'login'; problem.value = null; }}>I have an account</button>}
            {w !== 'register' && <button type="button" onClick={() => { way.value = 'register'; problem.value = null; }}>Make an account</button>}
          </p>
        )}
      </form>
    </main>
  );
}
