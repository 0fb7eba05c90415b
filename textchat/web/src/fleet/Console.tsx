// The operator's console: nodes, calls and what happened, as it happens.
import { signal } from '@preact/signals';
import { useEffect, useState } from 'preact/hooks';
import { Ask } from '../components/Ask';
import { Mark } from '../components/icons';
import { question } from '../components/views';
import { age, count, found, line, ms, ordered, percent, planned, standing, told, totals, urgent } from './figures';
import { before, calls, enter, explain, heard, journal, leave, nodes, order, TREND, token, trends, trouble, watch } from './state';
import type { Candidate, Explained, Node, Progress } from './types';
import './fleet.css';

/** Calls listed at once. */
const SHOWN = 200;

export function Console() {
  useEffect(watch, []);
  if (!token.value) return <Door />;
  return (
    <div class="console">
      <Top />
      <main>
        <Nodes />
        <Calls />
        <Journal />
      </main>
      {question.value && <Ask />}
    </div>
  );
}

function Door() {
  const go = (e: Event) => {
    e.preventDefault();
    enter(String(new FormData(e.target as HTMLFormElement).get('token') ?? '').trim());
  };
  return (
    <main class="welcome">
      <div class="sea" aria-hidden="true" />
      <form class="card" onSubmit={go}>
        <p class="brand"><Mark />voicefleet</p>
        <h1>The fleet</h1>
        <p class="lead">For whoever runs this house. The token lies in its data folder, in admin.token; <code>voicefleet ctl console</code> prints a link that has it.</p>
        <label class="field"><span>Admin token</span><input name="token" type="password" required autoComplete="current-password" autoFocus aria-describedby="trouble" /></label>
        <p id="trouble" class="problem" role="alert">{trouble.value}</p>
        <button class="primary">Look</button>
      </form>
    </main>
  );
}

function Top() {
  const t = totals(nodes.value, calls.value);
  const figures: [string, string][] = [
    ['Nodes ready', `${t.ready} of ${t.nodes}`], ['Calls', count(t.calls)], ['In calls', count(t.sessions)], ['Seats free', count(Math.max(0, t.seats - t.sessions))], ['Packets/s', count(t.pps)],
  ];
  return (
    <header class="top">
      <h1><Mark />Fleet</h1>
      <dl>{figures.map(([k, v]) => <div key={k}><dt>{k}</dt><dd>{heard.value ? v : '–'}</dd></div>)}</dl>
      <p class={`state ${trouble.value ? 'poor' : heard.value ? 'good' : 'busy'}`} role="status">{trouble.value || (heard.value ? 'Live' : 'Connecting…')}</p>
      <button class="quiet" onClick={() => leave()}>Leave</button>
    </header>
  );
}

function Nodes() {
  const list = ordered(nodes.value);
  return (
    <section aria-labelledby="nodes-title">
      <h2 id="nodes-title">Nodes</h2>
      {heard.value > 0 && !list.length && <p class="soft">No node has told of itself. <code>voicefleet edge --bus …</code> starts one; <code>voicefleet ctl node add NAME</code> prints the whole command.</p>}
      <ul class="nodes">{list.map((n) => <NodeCard key={n.node} n={n} />)}</ul>
    </section>
  );
}

function NodeCard({ n }: { n: Node }) {
  const s = standing(n);
  const had = before.value.get(n.node) ?? 0;
  const done = had ? 1 - n.load.sessions / had : 1;
  return (
    <li class="node" aria-label={`Node ${n.node}`}>
      <header>
        <strong>{n.node}</strong>
        <span class={`state ${s.mood}`}>{s.word}</span>
      </header>
      <p class="soft small">{[n.region, n.zone && `zone ${n.zone}`, n.version, n.label, `up ${age((Date.parse(n.at) - Date.parse(n.started)) / 1000)}`].filter(Boolean).join(' · ')}</p>
      <div class="fill" role="meter" aria-label={`How full ${n.node} is`} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(100 * n.fullness)}>
        <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true"><rect class={n.fullness >= 0.97 ? 'poor' : n.fullness >= 0.85 ? 'fair' : 'good'} width={Math.min(100, 100 * n.fullness)} height="6" rx="3" /></svg>
        <span>{percent(n.fullness)}</span>
      </div>
      <svg class="trend" viewBox="0 0 240 36" preserveAspectRatio="none" role="img" aria-label={`People in calls on ${n.node} in the last five minutes, now ${n.load.sessions}`}>
        <path d={line(trends.value.get(n.node) ?? [], 240, 34, TREND, 4)} />
      </svg>
      <dl>
        <div><dt>In calls</dt><dd>{count(n.load.sessions)}{n.reserved.sessions > 0 && <small> +{n.reserved.sessions}</small>}</dd></div>
        <div><dt>Calls</dt><dd>{count(n.call_count)}</dd></div>
        <div><dt>Packets/s</dt><dd>{count(n.load.pps)}</dd></div>
        <div><dt>CPU</dt><dd>{n.load.cpu === undefined ? '–' : percent(n.load.cpu)}</dd></div>
        <div><dt>Loss</dt><dd>{percent(n.load.loss ?? 0)}</dd></div>
      </dl>
      {n.state === 'draining' && !n.cordoned && <p class="progress"><progress max={1} value={done} aria-label={`Emptying ${n.node}`} /><span class="small">{n.load.sessions ? `${n.load.sessions} of ${had} people left` : 'empty'}</span></p>}
      <p class="actions">
        {n.state === 'draining' || n.cordoned
          ? <button class="quiet" aria-label={`Undrain ${n.node}`} onClick={() => void act(n, 'undrain')}>Take calls again</button>
          : n.state === 'ready' && <><button class="quiet" aria-label={`Cordon ${n.node}`} onClick={() => void act(n, 'cordon')}>Cordon</button><button class="quiet" aria-label={`Drain ${n.node}`} onClick={() => void act(n, 'drain')}>Drain</button></>}
      </p>
    </li>
  );
}

