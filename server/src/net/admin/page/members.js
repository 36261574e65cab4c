// Members: who they are, how the leader replicates to them, and what changes the group. Every action says first what follows from it.

import { carryOut, originOf, read } from './api.js';
import { plain } from './command_line.js';
import { confirmAction } from './dialog.js';
import { h, morph, problem, table } from './dom.js';
import { bytes, count, duration, plural } from './format.js';
import { reachability, role } from './member.js';
import { announce } from './status.js';
import { follow, leaderOf, state } from './watch.js';

const REPLICATION_EVERY_MS = 2000;
/** Each member reads all that it stores; a node waits as long for the others. */
const VERIFY_MS = 3_600_000;
/** Seldom enough for who has it read out. */
const PROGRESS_EVERY_MS = 10_000;

const MEMBERS = [
  { title: 'Node', cell: (member) => String(member.node_id) },
  { title: 'Role', cell: role },
  { title: 'State', cell: reachability },
  { title: 'Clients', cell: (member) => member.listen },
  { title: 'Peers', cell: (member) => member.peer },
  { title: 'Admin', cell: (member) => member.admin },
  { title: 'Actions', cell: actions },
];

function actions(member) {
  const { node_id: id, voter } = member;
  const button = (action, text, name) => h('button', { type: 'button', 'data-action': action, 'data-node': id, 'aria-label': name }, text);
  const transfer = voter && member.role !== 'leader' && button('transfer', 'Make leader…', `Make node ${id} the leader`);
  return h('span', { class: 'actions' }, transfer, button('remove', 'Remove…', `Remove node ${id}`));
}

const PEERS = [
  { title: 'Node', cell: (peer) => String(peer.node_id) },
  { title: 'State', cell: (peer) => (peer.active ? peer.state : `${peer.state}, silent`) },
  { title: 'Match index', numeric: true, cell: (peer) => count(peer.match_index) },
  { title: 'Next index', numeric: true, cell: (peer) => count(peer.next_index) },
  { title: 'Lag, entries', numeric: true, cell: (peer) => count(peer.lag_entries) },
  { title: 'Lag, bytes', numeric: true, cell: (peer) => bytes(peer.lag_bytes) },
  { title: 'Lag, time', numeric: true, cell: (peer) => duration(peer.lag_seconds) },
  { title: 'Snapshot', cell: snapshot },
];

function snapshot({ node_id: id, snapshot_progress: progress }) {
  return progress == null ? '–' : h('progress', { value: progress, max: 1, 'aria-label': `Snapshot to node ${id}` });
}

const VERIFIED = [
  { title: 'Node', cell: (member) => String(member.node_id) },
  { title: 'State', cell: (member) => h('span', { class: member.state === 'equal' ? 'well' : 'trouble' }, member.state) },
  { title: 'Digest', cell: (member) => h('code', null, member.hash ?? '–') },
  { title: 'First difference', cell: (member) => (member.cf ? `column family ${member.cf}` : '–') },
];

const VERDICTS = {
  equal: 'All members hold the same data.',
  differs: 'A majority holds the same data, and the others stop.',
  undecided: 'Members differ, and no majority agrees. Nobody stops.',
  incomplete: 'Those who were compared are equal; others did not answer.',
};

function transfer(id) {
  const leader = leaderOf(state.cluster);
  return confirmAction({
    title: `Make node ${id} the leader?`,
    consequences: [
      `${leader ? `Node ${leader.node_id} hands leadership over to node ${id}` : `Node ${id} is asked to lead`}.`,
      'Commands wait for a moment meanwhile.',
      'No acknowledged write is lost.',
    ],
    action: `Make node ${id} the leader`,
    submit: async () => {
      await carryOut(['RAFT', 'TRANSFER', String(id)]);
      announce(`Node ${id} was asked to lead.`);
    },
  });
}

/** What removing a member means for the losses that can be survived. */
function afterRemoval(id) {
  const voters = state.cluster.members.filter((member) => member.voter && member.node_id !== id).length;
  const learners = state.cluster.members.filter((member) => !member.voter && member.node_id !== id).length;
  const losses = Math.max(0, Math.ceil(voters / 2) - 1);
  const survived = losses === 0 ? 'none' : count(losses);
  const standIn = learners > 0 ? ', until a learner takes the place' : '';
  return `The cluster then has ${plural(voters, 'voter')} and survives the loss of ${survived} of them${standIn}.`;
}

