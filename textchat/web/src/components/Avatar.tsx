import { hue, initials } from '../text';
import type { Status } from '../types';

/** Initials on a colour that is the person's own, with a dot that tells whether they are here. */
export function Avatar({ id, name, status }: { id: string; name: string; status?: Status }) {
  return <span class="avatar" style={{ '--hue': hue(id) }} aria-hidden="true">{initials(name)}{status && <i class={'status ' + status} />}</span>;
}
