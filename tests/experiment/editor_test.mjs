// What an editor shows with our schema: diagnostics, completion and hover of a headless
// yaml-language-server. `./dev lint` runs it, and not ./dev test, because the server comes from npm:
//
//   npm install --prefix DIR yaml-language-server
//   build/bin/firedrill schema > DIR/experiment.schema.json
//   node tests/experiment/editor_test.mjs DIR
import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {copyFileSync, mkdtempSync, readFileSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {dirname, join} from 'node:path';
import {fileURLToPath, pathToFileURL} from 'node:url';

const tools = process.argv[2];
if (!tools) {
  console.error('usage: node editor_test.mjs DIR (with node_modules and experiment.schema.json)');
  process.exit(2);
}
const here = dirname(fileURLToPath(import.meta.url));
const valid = readFileSync(join(here, 'valid/unclosed-connections.yaml'), 'utf8');

// A language server on stdio; messages are framed by Content-Length.
class Server {
  constructor(folder) {
    this.folder = folder;
    this.child = spawn(process.execPath,
                       [join(tools, 'node_modules/yaml-language-server/bin/yaml-language-server'), '--stdio'],
                       {stdio: ['pipe', 'pipe', 'inherit']});
    this.buffer = Buffer.alloc(0);
    this.answers = new Map();
    this.diagnostics = new Map();
    this.number = 0;
    this.child.stdout.on('data', (data) => this.#take(data));
  }

  #take(data) {
    this.buffer = Buffer.concat([this.buffer, data]);
    for (;;) {
      const end = this.buffer.indexOf('\r\n\r\n');
      if (end < 0) return;
      const length = Number(/Content-Length: (\d+)/i.exec(this.buffer.toString('utf8', 0, end))[1]);
      if (this.buffer.length < end + 4 + length) return;
      const message = JSON.parse(this.buffer.toString('utf8', end + 4, end + 4 + length));
      this.buffer = this.buffer.subarray(end + 4 + length);
      this.#handle(message);
    }
  }

  #handle(message) {
    if (message.method === 'textDocument/publishDiagnostics') {
      this.diagnostics.get(message.params.uri)?.(message.params.diagnostics);
    } else if (message.method === 'workspace/configuration') {
      this.#send({id: message.id, result: message.params.items.map(() => ({validate: true, completion: true, hover: true}))});
    } else if (message.method !== undefined && message.id !== undefined) {
      this.#send({id: message.id, result: null});
    } else if (message.id !== undefined) {
      this.answers.get(message.id)?.(message);
    }
  }

  #send(message) {
    const body = JSON.stringify({jsonrpc: '2.0', ...message});
    this.child.stdin.write(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  }

  notify(method, params) { this.#send({method, params}); }

  ask(method, params) {
    const id = ++this.number;
    return new Promise((resolve, reject) => {
      this.answers.set(id, (m) => m.error ? reject(new Error(m.error.message)) : resolve(m.result));
      this.#send({id, method, params});
    });
  }

  async start() {
    await this.ask('initialize', {
      processId: process.pid,
      rootUri: pathToFileURL(this.folder).href,
      capabilities: {workspace: {configuration: true}, textDocument: {hover: {contentFormat: ['markdown']}, completion: {}}},
    });
    this.notify('initialized', {});
  }

  // Opens a text and waits for what is wrong with it.
  open(name, text) {
    const uri = pathToFileURL(join(this.folder, name)).href;
    return new Promise((resolve) => {
      this.diagnostics.set(uri, (diagnostics) => resolve({uri, diagnostics}));
      this.notify('textDocument/didOpen', {textDocument: {uri, languageId: 'yaml', version: 1, text}});
    });
  }
}

// Where `mark` stands in the text, plus `by` characters.
function placeOf(text, mark, by = 0) {
  const at = text.indexOf(mark);
  assert.ok(at >= 0, `no '${mark}'`);
  const before = text.slice(0, at + by).split('\n');
  return {line: before.length - 1, character: before.at(-1).length};
}

const folder = mkdtempSync(join(tmpdir(), 'firedrill-editor-'));
copyFileSync(join(tools, 'experiment.schema.json'), join(folder, 'experiment.schema.json'));
const server = new Server(folder);
const watchdog = setTimeout(() => { console.error('no answer within 60 s'); process.exitCode = 1; stop(); }, 60_000);
function stop() {
  clearTimeout(watchdog);
  server.child.kill();
  rmSync(folder, {recursive: true, force: true});
}

async function squiggle(name, before, after, words) {
  const text = valid.replace(before, after);
  assert.notEqual(text, valid);
  const {diagnostics} = await server.open(`${name}.yaml`, text);
  const line = placeOf(text, after).line;
  const found = diagnostics.filter((d) => d.range.start.line === line && d.message.includes(words));
  assert.ok(found.length > 0, `${name}: ${JSON.stringify(diagnostics, null, 1)}`);
  console.log(`ok  squiggle: ${name}: ${found[0].message.split('\n')[0]}`);
}

async function complete(name, text, place, wanted) {
  const {uri} = await server.open(`${name}.yaml`, text);
  const answer = await server.ask('textDocument/completion', {textDocument: {uri}, position: place});
  const labels = (answer.items ?? answer).map((item) => item.label);
  for (const label of wanted) assert.ok(labels.includes(label), `${name}: ${label} not in ${labels}`);
  console.log(`ok  completion: ${name}: ${wanted.join(', ')}`);
}

try {
  await server.start();
  const {uri, diagnostics} = await server.open('valid.yaml', valid);
  assert.deepEqual(diagnostics, []);
  console.log('ok  no squiggle in a valid definition');

  await squiggle('misspelt key', 'maxDuration: 5m', 'maxDuraton: 5m', 'maxDuraton');
  await squiggle('unknown enum value', 'state: idleInTransaction', 'state: sleeping', 'idleInTransaction');
  await squiggle('duration without a unit', 'startingDeadline: 60s', 'startingDeadline: 60', 'string');
  await squiggle('share above its bound', 'fillTo: 1.0', 'fillTo: 1.5', '1');
  await squiggle('page outside guardrails', '{name: slots-free,', '{name: slots-free, page: unexpected,', 'page');
  await squiggle('two kinds in one step', 'terminateSessions: {profile: dba, user: shop}',
                 'terminateSessions: {profile: dba, user: shop}, holdConnections: {profile: dba, count: 1}', 'multiple schemas');

  const step = valid.replace('  remedies:\n', '    - name: more\n      \n  remedies:\n');
  await complete('keys of a fault step', step, placeOf(step, '    - name: more\n      ', 23),
                 ['target', 'duration', 'holdConnections', 'terminateSessions']);
  const state = valid.replace('  remedies:\n', '    - name: more\n      holdConnections:\n        state: \n  remedies:\n');
  await complete('values of an enum', state, placeOf(state, '        state: \n', 15),
                 ['idle', 'idleInTransaction', 'active']);

  const hover = await server.ask('textDocument/hover', {textDocument: {uri}, position: placeOf(valid, 'fillTo', 2)});
  assert.match(JSON.stringify(hover), /share of the usable slots/);
  console.log('ok  hover: the comment of fillTo');
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  stop();
}
