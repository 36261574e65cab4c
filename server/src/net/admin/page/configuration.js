// Configuration: every option of the asked node. A change goes to the node whose values are shown, never to the next one.

import { carryOut, currentOrigin, nameOf, read, usePassword } from './api.js';
import { openDialog } from './dialog.js';
import { h, morph, problem, table } from './dom.js';
import { plural } from './format.js';
import { announce } from './status.js';
import { follow, state } from './watch.js';

/** What a node gives in the place of a secret. */
const HIDDEN = '(hidden)';

/** A value as it stands in the table; no value is told apart from an empty cell. */
function shown(value) {
  return value === '' ? h('span', { class: 'soft' }, 'empty') : h('code', null, value);
}

const COLUMNS = [
  { title: 'Option', cell: (option) => h('code', null, option.name) },
  { title: 'Value', cell: (option) => shown(option.value) },
  { title: 'Default', cell: (option) => (option.value === option.default ? '' : shown(option.default)) },
  { title: 'Allowed', cell: (option) => option.values },
  { title: 'Meaning', cell: (option) => option.text },
  { title: 'Change', cell: changeButton },
];

function changeButton({ name, changeable }) {
  return changeable && h('button', { type: 'button', 'data-option': name, 'aria-label': `Change ${name}` }, 'Change…');
}

function mount(root, signal) {
  const search = h('input', { type: 'search', placeholder: 'name or meaning', input: show });
  const about = h('p', { class: 'soft', role: 'status' });
  const place = h('div');
  let options = [];
  let asked = null;

  async function load() {
    asked = currentOrigin();
    try {
      options = await read('/debug/config', { at: asked });
      show();
    } catch (error) {
      place.replaceChildren(problem(error));
    }
  }

  function show() {
    const sought = search.value.toLowerCase();
    const found = options.filter((option) => `${option.name} ${option.text}`.toLowerCase().includes(sought));
    about.textContent = `${plural(found.length, 'option')} of ${nameOf(asked)}. Each node has its own.`;
    morph(place, table('Options', COLUMNS, found));
  }

  function change(option) {
    const at = asked;
    const isSecret = option.secret || option.value === HIDDEN;
    // A secret is not known here, so its field begins empty; required, since empty would take the secret away.
    const kind = isSecret ? { type: 'password', autocomplete: 'new-password', required: true } : { type: 'text', autocomplete: 'off' };
    const field = h('input', { ...kind, value: isSecret ? '' : option.value, spellcheck: 'false' });
    return openDialog({
      title: `Change ${option.name}`,
      body: [
        h('p', null, option.text),
        h('label', null, `Value${option.values ? ` (${option.values})` : ''} `, field),
        isSecret && h('p', null, `What it is now is not shown. To have none, send CONFIG SET ${option.name} "" in the console.`),
        h('p', null, `It holds on ${nameOf(at)} alone, at once, and until its process ends. `
          + 'For longer, give it as a flag, in the environment or in the file; for other nodes, change it there.'),
      ],
      action: 'Change it',
      danger: true,
      submit: async () => {
        await carryOut(['CONFIG', 'SET', option.name, field.value], { at });
        if (option.name === 'requirepass') usePassword(field.value);
        announce(`${option.name} is changed.`);
        await load();
      },
    });
  }

  // Rows change under the listener, so it stands above them.
  place.addEventListener('click', (event) => {
    const option = options.find(({ name }) => name === event.target.dataset.option);
    if (option) change(option);
  });
  const refresh = h('button', { type: 'button', click: load }, 'Refresh');
  root.append(h('p', { class: 'bar' }, h('label', null, 'Search ', search), refresh), about, place);
  // Nodes have names once the cluster is known.
  follow(signal, () => {
    if (state.cluster && currentOrigin() !== asked) load();
  });
}

export const configuration = { title: 'Configuration', mount };
