// Keys: a list by prefix and range, page by page, and one key at a time: its value, when it goes, its revision; edit, create, delete.
// Keys are bytes throughout. What is edited or deleted is what was seen: every change carries the revision (If-Match), so that a change
// that somebody else made meanwhile is met and not overwritten.
// Where a person types a key or a part of one, it may stand in quotes, as keys that are no text are shown.
// The view's place (database, bounds, page) lasts as long as the page is open, and stands nowhere else.

import { read, withQuery, write } from './api.js';
import { beginning, decode, FORMS, fromApi, fromReadable, keyPath, prettyJson, readable } from './bytes.js';
import { confirmAction, openDialog } from './dialog.js';
import { choice, facts, h, problem, table } from './dom.js';
import { bytes, count, duration, time } from './format.js';
import { announce } from './status.js';
import { follow, state } from './watch.js';

const DATABASES = Array.from({ length: 16 }, (_, number) => String(number));
const LIMITS = ['25', '100', '500'];
/** Longer values are fetched on demand, and are not edited here. */
const VALUE_BYTES_MAX = 1 << 20;
/** A multiple of three, so that base64 ends without padding. */
const SHOWN_BYTES_MAX = 48 << 10;
const SHOWN_CHARACTERS_MAX = 1 << 16;
const VALUE_MS = 60_000;
const QUOTED = 'A key that is no text, or empty, is written in double quotes: "\\xff" is one byte, "" none.';

const place = { db: '0', prefix: '', start: '', end: '', limit: LIMITS[0], reverse: false, cursors: [null] };

// --- One key -----------------------------------------------------------------------------------------------------------------------------

/** A key as it was read: `deadlineMs` is by this machine's clock, null for none. */
async function readKey(db, key) {
  const found = await read(withQuery(keyPath(key), { db }), { timeoutMs: VALUE_MS });
  const value = fromApi(found.value, found.encoding);
  return { db, key, value, revision: found.revision, deadlineMs: found.ttl == null ? null : Date.now() + found.ttl * 1000 };
}

function putKey({ db, key, value, ttl, condition }) {
  const headers = { 'Content-Type': 'application/octet-stream', ...condition };
  return write(withQuery(keyPath(key), { db, ttl }), { method: 'PUT', headers, body: value });
}

function deleteKey({ db, key, revision }) {
  return write(withQuery(keyPath(key), { db }), { method: 'DELETE', headers: ifMatch(revision) });
}

function ifMatch(revision) {
  return { 'If-Match': `"${revision}"` };
}

function when(deadlineMs) {
  if (deadlineMs === null) return 'never';
  return `in ${duration(Math.max(0, Math.round((deadlineMs - Date.now()) / 1000)))}, at ${time(deadlineMs)}`;
}

/** The ways in which a value can be shown, the most telling one first: names, and what makes the text. Of a long value only the beginning is
 * made, since hexadecimal takes an array of strings. */
function presentations(value) {
  const shown = beginning(value, SHOWN_BYTES_MAX);
  const cut = shown.length < value.length ? `The first ${count(shown.length)} bytes of ${count(value.length)}.` : '';
  const forms = FORMS.filter((form) => form.fits(value)).map(({ name, show }) => [name, () => ({ text: show(shown), cut })]);
  const pretty = value.length > VALUE_BYTES_MAX ? null : prettyJson(decode(value) ?? '');
  return new Map(pretty === null ? forms : [['JSON', () => beginningOfText(pretty)], ...forms]);
}

function beginningOfText(all) {
  const cut = all.length > SHOWN_CHARACTERS_MAX ? `The first ${count(SHOWN_CHARACTERS_MAX)} characters of ${count(all.length)}.` : '';
  return { text: all.slice(0, SHOWN_CHARACTERS_MAX), cut };
}

function showValue(value) {
  const texts = presentations(value);
  const text = h('pre', { class: 'value', tabindex: '0', 'aria-label': 'Value' });
  const cut = h('p', { class: 'soft' });
  const form = choice({ change: show }, [...texts.keys()].map((name) => [name, name]));

  function show() {
    const made = texts.get(form.value)();
    text.textContent = made.text;
    cut.textContent = made.cut;
  }

  show();
  return [h('p', null, h('label', null, 'As ', form)), text, cut];
}

// --- Create and edit ---------------------------------------------------------------------------------------------------------------------

/** The field of a value, and the form in which it is written. */
function valueField(value) {
  const usable = FORMS.filter((form) => form.fits(value));
  const form = choice({ change: rewrite }, usable.map(({ name }) => [name, name]));
  const field = h('textarea', { rows: '10', spellcheck: 'false', input: () => field.setCustomValidity('') });
  let inUse = usable[0];
  field.value = inUse.show(value);

  /** Writes what is in the field in another form, if it has one. */
  function rewrite() {
    const wanted = FORMS.find(({ name }) => name === form.value);
    field.setCustomValidity('');
    try {
      const written = inUse.parse(field.value);
      if (!wanted.fits(written)) throw new Error('These bytes are no text that can be edited.');
      field.value = wanted.show(written);
      inUse = wanted;
    } catch (error) {
      form.value = inUse.name;
      field.setCustomValidity(error.message);
      field.reportValidity();
    }
  }

  const element = [h('label', null, 'Value ', field), h('label', null, 'written as ', form)];
  return { element, bytes: () => inUse.parse(field.value) };
}

