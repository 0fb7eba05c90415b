/** Initials on a colour that is the person's own. */
export function Avatar({ id, name, ring }: { id: string; name: string; ring?: boolean }) {
  const hue = Number(BigInt(id || '0') % 360n);
  const initials = name.split(/\s+/).map((w) => [...w][0] ?? '').join('').slice(0, 2).toUpperCase();
  return <span class={'avatar' + (ring ? ' ring' : '')} style={`--hue:${hue}`} aria-hidden="true">{initials}</span>;
}
