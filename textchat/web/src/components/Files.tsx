import { size } from '../text';
import type { Attachment } from '../types';
import { Close, Doc } from './icons';

/** Files lie with the server that the page came from, under whatever name it is reached. */
function here(url: string): string {
  try {
    const u = new URL(url, location.href);
    return u.pathname.startsWith('/attachments/') ? u.pathname + u.search : u.href;
  } catch { return '#'; }
}

const WIDE = 440, HIGH = 320; // pixels a picture takes at most

/** What came with a message: pictures and sounds are shown, the rest can be fetched. */
export function Files({ list }: { list: readonly Attachment[] }) {
  return <div class="files">{list.map((a) => <One key={a.id} a={a} />)}</div>;
}

function One({ a }: { a: Attachment }) {
  const url = here(a.url);
  const type = a.content_type ?? '';
  if (/^image\/(png|jpeg|gif|webp|avif)/.test(type)) {
    const scale = a.width && a.height ? Math.min(1, WIDE / a.width, HIGH / a.height) : 0;
    return (
      <a class="picture" href={url} target="_blank" rel="noopener noreferrer" aria-label={`Picture ${a.filename}, open it in full`}>
        <img src={url} alt={a.description ?? a.filename} loading="lazy" decoding="async" width={scale ? Math.round(a.width! * scale) : undefined} height={scale ? Math.round(a.height! * scale) : undefined} />
      </a>
    );
  }
  if (type.startsWith('audio/')) return <audio controls preload="none" src={url} aria-label={a.filename} />;
  if (type.startsWith('video/')) return <video controls preload="metadata" src={url} aria-label={a.filename} />;
  return <a class="file" href={url} download={a.filename} aria-label={`File ${a.filename}, ${size(a.size)}`}><Doc /><span><strong>{a.filename}</strong><small>{size(a.size)}</small></span></a>;
}

/** Files of a message on its way out, and how far they are. */
export function Leaving({ files, progress, onStop }: { files: readonly File[]; progress?: number; onStop?: () => void }) {
  return (
    <div class="files">
      {files.map((f, i) => <p class="file" key={i}><Doc /><span><strong>{f.name}</strong><small>{size(f.size)}</small></span></p>)}
      {progress !== undefined && (
        <p class="going"><progress max={1} value={progress} aria-label="Upload" />{Math.round(progress * 100)} %{onStop && <button class="icon" aria-label="Stop the upload" onClick={onStop}><Close /></button>}</p>
      )}
    </div>
  );
}

/** Files chosen but not sent yet. */
export function Chosen({ files, drop }: { files: readonly File[]; drop(i: number): void }) {
  return (
    <ul class="files chosen" aria-label="Files to send">
      {files.map((f, i) => (
        <li class="file" key={f.name + i}><Doc /><span><strong>{f.name}</strong><small>{size(f.size)}</small></span><button type="button" class="icon" aria-label={`Remove ${f.name}`} onClick={() => drop(i)}><Close /></button></li>
      ))}
    </ul>
  );
}