/** The field of a time to live. What is left alone keeps the deadline, however long the dialog is open. */
function ttlField(deadlineMs) {
  const left = () => Math.max(0.001, (deadlineMs - Date.now()) / 1000);
  const before = deadlineMs === null ? '' : String(Math.ceil(left()));
  const field = h('input', { type: 'number', min: '0', step: 'any', value: before, placeholder: 'never' });
  const seconds = () => {
    if (field.value === before) return deadlineMs === null ? null : left();
    if (field.value !== '' && Number(field.value) <= 0) throw new Error('A time to live is more than 0 seconds.');
    return field.value === '' ? null : Number(field.value);
  };
  return { element: h('label', null, 'Expires after ', field, ' seconds'), seconds };
}

// `done` is told the key that is to be shown, or null. It is not waited for: it moves the focus, which the dialog holds until it is closed.

/** Creates a key; it must not exist. */
function create(db, done) {
  const name = h('input', { type: 'text', spellcheck: 'false', autocomplete: 'off', required: true });
  const value = valueField(new Uint8Array());
  const ttl = ttlField(null);
  return openDialog({
    title: `New key in database ${db}`,
    body: [h('label', null, 'Key ', name), h('p', { class: 'soft' }, QUOTED), value.element, ttl.element],
    action: 'Create',
    submit: async () => {
      const key = fromReadable(name.value);
      try {
        await putKey({ db, key, value: value.bytes(), ttl: ttl.seconds(), condition: { 'If-None-Match': '*' } });
      } catch (error) {
        if (error.code === 'precondition_failed') error.message = 'There is a key of this name already.';
        throw error;
      }
      announce('The key is created.');
      done(key);
    },
  });
}

/** Edits a key. When somebody else has changed it meanwhile, the present value is shown, and saving again means to overwrite that. */
function edit(seen, done) {
  const value = valueField(seen.value);
  const ttl = ttlField(seen.deadlineMs);
  const present = h('div', { 'aria-live': 'polite' });
  let { revision } = seen;

  async function showPresent(error) {
    try {
      const found = await readKey(seen.db, seen.key);
      revision = found.revision;
      present.replaceChildren(h('h3', null, `What is there now, revision ${count(revision)}`), ...showValue(found.value));
      error.message = 'Somebody changed the key while you edited it. Save again to overwrite what is there now, or cancel.';
    } catch (gone) {
      error.message = gone.code === 'not_found' ? 'Somebody deleted the key while you edited it, or it has expired.' : gone.message;
    }
  }

  return openDialog({
    title: `Edit ${readable(seen.key)}`,
    body: [value.element, ttl.element, present],
    action: 'Save',
    submit: async () => {
      try {
        await putKey({ ...seen, value: value.bytes(), ttl: ttl.seconds(), condition: ifMatch(revision) });
      } catch (error) {
        if (error.code === 'precondition_failed') await showPresent(error);
        throw error;
      }
      announce('The key is saved.');
      done(seen.key);
    },
  });
}

function remove(seen, done) {
  return confirmAction({
    title: 'Delete this key?',
    consequences: [
      `${readable(seen.key)} in database ${seen.db}, ${bytes(seen.value.length)}, goes for all clients of the cluster.`,
      'There is no way back.',
    ],
    action: 'Delete',
    submit: async () => {
      try {
        await deleteKey(seen);
      } catch (error) {
        if (error.code === 'precondition_failed') error.message = 'Somebody changed the key meanwhile. Cancel, and look at it again.';
        throw error;
      }
      announce('The key is deleted.');
      done(null);
    },
  });
}

// --- The view ----------------------------------------------------------------------------------------------------------------------------

