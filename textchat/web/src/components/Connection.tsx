import { callState, node, quality } from '../calls';
import { Panel } from './Panel';

const ms = (v?: number) => (v === undefined ? '–' : v < 10 ? `${v.toFixed(1)} ms` : `${v.toFixed(0)} ms`);
const percent = (v?: number) => (v === undefined ? '–' : `${(v * 100).toFixed(1)} %`);

/** How good the call is, in figures. */
export function Connection() {
  const q = quality.value;
  const rows: [string, string, string?][] = [
    ['State', callState.value === 'none' ? 'no call' : callState.value],
    ['Round trip', ms(q.rtt), 'to the voice server and back'],
    ['Loss', `${percent(q.lossIn)} in, ${percent(q.lossOut)} out`, 'of the packets of the last second'],
    ['Jitter', ms(q.jitter), 'how unevenly packets come'],
    ['Buffer', ms(q.buffer), 'waited for the uneven ones'],
    ['Codec', q.codec ?? '–'],
    ['Node', node.value || '–'],
    ['Address', q.path ?? '–'],
  ];
  return (
    <Panel label="Connection">
      <dl>{rows.map(([k, v, why]) => <div key={k}><dt>{k}{why && <small>{why}</small>}</dt><dd>{v}</dd></div>)}</dl>
    </Panel>
  );
}
