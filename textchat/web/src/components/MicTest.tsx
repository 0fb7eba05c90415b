import { useEffect, useRef, useState } from 'preact/hooks';
import { audio } from '../audio';
import { callChannel, mic } from '../calls';

/** A level meter of the open microphone. */
export function Level() {
  const bar = useRef<HTMLDivElement>(null);
  useEffect(() => {
    let frame = 0;
    let shown = 0;
    let told = 0;
    const draw = (now: number) => {
      const level = mic.meter?.level() ?? 0;
      shown = Math.max(level, shown * 0.9);
      bar.current?.style.setProperty('--level', shown.toFixed(3));
      if (now - told > 200) { bar.current?.setAttribute('aria-valuenow', String(Math.round(shown * 100))); told = now; }
      frame = requestAnimationFrame(draw);
    };
    frame = requestAnimationFrame(draw);
    return () => cancelAnimationFrame(frame);
  }, []);
  return <div class="level" ref={bar} role="meter" aria-label="Microphone level" aria-valuemin={0} aria-valuemax={100} aria-valuenow={0}><i /></div>;
}

const why = (e: Error) =>
  e.name === 'NotAllowedError' ? 'The browser may not use the microphone. Allow it beside the address, then try again.'
    : e.name === 'NotFoundError' ? 'No microphone was found.' : e.message;

export function MicTest() {
  const [state, set] = useState<'off' | 'asking' | 'on'>(callChannel.value && mic.sent ? 'on' : 'off');
  const [problem, setProblem] = useState('');
  const begin = () => {
    audio();
    set('asking');
    setProblem('');
    mic.acquire().then(() => set('on'), (e) => { set('off'); setProblem(why(e)); });
  };
  useEffect(() => () => { if (!callChannel.value && !document.querySelector('.welcome')) mic.release(); }, []);
  return (
    <div class="mictest">
      {state === 'on' ? (
        <>
          <Level />
          <small>Say something: the bar moves when your microphone works.</small>
        </>
      ) : <button type="button" class="quiet" disabled={state === 'asking'} onClick={begin}>{state === 'asking' ? 'Waiting for the browser…' : 'Test microphone'}</button>}
      <p class="problem" role="alert">{problem}</p>
    </div>
  );
}
