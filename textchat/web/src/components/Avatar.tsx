import { hue, initials } from '../text';
import type { Status } from '../types';

/**
 * Initials on a colour that is the person's own, with a dot that tells whether
 * they are here. The letters are drawn, not written: whoever listens hears the name.
 */
export function Avatar({ id, name, status }: { id: string; name: string; status?: Status }) {
  return <span class="avatar" style={{ '--hue': hue(id) }} aria-hidden="true"><b data-drawn={initials(name)} />{status && <i class={'status ' + status} />}</span>;
}
