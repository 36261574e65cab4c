// Slow log: the commands that took longest on the asked node. Neither keys nor values are in it.

import { carryOut, currentOrigin, nameOf, read, withQuery } from './api.js';
import { confirmAction } from './dialog.js';
import { choice, h, problem, table } from './dom.js';
import { bytes, count, short, time } from './format.js';
import { announce } from './status.js';
import { follow, state } from './watch.js';

const COUNTS = ['32', '128', '1024'];

const COLUMNS = [
  { title: 'Time', cell: (entry) => time(entry.time_ms) },
  { title: 'Took', numeric: true, cell: (entry) => `${short(entry.duration_us / 1000)} ms` },
  { title: 'Command', cell: (entry) => h('code', null, entry.command) },
  { title: 'Arguments', numeric: true, cell: (entry) => count(entry.arguments) },
  { title: 'Size', numeric: true, cell: (entry) => bytes(entry.bytes) },
  { title: 'Client', cell: (entry) => entry.client },
  { title: 'Entry', numeric: true, cell: (entry) => count(entry.id) },
];

function mount(root, signal) {
  const about = h('p', { class: 'soft', role: 'status' });
  const place = h('div');
  let asked = null;
  const limit = choice({ change: load }, COUNTS.map((value) => [value, value]), COUNTS[0]);

  async function load() {
    asked = currentOrigin();
    const node = nameOf(asked);
    try {
      const entries = await read(withQuery('/debug/slowlog', { count: limit.value }), { at: asked });
      const nothing = `No command was slow enough on ${node} since its log was last emptied.`;
      about.textContent = entries.length === 0 ? nothing : `Slow commands on ${node}, newest first. Each node has its own.`;
      place.replaceChildren(entries.length === 0 ? '' : table('Slow commands', COLUMNS, entries));
    } catch (error) {
      place.replaceChildren(problem(error));
    }
  }

  function empty() {
    const at = asked;
    return confirmAction({
      title: 'Empty the slow log?',
      consequences: [`The slow log of ${nameOf(at)} forgets its entries. Other nodes keep theirs.`],
      action: 'Empty it',
      submit: async () => {
        await carryOut(['SLOWLOG', 'RESET'], { at });
        announce('The slow log is empty.');
        await load();
      },
    });
  }

  root.append(
    h('p', { class: 'bar' }, h('label', null, 'Newest ', limit),
      h('button', { type: 'button', click: load }, 'Refresh'),
      h('button', { type: 'button', click: empty }, 'Empty…')),
    about, place);
  // Nodes have names once the cluster is known.
  follow(signal, () => {
    if (state.cluster && currentOrigin() !== asked) load();
  });
}

export const slowLog = { title: 'Slow log', mount };
