import { useEffect, useRef, useState } from 'preact/hooks';
import { audio } from '../audio';
import { complain, mic } from '../store';

/** A level meter of the open microphone. */
export function Level() {
  const bar = useRef<HTMLDivElement>(null);
  useEffect(() => {
    let frame = 0;
    let shown = 0;
    const draw = () => {
      const level = mic.meter?.level() ?? 0;
      shown = Math.max(level, shown * 0.9);
      bar.current?.style.setProperty('--level', String(shown));
      bar.current?.setAttribute('aria-valuenow', String(Math.round(shown * 100)));
      frame = requestAnimationFrame(draw);
    };
    draw();
    return () => cancelAnimationFrame(frame);
  }, []);
  return <div class="level" ref={bar} role="meter" aria-label="Microphone level" aria-valuemin={0} aria-valuemax={100} aria-valuenow={0} />;
}

export function MicTest() {
  const [on, setOn] = useState(false);
  const begin = () => {
    audio();
    mic.acquire().then(() => setOn(true), complain);
  };
  return (
    <div class="mictest">
      {on ? <><Level /><small>Say something: the bar should move.</small></> : <button type="button" class="quiet" onClick={begin}>Test microphone</button>}
    </div>
  );
}