function mount(root, signal) {
  const list = h('section', { 'aria-label': 'List of keys', tabindex: '-1' });
  const detail = h('section', { 'aria-label': 'Key', class: 'detail' });
  // An answer counts only while nothing else was asked for.
  let listings = 0;
  let openings = 0;

  async function load() {
    const { cursors, ...others } = place;
    const bounds = Object.fromEntries(['prefix', 'start', 'end'].map((name) => [name, fromReadable(place[name])]));
    const listing = (listings += 1);
    list.setAttribute('aria-busy', 'true');
    try {
      // Values may be large; the one that is wanted is fetched alone.
      const found = await read(withQuery('/kv', { ...others, ...bounds, cursor: cursors.at(-1), values: 'false' }));
      if (listing === listings) list.replaceChildren(...showList(found));
    } catch (error) {
      if (listing === listings) list.replaceChildren(problem(error));
    }
    if (listing === listings) list.removeAttribute('aria-busy');
  }

  function turn(cursors) {
    place.cursors = cursors;
    return load();
  }

  function openButton(item) {
    const key = fromApi(item.key, item.key_encoding);
    return h('button', { type: 'button', class: 'link', click: () => open(key, item) }, readable(key));
  }

  function showList({ items, cursor }) {
    const columns = [
      { title: 'Key', cell: openButton },
      { title: 'Type', cell: (item) => item.type },
      { title: 'Size', numeric: true, cell: (item) => bytes(item.size) },
      { title: 'TTL', numeric: true, cell: (item) => duration(item.ttl) },
      { title: 'Revision', numeric: true, cell: (item) => count(item.revision) },
    ];
    const back = place.cursors.length > 1 && h('button', { type: 'button', click: () => turn(place.cursors.slice(0, -1)) }, 'Previous page');
    const on = cursor && h('button', { type: 'button', click: () => turn([...place.cursors, cursor]) }, 'Next page');
    const nothing = h('p', { class: 'soft' }, 'No key fits.');
    const pages = h('p', { class: 'bar' }, back, on, h('span', { class: 'soft' }, `Page ${place.cursors.length}`));
    return [items.length > 0 ? table('Keys', columns, items) : nothing, pages];
  }

  /** Opens a key of the list. A long value is fetched only when somebody wants it. */
  function open(key, item) {
    const { db } = place;
    const known = facts([['Type', item.type], ['Size', bytes(item.size)], ['Revision', count(item.revision)]]);
    if (item.type !== 'string') {
      show(key, [known, h('p', null, 'This page does not show values of this type.')]);
    } else if (item.size > VALUE_BYTES_MAX) {
      show(key, [known, h('p', null, h('button', { type: 'button', click: () => openString(db, key) }, `Fetch ${bytes(item.size)}`))]);
    } else {
      openString(db, key);
    }
  }

  async function openString(db, key) {
    const opening = (openings += 1);
    try {
      const seen = await readKey(db, key);
      if (opening !== openings) return;
      const isEditable = seen.value.length <= VALUE_BYTES_MAX;
      const buttons = h('p', { class: 'bar' },
        isEditable && h('button', { type: 'button', click: () => edit(seen, changed) }, 'Edit…'),
        h('button', { type: 'button', click: () => remove(seen, changed) }, 'Delete…'),
        h('button', { type: 'button', click: close }, 'Close'));
      const known = facts([
        ['Type', 'string'],
        ['Size', `${count(seen.value.length)} bytes`],
        ['Expires', when(seen.deadlineMs)],
        ['Revision', count(seen.revision)],
      ]);
      show(key, [known, buttons, ...showValue(seen.value)]);
    } catch (error) {
      if (error.code === 'not_found') error.message = 'This key is not there any more.';
      if (opening === openings) show(key, [problem(error)]);
    }
  }

  function show(key, content) {
    const heading = h('h2', { tabindex: '-1' }, readable(key));
    detail.replaceChildren(heading, ...content);
    heading.focus(); // Which on a phone also brings it into sight, below the list.
  }

  function close() {
    openings += 1;
    detail.replaceChildren();
    list.focus();
  }

  /** After a change: the list anew, and the key that was changed, unless it is gone. */
  async function changed(key) {
    await load();
    if (key) await openString(place.db, key);
    else close();
  }

  root.append(bounds(() => turn([null]), () => create(place.db, changed), signal),
    h('p', { class: 'soft' }, QUOTED),
    h('div', { class: 'browser' }, list, detail));
  load();
}

/** The form that says which keys are listed. */
function bounds(search, createKey, signal) {
  const plainly = { type: 'text', spellcheck: 'false', autocomplete: 'off', autocapitalize: 'off' };
  const text = (name, label, placeholder) => h('label', null, label, ' ', h('input', { ...plainly, name, value: place[name], placeholder }));
  const db = choice({ name: 'db' }, DATABASES.map((number) => [number, number]), place.db);
  const reverse = h('input', { type: 'checkbox', name: 'reverse', checked: place.reverse });

  function submit(event) {
    event.preventDefault();
    const given = new FormData(form);
    for (const name of ['db', 'prefix', 'start', 'end', 'limit']) place[name] = given.get(name);
    place.reverse = reverse.checked;
    search();
  }

  const form = h('form', { class: 'bar', submit },
    h('label', null, 'Database ', db),
    text('prefix', 'Prefix', 'any'),
    text('start', 'From', 'the first'),
    text('end', 'To before', 'the end'),
    h('label', null, reverse, ' backwards'),
    h('label', null, 'Per page ', choice({ name: 'limit' }, LIMITS.map((limit) => [limit, limit]), place.limit)),
    h('button', { type: 'submit', class: 'primary' }, 'Show'),
    h('button', { type: 'button', click: createKey }, 'New key…'));
  db.addEventListener('change', () => form.requestSubmit());
  follow(signal, () => {
    for (const option of db.options) {
      const held = state.stats?.keys[option.value]?.keys;
      const label = held ? `${option.value} · ${count(held)} keys` : option.value;
      if (option.textContent !== label) option.textContent = label;
    }
  });
  return form;
}

export const keys = { title: 'Keys', mount };
