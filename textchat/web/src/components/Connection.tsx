import { callState, node, quality } from '../store';
import { drawer } from './App';
import { Close } from './icons';

/** How good the call is, in figures. */
export function Connection() {
  const q = quality.value;
  const rows: [string, string][] = [
    ['State', callState.value],
    ['Round trip', q.rtt === undefined ? '–' : `${q.rtt.toFixed(0)} ms`],
    ['Loss', q.loss === undefined ? '–' : `${(q.loss * 100).toFixed(1)} %`],
    ['Jitter', q.jitter === undefined ? '–' : `${q.jitter.toFixed(0)} ms`],
    ['Codec', q.codec ?? '–'],
    ['Node', node.value || '–'],
  ];
  return (
    <section class="panel" role="dialog" aria-label="Connection">
      <header class="head"><h2>Connection</h2><button class="icon" aria-label="Close" onClick={() => { drawer.value = ''; }}><Close /></button></header>
      <dl>{rows.map(([k, v]) => <div key={k}><dt>{k}</dt><dd>{v}</dd></div>)}</dl>
    </section>
  );
}
