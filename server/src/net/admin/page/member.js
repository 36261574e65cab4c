// What views show of a member in the same way.

import { h } from './dom.js';

/** What it is in the group. */
export function role(member) {
  return h('span', { class: `role ${member.role}` }, member.role);
}

/** Whether it answers the node that is asked; told by more than colour. */
export function reachability({ reachable }) {
  return h('span', { class: reachable ? 'well' : 'trouble' }, reachable ? 'reachable' : 'no answer');
}
