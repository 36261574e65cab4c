// The frame of the page: which view is shown, the line on the cluster's state, the node that is asked, and what is announced.
// A view is `{ title, mount(root, signal) }`; the signal tells it to stop. The hash names the view and nothing else: no key or value ever
// stands in the page's address. All modules are loaded at the start, since the node that serves them may be gone when they are needed.

import { askThrough, currentOrigin, mayAskOthers, originOf, signIn } from './api.js';
import { h, morph } from './dom.js';
import { plural, time } from './format.js';
import { configuration } from './configuration.js';
import { commandLine } from './console.js';
import { keys } from './keys.js';
import { members } from './members.js';
import { overview } from './overview.js';
import { slowLog } from './slow_log.js';
import { announce } from './status.js';
import { follow, leaderOf, state, watchCluster } from './watch.js';

const VIEWS = new Map([
  ['#/', overview],
  ['#/keys', keys],
  ['#/console', commandLine],
  ['#/slow-log', slowLog],
  ['#/configuration', configuration],
  ['#/members', members],
]);

const main = document.getElementById('main');
const strip = document.getElementById('strip');
const through = document.getElementById('through');
let shown = new AbortController();

function showView({ isFirst }) {
  const hash = VIEWS.has(location.hash) ? location.hash : '#/';
  const view = VIEWS.get(hash);
  shown.abort();
  shown = new AbortController();
  const heading = h('h1', { tabindex: '-1' }, view.title);
  const root = h('div', { class: 'view' });
  main.replaceChildren(heading, root);
  // Keyboard and screen reader begin at the new view, or where it puts them; the first time they begin with the page.
  if (!isFirst) heading.focus();
  view.mount(root, shown.signal);
  document.title = `${view.title} · redraft`;
  const links = [...VIEWS].map(([target, { title }]) => h('a', { href: target, 'aria-current': target === hash ? 'page' : null }, title));
  morph(document.getElementById('views'), links);
}

/** The one line that says how the cluster is. */
function describe({ cluster, error, answeredMs }) {
  if (error) {
    const since = cluster && ` What is shown is as of ${time(answeredMs)}.`;
    const isLocked = error.code === 'unauthorized';
    const next = isLocked ? h('button', { type: 'button', 'data-action': 'sign-in' }, 'Sign in') : ' Trying again.';
    return h('p', { class: 'trouble' }, error.message, since, next);
  }
  const leader = leaderOf(cluster);
  const silent = cluster.members.filter((member) => !member.reachable);
  const parts = [
    leader ? `Node ${leader.node_id} leads` : 'No leader: reads and writes wait until there is one',
    `term ${cluster.term}`,
    plural(cluster.members.length, 'member'),
    silent.length > 0 ? `no answer from node ${silent.map((member) => member.node_id).join(', ')}` : 'all of them reachable',
  ];
  return h('p', { class: leader && silent.length === 0 ? 'well' : 'trouble' }, parts.join(' · '),
    h('span', { class: 'seen' }, `as node ${cluster.node_id} sees it`));
}

/** Says when the page cannot go on through another node, and from where it can. */
function describeReach({ cluster }) {
  const self = cluster?.members.find((member) => member.node_id === cluster.node_id);
  if (!self?.admin || cluster.members.length === 1 || mayAskOthers(cluster)) return [];
  const address = `http://${self.admin}/`;
  return h('p', { class: 'soft' }, `This page can ask node ${self.node_id} only: `,
    'the other nodes refuse a page from an address that no node advertises. The page that can ask all of them is at ', h('a', { href: address }, address), ', if this browser reaches it.');
}

/** The members through which the page can ask. */
function describeNodes({ cluster }) {
  if (!cluster) return;
  const options = cluster.members
    .filter((member) => originOf(member.node_id))
    .map(({ node_id: id }) => h('option', { value: id }, `node ${id} · ${new URL(originOf(id)).host}`));
  morph(through, options);
  const asked = String(cluster.members.find((member) => originOf(member.node_id) === currentOrigin())?.node_id ?? '');
  if (through.value !== asked) through.value = asked; // Else it would disturb who is choosing.
}

/** Tells what a person should hear of at once, whatever the view. */
function tellChanges(before, after) {
  const sentences = [];
  if (before.node_id !== after.node_id) sentences.push(`This page asks through node ${after.node_id} now.`);
  if (before.leader_id !== after.leader_id || before.term !== after.term) {
    const leader = leaderOf(after);
    sentences.push(leader ? `Node ${leader.node_id} leads in term ${after.term}.` : 'There is no leader.');
  }
  if (sentences.length > 0) announce(sentences.join(' '));
}

let told = null;

function showState() {
  if (!state.cluster && !state.error) return;
  morph(strip, describe(state));
  morph(document.getElementById('alone'), describeReach(state));
  describeNodes(state);
  if (told && state.cluster !== told) tellChanges(told, state.cluster);
  told = state.cluster;
}

strip.addEventListener('click', (event) => {
  if (event.target.dataset.action === 'sign-in') signIn();
});
through.addEventListener('change', () => askThrough(Number(through.value)));
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault(); // The hash names the view.
  main.focus();
});
addEventListener('hashchange', () => showView({ isFirst: false }));

watchCluster();
showView({ isFirst: true });
follow(new AbortController().signal, showState);
