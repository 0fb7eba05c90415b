import { defineConfig } from 'vite';

export default defineConfig({
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  // The console is a page of its own, so that it costs the others nothing.
  build: { target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false }, reportCompressedSize: false, rollupOptions: { input: ['index.html', 'fleet.html'] } },
  server: { proxy: { '/api': 'http://localhost:8443', '/gateway': { target: 'ws://localhost:8443', ws: true } } },
});