function remove(id) {
  return confirmAction({
    title: `Remove node ${id} for ever?`,
    consequences: [
      `Node ${id} stops, with exit code 3, and never comes back as this member: started with --rejoin it becomes a new one.`,
      id === state.cluster.leader_id && 'It leads, and hands leadership over first.',
      afterRemoval(id),
    ],
    action: `Remove node ${id}`,
    submit: async () => {
      await carryOut(['RAFT', 'REMOVE', String(id)]);
      announce(`Node ${id} is removed.`);
    },
  });
}

/** Compares, and tells again and again how long it has taken: nobody knows how far it is. */
async function compare(tell) {
  const startedMs = Date.now();
  const progress = () => {
    const spent = duration(Math.round((Date.now() - startedMs) / 1000));
    tell(`The members have been reading for ${spent}; it may take an hour. It goes on, and the page waits for it, also after Cancel.`);
  };
  progress();
  const telling = setInterval(progress, PROGRESS_EVERY_MS);
  try {
    return await carryOut(['RAFT', 'VERIFY'], { timeoutMs: VERIFY_MS });
  } finally {
    clearInterval(telling);
  }
}

function verify(place) {
  return confirmAction({
    title: 'Compare the data of all members?',
    consequences: [
      'Every member reads all of its data once, in the background, which costs disk and processor time.',
      'A replica that a majority contradicts stops, with exit code 3, until it is started with --rejoin.',
    ],
    action: 'Compare',
    submit: async (tell) => {
      const result = plain(await compare(tell));
      announce(VERDICTS[result.result] ?? result.result);
      place.replaceChildren(h('h2', null, `Comparison as of index ${count(result.index)}`),
        h('p', null, VERDICTS[result.result] ?? result.result),
        table('Comparison of the members', VERIFIED, result.members));
    },
  });
}

/** Only the leader knows its peers; the asked node may be another. */
async function readReplication() {
  const here = await read('/debug/replication');
  const origin = originOf(state.cluster?.leader_id);
  if (here.groups.some((group) => group.peers?.length > 0) || !origin) return here;
  return read('/debug/replication', { at: origin });
}

function showGroup(group) {
  const peers = group.peers ?? [];
  return [
    h('p', { class: 'soft' }, `Term ${group.term}, committed up to ${count(group.commit_index)}, `
      + `applied up to ${count(group.applied_index)}; the log holds ${count(group.first_index)} to ${count(group.last_index)}.`),
    peers.length > 0 ? table('Replication', PEERS, peers) : h('p', { class: 'soft' }, 'The leader has no peers, or does not tell this page.'),
  ];
}

function mount(root, signal) {
  const list = h('section', { 'aria-label': 'Members' });
  const replication = h('div');
  const comparison = h('section', { 'aria-label': 'Comparison', 'aria-live': 'polite' });

  async function refresh() {
    if (signal.aborted) return;
    try {
      morph(replication, (await readReplication()).groups.map(showGroup));
    } catch (error) {
      morph(replication, problem(error));
    }
    setTimeout(refresh, REPLICATION_EVERY_MS);
  }

  // Rows change under the listener, so it stands above them.
  list.addEventListener('click', (event) => {
    const { action, node } = event.target.dataset;
    if (action === 'transfer') transfer(Number(node));
    if (action === 'remove') remove(Number(node));
  });
  root.append(list,
    h('p', { class: 'bar' }, h('button', { type: 'button', click: () => verify(comparison) }, 'Compare all data…')),
    comparison,
    h('section', { 'aria-label': 'Replication' }, h('h2', null, 'Replication, as the leader sees it'), replication));
  follow(signal, () => {
    if (state.cluster) morph(list, table('Members', MEMBERS, state.cluster.members, (member) => ({ 'data-node': member.node_id })));
  });
  refresh();
}

export const members = { title: 'Members', mount };
