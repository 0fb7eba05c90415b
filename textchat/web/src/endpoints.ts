/**
 * Where the voice gateways of a VOICE_SERVER_UPDATE are, best first. An entry
 * without a host stands for the host this page came from. The page's own scheme
 * is kept where the host is its own: only there its certificate is trusted, or
 * plain http is fine.
 */
export function voiceUrls(at: { protocol: string; hostname: string; port: string }, endpoint: string | null, endpoints: string[] = []): string[] {
  const list = endpoints.length ? endpoints : endpoint ? [endpoint] : [];
  const own = at.port || (at.protocol === 'https:' ? '443' : '80');
  const host = at.hostname.includes(':') && !at.hostname.startsWith('[') ? `[${at.hostname}]` : at.hostname;
  const scheme = at.protocol === 'http:' ? 'ws' : 'wss';
  return list.map((e) => {
    if (!e.startsWith(':')) return `wss://${e}/?v=8`;
    const port = e.slice(1) || own;
    return `${scheme}://${host}:${port}/?v=8`;
  });
}
