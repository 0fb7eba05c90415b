import { useEffect, useState } from 'preact/hooks';
import * as api from '../api';
import { callChannel, setInput, setOutput } from '../calls';
import { signOut } from '../session';
import { change, settings, type Settings as Kept } from '../settings';
import { me, toast } from '../store';
import { keyName } from '../text';
import { Door } from './icons';
import { MicTest } from './MicTest';
import { Panel } from './Panel';

function useDevices() {
  const [list, set] = useState<MediaDeviceInfo[]>([]);
  useEffect(() => {
    const read = () => void navigator.mediaDevices?.enumerateDevices().then(set, () => {});
    read();
    const again = setInterval(read, 2000); // names come only with the permission
    navigator.mediaDevices?.addEventListener('devicechange', read);
    return () => { clearInterval(again); navigator.mediaDevices?.removeEventListener('devicechange', read); };
  }, []);
  return list;
}

type Flag = 'echoCancellation' | 'noiseSuppression' | 'autoGainControl' | 'pushToTalk' | 'chimes';

function Switch({ label, k, input }: { label: string; k: Flag; input?: boolean }) {
  return (
    <label class="switch">
      <span>{label}</span>
      <input type="checkbox" role="switch" checked={settings.value[k]} onChange={(e) => (input ? setInput : change)({ [k]: e.currentTarget.checked })} />
    </label>
  );
}

function Devices({ label, kind, value, set }: { label: string; kind: MediaDeviceKind; value: string; set: (id: string) => void }) {
  const list = useDevices().filter((d) => d.kind === kind && d.deviceId && d.deviceId !== 'default' && d.deviceId !== 'communications');
  return (
    <label class="field">
      <span>{label}</span>
      <select value={value} onChange={(e) => set(e.currentTarget.value)}>
        <option value="">System default</option>
        {list.map((d, i) => <option key={d.deviceId} value={d.deviceId}>{d.label || `${label} ${i + 1}`}</option>)}
        {value && !list.some((d) => d.deviceId === value) && <option value={value}>The chosen one, not plugged in</option>}
      </select>
    </label>
  );
}

function TalkKey() {
  const [asking, ask] = useState(false);
  useEffect(() => {
    if (!asking) return;
    const take = (e: KeyboardEvent) => {
      e.preventDefault();
      e.stopImmediatePropagation();
      if (e.code && e.code !== 'Escape' && e.code !== 'Tab') change({ talkKey: e.code });
      ask(false);
    };
    addEventListener('keydown', take, { once: true, capture: true });
    return () => removeEventListener('keydown', take, { capture: true });
  }, [asking]);
  return <button class="quiet" aria-live="polite" onClick={() => ask(true)}>{asking ? 'Press a key…' : `Talk key: ${keyName(settings.value.talkKey)}`}</button>;
}

/** A guest makes an account of the name that is already known here. */
function Claim() {
  const [problem, setProblem] = useState('');
  const submit = (e: Event) => {
    e.preventDefault();
    const f = new FormData(e.target as HTMLFormElement);
    api.claim(String(f.get('username')).trim(), String(f.get('password'))).then((s) => { me.value = s.user; toast('Your account is made. You can log in with it anywhere.'); }, (err: Error) => setProblem(err.message));
  };
  return (
    <form class="group" onSubmit={submit}>
      <h3>Keep who you are</h3>
      <p class="soft">You are a guest: this browser alone knows you. With an account you can come back from anywhere.</p>
      <label class="field"><span>Username</span><input name="username" required minLength={2} maxLength={32} autoComplete="username" autoCapitalize="none" /></label>
      <label class="field"><span>Password</span><input name="password" type="password" required minLength={8} autoComplete="new-password" /></label>
      <p class="problem" role="alert">{problem}</p>
      <button class="quiet">Make an account</button>
    </form>
  );
}

export function Settings() {
  const s = settings.value;
  const [leaving, sure] = useState(false);
  return (
    <Panel label="Settings">
      <div class="group">
        <h3>Voice</h3>
        <Devices label="Microphone" kind="audioinput" value={s.device} set={(device) => setInput({ device })} />
        <MicTest key={callChannel.value} />
        <Devices label="Loudspeaker" kind="audiooutput" value={s.sink} set={setOutput} />
        <Switch label="Echo cancellation" k="echoCancellation" input />
        <Switch label="Noise suppression" k="noiseSuppression" input />
        <Switch label="Automatic gain" k="autoGainControl" input />
        <Switch label="Push to talk" k="pushToTalk" />
        {s.pushToTalk && <TalkKey />}
        <Switch label="Chimes when people come and go" k="chimes" />
      </div>
      <div class="group">
        <h3>Looks</h3>
        <div class="choices" role="radiogroup" aria-label="Theme">
          {(['system', 'light', 'dark'] as Kept['theme'][]).map((t) => (
            <label class="choice" key={t}><input type="radio" name="theme" checked={s.theme === t} onChange={() => change({ theme: t })} /><span>{{ system: 'System', light: 'Light', dark: 'Dark' }[t]}</span></label>
          ))}
        </div>
      </div>
      {me.value?.guest && <Claim />}
      <div class="group">
        {leaving && <p class="soft" role="alert">You are a guest: after logging out nobody can be you again. Press once more to do it.</p>}
        <button class="quiet bad" onClick={() => { if (me.value?.guest && !leaving) sure(true); else void signOut(); }}><Door />Log out</button>
      </div>
    </Panel>
  );
}
