// Builds the page into a temporary folder and fails unless it is, byte for byte,
// the one in dist/ that the binary carries.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';

const files = (dir) => readdirSync(dir, { recursive: true, withFileTypes: true })
  .filter((e) => e.isFile()).map((e) => relative(dir, join(e.parentPath ?? e.path, e.name))).sort();
const fresh = mkdtempSync(join(tmpdir(), 'voicefleet-page-'));
try {
  execFileSync('npx', ['vite', 'build', '--outDir', fresh, '--emptyOutDir', '--logLevel', 'error'], { stdio: 'inherit' });
  const want = files(fresh), have = files('dist');
  const stale = [...new Set([...want, ...have])].filter((f) => !want.includes(f) || !have.includes(f) || !readFileSync(join(fresh, f)).equals(readFileSync(join('dist', f))));
  if (stale.length) {
    console.error(`dist/ is not what src/ builds to: ${stale.join(', ')}\nRun: make web, and commit textchat/web/dist.`);
    process.exit(1);
  }
  console.log(`dist/ is current: ${want.length} files`);
} finally {
  rmSync(fresh, { recursive: true, force: true });
}
