// Which line of the log is under the pointer, and which has the focus: their
// tools are shown, and only theirs.
import { signal } from '@preact/signals';

export const hovered = signal('');
export const focused = signal('');
