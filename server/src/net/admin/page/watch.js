// What the page knows of the cluster, asked for again and again: the members, this node's statistics, and the samples of the plots.
// Views read `state` and are told when it has changed.

import { currentOrigin, originOf, pollCluster, read } from './api.js';

/** Often enough to show a leader's death, and the election after it, within 3 s. */
const CLUSTER_EVERY_MS = 500;
/** While there is no leader, or nobody answers. */
const TROUBLE_EVERY_MS = 200;
const SAMPLE_EVERY_MS = 1000;
/** How far back the plots go. */
export const PLOT_MS = 120_000;

export const state = {
  /** The last answer of `/cluster`; null before the first. */
  cluster: null,
  /** When that was. */
  answeredMs: 0,
  /** Why there is no newer answer. */
  error: null,
  /** The last answer of `/cluster` at the leader, who alone knows how far the members are; null when it did not give one. */
  leaders: null,
  /** The last answer of `/stats`; null when the node did not give it. */
  stats: null,
  /** `{ timeMs, values }`, oldest first; `values` is what `/stats` said, null where it is not known or another node is asked from here on. */
  samples: [],
};

const changes = new EventTarget();

/** Calls back now and after every change, until the signal says stop. */
export function follow(signal, callback) {
  changes.addEventListener('change', callback, { signal });
  callback();
}

/** Begins; never ends. */
export function watchCluster() {
  repeat(followCluster);
  repeat(followLeader);
  repeat(sample);
}

/** The member that leads, if one does. */
export function leaderOf(cluster) {
  return cluster.members.find((member) => member.node_id === cluster.leader_id);
}

async function repeat(step) {
  for (;;) {
    const begun = Date.now();
    const every = await step();
    const rest = Math.max(0, begun + every - Date.now());
    await new Promise((resolve) => setTimeout(resolve, rest));
  }
}

async function followCluster() {
  try {
    state.cluster = await pollCluster();
    state.answeredMs = Date.now();
    state.error = null;
  } catch (error) {
    state.error = error;
  }
  changes.dispatchEvent(new Event('change'));
  return state.error || state.cluster.leader_id === null ? TROUBLE_EVERY_MS : CLUSTER_EVERY_MS;
}

async function followLeader() {
  const at = originOf(state.cluster?.leader_id);
  try {
    state.leaders = at ? await read('/cluster', { at, timeoutMs: SAMPLE_EVERY_MS }) : null;
  } catch {
    state.leaders = null; // What is wrong with the leader is told by the other loop.
  }
  changes.dispatchEvent(new Event('change'));
  return SAMPLE_EVERY_MS;
}

let sampledAt = null;

async function sample() {
  const origin = currentOrigin();
  // The next node's numbers do not continue this one's line.
  if (sampledAt !== origin) append(null);
  sampledAt = origin;
  try {
    state.stats = await read('/stats', { at: origin, timeoutMs: SAMPLE_EVERY_MS });
  } catch {
    state.stats = null; // What is wrong with the node is told by the other loop.
  }
  append(state.stats);
  return SAMPLE_EVERY_MS;
}

function append(values) {
  const timeMs = Date.now();
  state.samples = [...state.samples.filter((kept) => kept.timeMs > timeMs - PLOT_MS), { timeMs, values }];
  changes.dispatchEvent(new Event('change'));
}
