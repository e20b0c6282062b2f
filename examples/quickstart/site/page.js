// What the steps of the page share: texts, small pieces of the page, what is kept
// on the way to the bank and back, and the client.

import { Klavi, KlaviProblem } from './klavi.js';
import { languages, preferred } from './texts.js';

const KEPT = 'klavi-demo';

/** What survives the way to the bank and back, in this tab only. */
export const state = read();

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT)) ?? {};
  } catch {
    return {};
  }
}

export function save() {
  state.klavi = klavi.toJSON();
  sessionStorage.setItem(KEPT, JSON.stringify(state));
}

/** The client, which tells what it does by itself, and whose last link answer is kept as it came. */
export const klavi = new Klavi({
  restore: state.klavi,
  fetch: async (url, request) => {
    const began = performance.now();
    const res = await fetch(url, request);
    if (url.endsWith('/links') && res.ok) {
      const headers = Array.from(res.headers, ([name, value]) => `${name}: ${value}`).join('\n');
      state.answer = { status: res.status, took: Math.round(performance.now() - began), text: `${headers}\n\n${await res.clone().text()}` };
    }
    return res;
  },
  onNotice: (notice) => {
    if (notice.kind === 'renewed') {
      save();
      document.dispatchEvent(new Event('link'));
      notify(() => t('notice.renewed'));
    } else {
      notify(() => t('notice.waiting', { type: notice.problem.type, seconds: notice.seconds }), true);
    }
  },
});

// Texts.

export function lang() {
  return languages[state.lang] ? state.lang : preferred();
}

export function t(key, values = {}) {
  const text = languages[lang()][key];
  if (text === undefined) throw new Error(`no text for ${key}`);
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export function formatSize(bytes) {
  const [value, unit] = bytes < 1000 ? [bytes, 'B'] : bytes < 1e6 ? [bytes / 1000, 'kB'] : [bytes / 1e6, 'MB'];
  return `${new Intl.NumberFormat(lang(), { maximumFractionDigits: 1 }).format(value)}\u00a0${unit}`;
}

export function formatTime(time) {
  return new Intl.DateTimeFormat(lang(), { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' }).format(new Date(time));
}

// Pieces of the page.

export const $ = (id) => document.getElementById(id);

/** Makes an element. Properties that it does not have become attributes. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** A text, with what stands between backticks as code. */
export function marked(text) {
  return text.split('`').map((part, i) => (i % 2 ? el('code', {}, part) : part));
}

/** JSON with colours. */
export function colored(value) {
  const parts = [];
  let from = 0;
  const text = JSON.stringify(value, null, 2);
  for (const m of text.matchAll(/("(?:[^"\\]|\\.)*")(:?)|\b(?:true|false|null|-?\d[\d.eE+-]*)\b/g)) {
    parts.push(text.slice(from, m.index), el('span', { className: m[2] ? 'name' : m[1] ? 'string' : 'other' }, m[1] ?? m[0]), m[2] ?? '');
    from = m.index + m[0].length;
  }
  parts.push(text.slice(from));
  return parts;
}

/** Status, type and the gateway's words about a refusal. Those are for developers, and English. */
export function refusal({ status, type, title, detail, field, klaviCode, klaviMessage }) {
  const words = detail || title;
  return el('p', { className: 'refusal' },
    el('code', {}, status ? `${status} ${type}` : type),
    el('span', { lang: 'en' }, ` ${words}`, field ? ` (${field})` : '', klaviMessage ? ` Klavi: ${klaviCode} ${klaviMessage}` : ''));
}

/** Shows what went wrong, in the user's words first, in the place that is made for it. */
export function showProblem(place, err) {
  if (!(err instanceof KlaviProblem)) throw err;
  const words = t(`advice.${err.advice}`, { field: err.field ?? '', seconds: err.retryAfter ?? '' });
  place.replaceChildren(el('div', { className: 'problem', role: 'alert' }, el('p', {}, words), refusal(err)));
}

/** Runs what a button stands for, once at a time. */
export async function busy(button, work) {
  if (button.getAttribute('aria-busy') === 'true') return;
  button.setAttribute('aria-busy', 'true');
  try {
    return await work();
  } finally {
    button.removeAttribute('aria-busy');
    if (passing) closeNotice();
  }
}

/** Says something to those who do not see the page change. */
export function announce(text) {
  const place = $('announcer');
  place.textContent = '';
  setTimeout(() => { place.textContent = text; }, 50);
}

let words = null;
let passing = false;

/** Says what happened by itself, until it is closed, or until the work is done where it is about that. */
export function notify(text, untilDone = false) {
  words = text;
  passing = untilDone;
  announce(text());
  renderNotice();
}

export function renderNotice() {
  $('notice').hidden = words === null;
  if (words) $('notice-text').textContent = words();
}

export function closeNotice() {
  words = null;
  passing = false;
  renderNotice();
}
