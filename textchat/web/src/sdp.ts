/** Asks for resends of lost Opus packets: adds `nack` feedback to the Opus payload of each audio section (RFC 4585, 4.2). */
export function withNack(sdp: string): string {
  return sdp
    .split(/(?=^m=)/m)
    .map((section) => {
      if (!section.startsWith('m=audio')) return section;
      const opus = /^a=rtpmap:(\d+) opus\/48000/im.exec(section)?.[1];
      if (!opus || new RegExp(`^a=rtcp-fb:${opus} nack\\r?$`, 'm').test(section)) return section;
      return section.replace(new RegExp(`^(a=rtpmap:${opus} opus/48000.*)(\\r\\n)`, 'im'), `$1$2a=rtcp-fb:${opus} nack$2`);
    })
    .join('');
}

/** The names of the sections, in their order. */
export const midsOf = (sdp: string) => [...sdp.matchAll(/^a=mid:(.*?)\r?$/gm)].map((m) => m[1]!);