const questions = {
  drain: { text: 'It takes no new calls, and those it has move to other nodes.', yes: 'Drain' },
  cordon: { text: 'It takes no new calls. Those it has stay until they end.', yes: 'Cordon' },
  undrain: { text: 'Its share grows from a tenth to the whole within a minute.', yes: 'Take calls' },
};

async function act(n: Node, verb: keyof typeof questions) {
  const q = questions[verb];
  // What it would do is asked first; without an answer the question stands without it.
  const plan = verb === 'drain' ? await order<Progress>(n.node, 'drain', { dry_run: true }).then((p) => planned(p.plan ?? []), () => '') : '';
  question.value = {
    title: verb === 'undrain' ? `Let ${n.node} take calls again?` : `${q.yes} ${n.node}?`, text: [q.text, plan].filter(Boolean).join(' '), yes: q.yes,
    act: () => order(n.node, verb),
  };
}

const words = signal('');
const opened = signal('');

function Calls() {
  const { list, more } = found(calls.value, words.value, SHOWN);
  return (
    <section aria-labelledby="calls-title">
      <header class="title"><h2 id="calls-title">Calls</h2>
        <input type="search" aria-label="Find a call by channel or node" placeholder="Channel or node" value={words.value} onInput={(e) => { words.value = (e.target as HTMLInputElement).value; }} />
      </header>
      {heard.value > 0 && !list.length && <p class="soft">{words.value ? 'No call like that.' : 'Nobody is in a call.'}</p>}
      {list.length > 0 && (
        <div class="scroller" tabIndex={0} role="group" aria-label="Calls">
          <table>
            <thead><tr><th scope="col">Channel</th><th scope="col">Node</th><th scope="col">For</th><th scope="col">Epoch</th><th scope="col"><span class="hidden">Why</span></th></tr></thead>
            <tbody>
              {list.map((c) => (
                <tr key={c.call}>
                  <td>{c.call}</td><td>{[c.node, ...(c.spans ?? [])].join(' + ')}</td><td>{age((heard.value - Date.parse(c.created)) / 1000)}</td><td>{c.epoch}</td>
                  <td><button class="quiet" aria-expanded={opened.value === c.call} aria-label={`Why call ${c.call} is there`} onClick={() => { opened.value = opened.value === c.call ? '' : c.call; }}>Why</button></td>
                </tr>
              ))}
            </tbody>
          </table>
          {more > 0 && <p class="soft small">And {count(more)} more: search for the one.</p>}
        </div>
      )}
      {opened.value && <Why key={opened.value} call={opened.value} />}
    </section>
  );
}

function Why({ call }: { call: string }) {
  const [got, setGot] = useState<Explained>();
  const [problem, setProblem] = useState('');
  useEffect(() => {
    let current = true;
    explain(call).then((e) => { if (current) setGot(e); }, (e) => { if (current) setProblem((e as Error).message); });
    return () => { current = false; };
  }, [call]);
  const past = got?.entry?.why;
  return (
    <section class="why" aria-label={`Why call ${call} is where it is`}>
      {problem && <p class="problem" role="alert">{problem}</p>}
      {got && <p>{got.entry ? <>It is on <strong>{got.entry.node}</strong>: {past?.reason ?? 'the reason is not kept'}.</> : 'It has ended.'} A new call without measurements would go to <strong>{got.now.chosen || 'no node'}</strong>: {got.now.reason}.</p>}
      {past?.candidates && <Candidates list={past.candidates} chosen={got?.entry?.node} />}
    </section>
  );
}

function Candidates({ list, chosen }: { list: Candidate[]; chosen?: string }) {
  return (
    <div class="scroller" tabIndex={0} role="group" aria-label="Nodes that were weighed">
      <table>
        <thead><tr><th scope="col">Node</th><th scope="col">Region</th><th scope="col">Round trip</th><th scope="col">known from</th><th scope="col">Full</th><th scope="col">Load</th><th scope="col">Cost</th><th scope="col">Verdict</th></tr></thead>
        <tbody>{list.map((k) => (
          <tr key={k.node} aria-current={k.node === chosen ? 'true' : undefined}>
            <td>{k.node}</td><td>{k.region}</td><td>{ms(k.rtt_ms)}</td><td>{k.rtt_from}</td><td>{percent(k.fullness)}</td><td>{ms(k.penalty_ms + (k.domain_ms ?? 0) + (k.aside_ms ?? 0))}</td><td>{ms(k.cost_ms)}</td><td>{k.node === chosen ? 'chosen' : k.why_not || 'dearer'}</td>
          </tr>
        ))}</tbody>
      </table>
    </div>
  );
}

function Journal() {
  return (
    <section aria-labelledby="journal-title" class="journal">
      <h2 id="journal-title">Journal</h2>
      {heard.value > 0 && !journal.value.length && <p class="soft">Nothing has happened yet.</p>}
      <div class="events" role="log" aria-label="What happened, the newest first" tabIndex={0}><ol>
        {journal.value.map((e) => (
          <li key={`${e.at}|${e.deed}|${e.node}|${e.call}`} class={urgent(e) ? 'urgent' : ''}>
            <time dateTime={e.at}>{new Date(e.at).toLocaleTimeString()}</time>
            <span>{told(e)}{e.why && <small> {e.why}</small>}</span>
            <small>{e.by}</small>
          </li>
        ))}
      </ol></div>
    </section>
  );
}
