// Overview: the nodes, plots of what the asked node does, its figures, and its recent events.

import { facts, h, morph, table } from './dom.js';
import { bytes, count, duration, short, time } from './format.js';
import { reachability, role } from './member.js';
import { createPlot } from './plot.js';
import { follow, state } from './watch.js';

/** Who asked for less motion sees the plots move this seldom. */
const CALM_MS = 5000;

const NODES = [
  { title: 'Node', cell: (member) => [String(member.node_id), member.self && h('small', null, ' asked')] },
  { title: 'Role', cell: role },
  { title: 'Votes', cell: (member) => (member.voter ? 'yes' : 'no') },
  { title: 'State', cell: reachability },
  { title: 'Lag, entries', numeric: true, cell: (member) => count(asLeaderSees(member)?.lag_entries) },
  { title: 'Match index', numeric: true, cell: (member) => count(asLeaderSees(member)?.match_index) },
  { title: 'Clients', cell: (member) => member.listen },
  { title: 'Admin', cell: (member) => member.admin },
];

function asLeaderSees({ node_id: id }) {
  return state.leaders?.members.find((member) => member.node_id === id);
}

function latency(kind) {
  const line = (name) => ({ name, value: (stats) => stats.latency_ms?.[kind]?.[name] });
  return [line('p50'), line('p99')];
}

function showNodes(cluster) {
  const attributes = (member) => ({ 'data-node': member.node_id, 'data-role': member.role, 'data-reachable': String(member.reachable) });
  return table('Nodes', NODES, cluster.members, attributes);
}

function figures(cluster, stats) {
  const databases = Object.values(stats?.keys ?? {});
  const total = (name) => databases.reduce((sum, database) => sum + database[name], 0);
  return facts([
    ['Keys', stats ? count(total('keys')) : '–'],
    ['of them with a TTL', stats ? count(total('expires')) : '–'],
    ['Clients of this node', count(stats?.connected_clients)],
    ['Commands of this node', count(stats?.commands_processed)],
    ['Memory of this node', bytes(stats?.memory_bytes)],
    ['Up for', duration(stats?.uptime_seconds)],
    ['Replication factor', count(cluster.replication_factor)],
    ['Version', cluster.version],
    ['Cluster', h('code', null, cluster.cluster_id)],
  ]);
}

function showEvents(events) {
  if (events.length === 0) return h('p', { class: 'soft' }, 'Nothing has happened since this node started.');
  const newest = [...events].sort((one, other) => other.id - one.id);
  const line = (event) => h('li', null, h('time', null, time(event.time_ms)), h('span', { class: 'tag' }, event.kind), event.text);
  return h('ol', { class: 'events' }, newest.map(line));
}

function mount(root, signal) {
  const plots = [
    createPlot('Commands', 'per second', [{ name: '', value: (stats) => stats.ops_per_second }], short),
    createPlot('Reads', 'ms', latency('read'), short),
    createPlot('Writes', 'ms', latency('write'), short),
  ];
  const nodes = h('section', { 'aria-label': 'Nodes' });
  const asked = h('h2');
  const numbers = h('div');
  const events = h('div');
  root.append(nodes, asked, h('section', { class: 'plots', 'aria-label': 'Plots' }, plots.map(({ figure }) => figure)),
    h('div', { class: 'halves' },
      h('section', { 'aria-label': 'Figures' }, h('h2', null, 'Figures'), numbers),
      h('section', { 'aria-label': 'Events' }, h('h2', null, 'Recent events'), events)));

  const isCalm = matchMedia('(prefers-reduced-motion: reduce)');
  let drawnMs = 0;
  follow(signal, () => {
    const { cluster, stats, samples } = state;
    if (!cluster) return;
    morph(nodes, showNodes(cluster));
    morph(asked, `What node ${cluster.node_id} does`);
    morph(numbers, figures(cluster, stats));
    morph(events, showEvents(cluster.events));
    if (isCalm.matches && Date.now() < drawnMs + CALM_MS) return;
    drawnMs = Date.now();
    for (const plot of plots) plot.draw(samples);
  });
}

export const overview = { title: 'Overview', mount };
