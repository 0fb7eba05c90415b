import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { Close } from './icons';
import { hide } from './views';

/** A panel beside the page, which stays in use. Escape closes it. */
export function Panel({ label, children }: { label: string; children: ComponentChildren }) {
  const box = useRef<HTMLElement>(null);
  useEffect(() => { box.current?.focus({ preventScroll: true }); }, []);
  return (
    <section class="panel" role="dialog" aria-label={label} tabIndex={-1} ref={box} onKeyDown={(e) => { if (e.key === 'Escape') { e.stopPropagation(); hide(); } }}>
      <header class="head"><h2>{label}</h2><button class="icon" aria-label={`Close ${label}`} onClick={hide}><Close /></button></header>
      <div class="body">{children}</div>
    </section>
  );
}
