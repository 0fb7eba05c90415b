import { useState } from 'preact/hooks';
import { parse, plain, type Block, type Inline } from '../markdown';
import { chooseText, colourOf, guild, me, names, roleOf, textChannels } from '../store';
import { colour } from '../text';
import { show } from './views';

/** The words of a message. */
export const Words = ({ s }: { s: string }) => <>{parse(s).map((b, i) => <BlockOf key={i} b={b} />)}</>;

/** A message in one line, for previews. */
export const inShort = (s: string) => plain(s, names).replace(/\s+/g, ' ').trim();

function BlockOf({ b }: { b: Block }) {
  switch (b.kind) {
    case 'par': return <p><Run nodes={b.nodes} /></p>;
    case 'heading': return <p class={'heading h' + b.level}><Run nodes={b.nodes} /></p>;
    case 'quote': return <blockquote>{b.blocks.map((x, i) => <BlockOf key={i} b={x} />)}</blockquote>;
    case 'fence': return <pre tabIndex={0} aria-label={b.lang ? `Code, ${b.lang}` : 'Code'} role="group"><code>{b.text}</code></pre>;
    case 'list': {
      const items = b.items.map((n, i) => <li key={i}><Run nodes={n} /></li>);
      return b.ordered ? <ol start={b.start}>{items}</ol> : <ul>{items}</ul>;
    }
  }
}

const Run = ({ nodes }: { nodes: Inline[] }) => <>{nodes.map((n, i) => <One key={i} n={n} />)}</>;

function One({ n }: { n: Inline }) {
  switch (n.kind) {
    case 'text': return <>{n.text}</>;
    case 'strong': return <strong><Run nodes={n.nodes} /></strong>;
    case 'em': return <em><Run nodes={n.nodes} /></em>;
    case 'under': return <u><Run nodes={n.nodes} /></u>;
    case 'strike': return <s><Run nodes={n.nodes} /></s>;
    case 'spoiler': return <Spoiler nodes={n.nodes} />;
    case 'code': return <code>{n.text}</code>;
    case 'link': return <a href={n.href} target="_blank" rel="noopener noreferrer nofollow">{n.text}</a>;
    case 'all': return <span class="mention">{n.text}</span>;
    case 'role': return <span class="mention tinted" style={{ '--role': colour(roleOf(n.id)?.color ?? 0) || undefined }}>@{names.role(n.id)}</span>;
    case 'user': return (
      <button type="button" class={'mention' + (n.id === me.value?.id ? ' mine' : '')} onClick={() => show('person', n.id)}>@{names.user(n.id)}</button>
    );
    case 'channel': {
      const known = textChannels.value.some((c) => c.id === n.id);
      return known ? <button type="button" class="mention" onClick={() => chooseText(n.id)}>#{names.channel(n.id)}</button> : <span class="mention">#{names.channel(n.id)}</span>;
    }
  }
}

function Spoiler({ nodes }: { nodes: Inline[] }) {
  const [open, set] = useState(false);
  return open ? <span class="spoiler open"><Run nodes={nodes} /></span> : <button type="button" class="spoiler" aria-label="Hidden text, press to show" onClick={() => set(true)}><span aria-hidden="true"><Run nodes={nodes} /></span></button>;
}

/** A person's name in the colour of their highest role, made readable on any ground. */
export function Name({ id, name }: { id: string; name: string }) {
  const c = guild.value ? colour(colourOf(id)) : '';
  return <strong class={c ? 'tinted' : undefined} style={c ? { '--role': c } : undefined}>{name}</strong>;
}
