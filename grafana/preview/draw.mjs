// node grafana/preview/draw.mjs DASHBOARD.json ANSWERS.json PICTURE.png
// Bundles the preview, opens it in a real Chromium and takes its picture. Errors on the page's console fail it.
import { build } from 'esbuild';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const [dashboardFile, answersFile, picture] = process.argv.slice(2);
if (!picture) {
  console.error('usage: node draw.mjs DASHBOARD.json ANSWERS.json PICTURE.png');
  process.exit(2);
}
const dashboard = JSON.parse(readFileSync(dashboardFile, 'utf8'));
const answers = JSON.parse(readFileSync(answersFile, 'utf8'));
const note = "A preview with Grafana's own components, of real answers: not a screenshot of Grafana.";
// Grafana's CommonJS build: its ES modules import CommonJS ones in a way that only its own bundler reads
const commonjs = {
  name: 'commonjs',
  setup: ({ onResolve }) =>
    onResolve({ filter: /^@grafana\/(ui|data|schema)(\/unstable)?$/ }, ({ path }) => {
      const [, name, part] = path.split('/');
      return { path: join(here, `node_modules/@grafana/${name}/dist/cjs/${part ?? 'index'}.cjs`) };
    }),
};
const folder = mkdtempSync(join(tmpdir(), 'preview-'));
try {
  await build({
    entryPoints: [join(here, 'src/preview.jsx')], outfile: join(folder, 'preview.js'), bundle: true, format: 'esm', jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"production"', global: 'window' }, loader: { '.svg': 'dataurl', '.png': 'dataurl', '.woff': 'dataurl', '.woff2': 'dataurl', '.ttf': 'dataurl' },
    plugins: [commonjs],
    logLevel: 'error',
  });
  const data = JSON.stringify({ dashboard, answers, note }).replace(/</g, '\\u003c');
  const script = readFileSync(join(folder, 'preview.js'), 'utf8').replace(/<\/script/g, '<\\/script');
  const style = readFileSync(join(folder, 'preview.css'), 'utf8');
  const page = `<!doctype html><meta charset="utf-8"><style>${style}</style><body><div id="page"></div><script>Date.now=()=>${answers.to * 1000};window.preview=${data}</script><script type="module">${script}</script>`;
  writeFileSync(join(folder, 'page.html'), page);
  const rows = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  const browser = process.env.CHROMIUM ?? 'chromium';
  const run = spawnSync(browser, [
    '--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--allow-file-access-from-files', '--enable-logging=stderr',
    `--user-data-dir=${join(folder, 'profile')}`, `--window-size=1600,${110 + rows * 38}`, '--virtual-time-budget=8000',
    `--screenshot=${resolve(picture)}`, `file://${join(folder, 'page.html')}`,
  ], { encoding: 'utf8', timeout: 120_000 });
  const said = run.stderr.split('\n').filter((line) => line.includes('CONSOLE') && /Uncaught|Error|error/.test(line));
  said.forEach((line) => console.error(line));
  if (run.status !== 0 || said.length > 0) process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
