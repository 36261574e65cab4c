// Console: commands of Redis, typed and answered as in redis-cli. The history lasts as long as the tab, without commands that hold a
// password. What was printed stays while other views are shown.

import { command } from './api.js';
import { printReply, split } from './command_line.js';
import { h, morph } from './dom.js';
import { recall, remember } from './session.js';
import { follow, state } from './watch.js';

const DATABASES = 16;
const ENTRIES_MAX = 500;
const HISTORY_MAX = 200;
/** Longer than `request-timeout` and than WAIT usually waits. */
const PATIENCE_MS = 60_000;
const SECRET = /^\s*(auth|hello|config\s+set\b.*(pass|secret))\b/i;

const log = h('div', { class: 'log', role: 'log', 'aria-label': 'Commands and replies', tabindex: '0' });
const history = JSON.parse(recall('history') ?? '[]');
let database = 0;

function keep(line) {
  if (SECRET.test(line) || history.at(-1) === line) return;
  history.push(line);
  history.splice(0, history.length - HISTORY_MAX);
  remember('history', JSON.stringify(history));
}

function prompt() {
  return `node ${state.cluster?.node_id ?? '?'}${database === 0 ? '' : `[${database}]`}>`;
}

/** What is printed for a line. */
async function answer(words) {
  const [name, argument] = [words[0].toLowerCase(), Number(words[1])];
  if (name === 'select') {
    // The database belongs to the connection, and here every command has its own.
    const isKnown = words.length === 2 && Number.isInteger(argument) && argument >= 0 && argument < DATABASES;
    if (isKnown) database = argument;
    return isKnown ? 'OK' : '(error) ERR DB index is out of range';
  }
  try {
    return printReply(words, await command(words, { db: database, timeoutMs: PATIENCE_MS }));
  } catch (error) {
    return `(error) ${error.message}${error.executed ? ` executed: ${error.executed}` : ''}`;
  }
}

async function carryOut(line) {
  let words;
  const printed = h('pre', { class: 'reply' });
  const typed = h('pre', { class: 'command' }, `${prompt()} ${SECRET.test(line) ? '(not shown)' : line}`);
  const entry = h('div', { class: 'entry' }, typed, printed);
  try {
    words = split(line);
    if (words.length === 0) return;
    if (words.length === 1 && words[0].toLowerCase() === 'clear') {
      log.replaceChildren();
      return;
    }
  } catch (error) {
    printed.textContent = error.message;
  }
  log.append(entry);
  while (log.childElementCount > ENTRIES_MAX) log.firstElementChild.remove();
  if (words) printed.textContent = await answer(words);
  printed.classList.toggle('error', printed.textContent.startsWith('(error)'));
  log.scrollTop = log.scrollHeight;
}

function mount(root, signal) {
  const label = h('label', { for: 'command', class: 'prompt' });
  const plainly = { type: 'text', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false' };
  const field = h('input', { id: 'command', ...plainly, keydown: recallLine });
  /** Place in the history; its length is the line being typed. */
  let place = history.length;
  let draft = '';

  function recallLine(event) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    if (place === history.length) draft = field.value;
    place = Math.min(history.length, Math.max(0, place + step));
    field.value = history[place] ?? draft;
    field.setSelectionRange(field.value.length, field.value.length);
  }

  async function send(event) {
    event.preventDefault();
    const line = field.value;
    keep(line);
    place = history.length;
    field.value = '';
    await carryOut(line);
    morph(label, prompt());
  }

  root.append(log,
    h('form', { class: 'console', submit: send }, label, field, h('button', { type: 'submit', class: 'primary' }, 'Send')),
    h('p', { class: 'soft' }, 'Arrow keys recall earlier commands. SELECT changes the database, CLEAR empties this page; '
      + 'other commands about the connection itself are refused.'));
  follow(signal, () => morph(label, prompt()));
  log.scrollTop = log.scrollHeight;
  field.focus();
}

export const commandLine = { title: 'Console', mount };
