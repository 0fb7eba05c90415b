import { useEffect, useRef, useState } from 'preact/hooks';
import { question } from './views';

/** The question before something that cannot be undone. The page behind it waits. */
export function Ask() {
  const q = question.value!;
  const box = useRef<HTMLDialogElement>(null);
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    const opener = document.activeElement;
    box.current!.showModal();
    return () => { if (opener instanceof HTMLElement && opener.isConnected) opener.focus(); else document.querySelector<HTMLElement>('.compose textarea')?.focus(); };
  }, []);
  const shut = () => { question.value = null; };
  const yes = async () => {
    setBusy(true);
    try { await q.act(); shut(); } catch (e) { setProblem((e as Error).message); setBusy(false); }
  };
  return (
    <dialog class="ask" ref={box} role="alertdialog" aria-labelledby="ask-title" aria-describedby="ask-text" onKeyDown={(e) => e.stopPropagation()} onCancel={(e) => { e.preventDefault(); shut(); }}
      onClick={(e) => { if (e.target === box.current) shut(); }}>
      <div>
        <h2 id="ask-title">{q.title}</h2>
        <p id="ask-text" class="soft">{q.text}</p>
        {q.quote && <blockquote>{q.quote}</blockquote>}
        <p class="problem" role="alert">{problem}</p>
        <div class="actions"><button class="quiet" autoFocus onClick={shut}>Cancel</button><button class="primary bad" disabled={busy} onClick={() => void yes()}>{q.yes}</button></div>
      </div>
    </dialog>
  );
}
