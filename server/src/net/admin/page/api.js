// Requests to the nodes: which node is asked, with which password, and what happens when it does not answer.
// Every node answers for the whole cluster, so the page stays with one until that is silent, and then goes on with whoever answers first.
// A read is sent again through the next node. A write never is: it may have been executed.
// Invariant: `current` is the origin that answered `/cluster` last, or at first the one that served the page.
// The password is kept for this tab only and goes out as HTTP's Basic authentication has it: base64 carries any text, and a header does not.

import { encode, percentEncode, toBase64 } from './bytes.js';
import { askPassword } from './dialog.js';
import { recall, remember } from './session.js';

/** A node that says nothing for so long is left. Only `/cluster` is timed so: it waits for no other node. */
const SILENCE_MS = 2000;
/** A read may wait for a leader, by default for 5 s (`request-timeout`). */
const READ_MS = 12_000;
const WRITE_MS = 30_000;

/** What the page can say better than the node, which does not know that it talks to a page. */
const WORDS = {
  forbidden: 'The node does not serve this page: the address in the browser is neither its own nor that of another member.',
  loading: 'The node is still reading its data after a start. Try again in a moment.',
  no_leader: 'The nodes have no leader at the moment.',
  overloaded: 'The node has too much to do. Try again in a moment.',
  timeout_unknown: 'The answer took too long.',
  unauthorized: 'The node asks for the password.',
};

export class ApiError extends Error {
  /** `executed` is `no` or `unknown`; `isSilence`: there was no answer, so another node should be asked. */
  constructor(code, message, executed, isSilence = false) {
    super(WORDS[code] ?? message);
    this.code = code;
    this.executed = executed;
    this.isSilence = isSilence;
  }
}

let current = location.origin;
/** Origin of each member by node id. */
const origins = new Map();
let password = recall('password');
/** Set when nobody gave the password, so that the page does not ask again every second. */
let declined = false;
let asking = null;
let searching = null;
/** Ends what is in flight to a node that is left. */
let leaving = new AbortController();

/** The origin that is asked at present. */
export function currentOrigin() {
  return current;
}

/** The origin of a member, if it has told its admin address. */
export function originOf(nodeId) {
  return origins.get(nodeId);
}

/** `localhost` and the loopback address are one place, for nodes, too. */
function plainly(host) {
  return host.replace(/^localhost\b/, '127.0.0.1');
}

/** Whether other nodes answer this page. They do when its address is one that a member advertises; browsers tell them where it is from. */
export function mayAskOthers(cluster) {
  const hosts = cluster.members.filter((member) => member.admin).map((member) => plainly(member.admin));
  return location.protocol === 'http:' && hosts.includes(plainly(location.host));
}

/** What the page calls the node at an origin. */
export function nameOf(origin) {
  const member = [...origins].find(([, known]) => known === origin);
  return member ? `node ${member[0]}` : `the node at ${new URL(origin).host}`;
}

/** Asks through this node from now on, as long as it answers. */
export function askThrough(nodeId) {
  current = origins.get(nodeId) ?? current;
}

/** Shows this password from now on. */
export function usePassword(given) {
  password = given;
  remember('password', given);
}

/** Lets the page ask for the password again after it was declined. */
export function signIn() {
  declined = false;
}

/** A path with a query, which may have begun. Parameters are bytes or have a text; those that are null or empty are left out. */
export function withQuery(path, parameters) {
  const encoded = (value) => (value instanceof Uint8Array ? percentEncode(value) : encodeURIComponent(value));
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value.length !== 0);
  const query = given.map(([name, value]) => `${name}=${encoded(value)}`).join('&');
  return query === '' ? path : `${path}${path.includes('?') ? '&' : '?'}${query}`;
}

/** The cluster as the current node sees it, or, if that is silent, as the one does through which the page then goes on. */
export async function pollCluster() {
  const asked = current;
  try {
    return await askCluster(asked);
  } catch (error) {
    if (!error.isSilence) throw error;
    await goOn(asked);
    return askCluster(current);
  }
}

async function askCluster(origin) {
  const cluster = await send(origin, '/cluster', { timeoutMs: SILENCE_MS });
  // Meanwhile another node may have been chosen.
  if (origin === current) learn(origin, cluster);
  return cluster;
}

/** Sends a GET. With `at`, an origin, only to that node. */
export async function read(path, { at, timeoutMs = READ_MS } = {}) {
  for (let attempts = 0; ; attempts += 1) {
    const asked = at ?? current;
    try {
      return await send(asked, path, { timeoutMs, signal: at ? null : leaving.signal });
    } catch (error) {
      if (!error.isSilence || at || attempts > origins.size) throw error;
      await goOn(asked);
    }
  }
}

