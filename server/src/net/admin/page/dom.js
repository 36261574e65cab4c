// Elements from data: the only place that makes HTML elements. Text becomes text nodes and never markup, so that nothing which is stored
// in the database can act in the page. Styles are classes: the Content-Security-Policy allows no style attributes.

/** An element. An attribute that is a function listens to the event of that name; `true` is an empty attribute; `false` and null are none. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

/**
 * A table. A column is `{ title, cell, numeric }`, where `cell` makes a row's text or element; `attributes` makes those of a row.
 * On a narrow screen style.css shows a row as a card, with `data-title` before each value. That takes the table's meaning away from
 * assistive technology in some browsers, so the roles are spelt out.
 */
export function table(label, columns, rows, attributes = () => ({})) {
  const kind = (column) => (column.numeric ? 'numeric' : null);
  const head = columns.map((column) => h('th', { role: 'columnheader', scope: 'col', class: kind(column) }, column.title));
  const line = (row) =>
    columns.map((column) => h('td', { role: 'cell', 'data-title': column.title, class: kind(column) }, column.cell(row)));
  return h('table', { role: 'table', 'aria-label': label },
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, head)),
    h('tbody', { role: 'rowgroup' }, rows.map((row) => h('tr', { role: 'row', ...attributes(row) }, line(row)))));
}

/** Names and what they are. */
export function facts(entries) {
  return h('dl', { class: 'facts' }, entries.map(([name, value]) => h('div', null, h('dt', null, name), h('dd', null, value))));
}

/** A select. An option is `[value, text]`. */
export function choice(attributes, options, chosen) {
  return h('select', attributes, options.map(([value, text]) => h('option', { value, selected: value === chosen }, text)));
}

/** What went wrong, and whether the request may have been executed. */
export function problem(error) {
  return h('p', { class: 'error' }, error.message, error.executed && h('span', { class: 'tag' }, `executed: ${error.executed}`));
}

/**
 * Makes the children of `parent` like `wanted` and keeps every element that stays: focus, selection and the place of a screen reader
 * survive a change that comes every second. Listeners are not carried over; who morphs listens at `parent`.
 */
export function morph(parent, ...wanted) {
  matchChildren(parent, h('div', null, ...wanted));
}

function matchChildren(present, wanted) {
  const children = [...wanted.childNodes];
  while (present.childNodes.length > children.length) present.lastChild.remove();
  children.forEach((child, position) => {
    const old = present.childNodes[position];
    if (!old) present.append(child);
    else if (old.nodeName !== child.nodeName) old.replaceWith(child);
    else if (old.nodeType === Node.ELEMENT_NODE) matchElement(old, child);
    else if (old.data !== child.data) old.data = child.data;
  });
}

function matchElement(present, wanted) {
  for (const { name } of [...present.attributes]) {
    if (!wanted.hasAttribute(name)) present.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (present.getAttribute(name) !== value) present.setAttribute(name, value);
  }
  matchChildren(present, wanted);
}
