import { useEffect, useState } from 'preact/hooks';
import { change, settings, type Settings as Kept } from '../settings';
import { setInput, setOutput } from '../store';
import { drawer } from './App';
import { Close } from './icons';
import { MicTest } from './MicTest';

function useDevices() {
  const [list, set] = useState<MediaDeviceInfo[]>([]);
  useEffect(() => {
    const read = () => void navigator.mediaDevices?.enumerateDevices().then(set, () => {});
    read();
    navigator.mediaDevices?.addEventListener('devicechange', read);
    return () => navigator.mediaDevices?.removeEventListener('devicechange', read);
  }, []);
  return list;
}

function Switch({ label, k, input }: { label: string; k: keyof Kept; input?: boolean }) {
  return (
    <label class="switch">
      <span>{label}</span>
      <input type="checkbox" role="switch" checked={settings.value[k] as boolean}
        onChange={(e) => (input ? setInput : change)({ [k]: e.currentTarget.checked })} />
    </label>
  );
}

export function Settings() {
  const devices = useDevices();
  const s = settings.value;
  const [asking, ask] = useState(false);
  useEffect(() => {
    if (!asking) return;
    const take = (e: KeyboardEvent) => { e.preventDefault(); change({ talkKey: e.code }); ask(false); };
    addEventListener('keydown', take, { once: true, capture: true });
    return () => removeEventListener('keydown', take, { capture: true });
  }, [asking]);
  const pick = (label: string, kind: MediaDeviceKind, value: string, set: (v: string) => void) => (
    <label class="field">
      <span>{label}</span>
      <select value={value} onChange={(e) => set(e.currentTarget.value)}>
        <option value="">System default</option>
        {devices.filter((d) => d.kind === kind && d.deviceId && d.deviceId !== 'default').map((d) => <option key={d.deviceId} value={d.deviceId}>{d.label || 'Unnamed device'}</option>)}
      </select>
    </label>
  );
  return (
    <section class="panel" role="dialog" aria-label="Settings">
      <header class="head"><h2>Settings</h2><button class="icon" aria-label="Close" onClick={() => { drawer.value = ''; }}><Close /></button></header>
      {pick('Microphone', 'audioinput', s.device, (device) => setInput({ device }))}
      <MicTest />
      {pick('Loudspeaker', 'audiooutput', s.sink, setOutput)}
      <Switch label="Echo cancellation" k="echoCancellation" input />
      <Switch label="Noise suppression" k="noiseSuppression" input />
      <Switch label="Automatic gain" k="autoGainControl" input />
      <Switch label="Push to talk" k="pushToTalk" />
      {s.pushToTalk && <button class="quiet" onClick={() => ask(true)}>{asking ? 'Press a key…' : `Talk key: ${s.talkKey}`}</button>}
      <Switch label="Chimes when people come and go" k="chimes" />
      <label class="field">
        <span>Theme</span>
        <select value={s.theme} onChange={(e) => change({ theme: e.currentTarget.value as Kept['theme'] })}>
          <option value="system">As the system has it</option><option value="dark">Dark</option><option value="light">Light</option>
        </select>
      </label>
    </section>
  );
}