/** Sends anything that may change something, once. Without an answer the outcome is unknown. */
export async function write(path, { at, method = 'POST', headers, body, timeoutMs = WRITE_MS }) {
  const asked = at ?? current;
  try {
    return await send(asked, path, { method, headers, body, timeoutMs, signal: at ? null : leaving.signal });
  } catch (error) {
    if (error.isSilence) {
      error.executed = 'unknown';
      if (!at) goOn(asked).catch(() => {}); // The next poll says if nobody answers.
    }
    throw error;
  }
}

/** Sends a command of Redis; its reply. */
export async function command(words, { at, db = 0, timeoutMs } = {}) {
  const headers = { 'Content-Type': 'application/json' };
  const { reply } = await write('/command', { at, headers, body: JSON.stringify({ command: words, db }), timeoutMs });
  return reply;
}

/** Sends a command that must succeed. */
export async function carryOut(words, options) {
  const reply = await command(words, options);
  if (reply.type === 'error') throw new ApiError('error_reply', reply.value, reply.value.startsWith('TIMEOUT') ? 'unknown' : 'no');
  return reply;
}

/** Leaves a silent node. One search at a time serves all that wait for it; whoever comes late finds another node current already. */
async function goOn(silent) {
  if (current !== silent) return;
  searching ??= search(silent).finally(() => {
    searching = null;
  });
  await searching;
}

async function search(silent) {
  const others = [...new Set(origins.values())].filter((origin) => origin !== silent);
  const ask = (origin) => send(origin, '/cluster', { timeoutMs: SILENCE_MS }).then(() => origin);
  try {
    current = await Promise.any(others.map(ask));
  } catch ({ errors }) {
    // A node that refuses is a better thing to tell than one that is silent.
    throw errors.find((error) => !error.isSilence) ?? new ApiError('silent', 'No node answers.', 'no', true);
  }
  leaving.abort();
  leaving = new AbortController();
}

/** Notes where the members are. The node that served the page keeps the origin the browser knows, such as localhost. */
function learn(origin, cluster) {
  const before = new Map(origins);
  origins.clear();
  for (const member of cluster.members) {
    const known = before.get(member.node_id);
    if (member.node_id === cluster.node_id) origins.set(member.node_id, origin);
    else if (known === location.origin) origins.set(member.node_id, known);
    else if (member.admin) origins.set(member.node_id, `${location.protocol}//${member.admin}`);
  }
}

/** One request to one node. An error is always an `ApiError`. */
async function send(origin, path, options) {
  const sent = password;
  const response = await receive(origin, path, options, sent);
  if (response.status === 401 && !declined) {
    if (password === sent) await replacePassword(sent !== null);
    if (!declined) return send(origin, path, options);
  }
  if (response.ok) return response.body;
  const { code, message, executed } = response.body?.error ?? {};
  throw new ApiError(code ?? 'bad_answer', message ?? `The node answered with status ${response.status}.`, executed ?? 'unknown');
}

async function receive(origin, path, { method = 'GET', headers, body, timeoutMs, signal }, sent) {
  const limits = [AbortSignal.timeout(timeoutMs), signal].filter(Boolean);
  const authorization = sent === null ? {} : { Authorization: `Basic ${toBase64(encode(`:${sent}`))}` };
  try {
    const response = await fetch(origin + path, {
      method,
      body,
      headers: { Accept: 'application/json', ...headers, ...authorization },
      // Without a password of ours the browser may know one, from opening the page.
      credentials: sent === null ? 'same-origin' : 'omit',
      cache: 'no-store',
      signal: AbortSignal.any(limits),
    });
    return { ok: response.ok, status: response.status, body: parse(await response.text()) };
  } catch {
    throw new ApiError('silent', `The node at ${new URL(origin).host} did not answer.`, 'no', true);
  }
}

/** JSON, in which whole numbers beyond those of JavaScript stay the text that they were; undefined for anything else. */
function parse(text) {
  const exact = (_, value, context) => {
    const isWhole = typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value);
    return isWhole ? context?.source ?? value : value;
  };
  try {
    return JSON.parse(text, exact);
  } catch {
    return undefined;
  }
}

/** One dialog at a time serves all requests that were refused. */
async function replacePassword(wasRefused) {
  asking ??= askPassword(wasRefused).finally(() => {
    asking = null;
  });
  const given = await asking;
  declined = given === null;
  if (!declined) usePassword(given);
}
