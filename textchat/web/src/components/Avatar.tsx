import { hue, initials } from '../text';

/** Initials on a colour that is the person's own. */
export function Avatar({ id, name }: { id: string; name: string }) {
  return <span class="avatar" style={{ '--hue': hue(id) }} aria-hidden="true">{initials(name)}</span>;
}
