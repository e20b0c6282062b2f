// Step 3: what arrives at the services, as it arrives.

import { $, announce, el, formatSize, formatTime, save, state, t } from './page.js';

// The routes of the Caddyfile beside this folder.
const lanes = [
  { path: '/checking', name: 'lane.checking', route: 'specific pf_checking_account pf_categorized_checking_*' },
  { path: '/cards', name: 'lane.cards', route: 'specific pf_credit_card' },
  { path: '/archive', name: 'lane.archive', route: 'other' },
  { path: '/events', name: 'lane.events', route: 'event *' },
];

const SHOWN = 50; // of each lane
const QUIET = 1200; // ms without news, after which the news are told
const AGAIN = 5000; // ms, where the browser has given up

const since = state.seenUntil ?? new Date().toISOString(); // what came later is news, also of the time at the bank
const seen = new Set();
let arrivals = []; // oldest first
let source = null;
let timer;
let connection = 'connecting';
let news = new Map();

export function start() {
  $('lanes').append(...lanes.map(({ path, route }) => {
    const id = `lane${path.replace('/', '-')}`;
    return el('article', { className: 'lane', id, 'aria-labelledby': `${id}-title` },
      el('h3', { id: `${id}-title` }),
      el('p', { className: 'route-rule' }, el('code', {}, route)),
      el('p', { className: 'count' }),
      el('ol', { tabIndex: 0, role: 'list', 'aria-labelledby': `${id}-title` }));
  }));
  $('clear-reports').addEventListener('click', () => {
    state.clearedAt = arrivals.at(-1)?.time ?? state.clearedAt;
    save();
    arrivals = [];
    render();
    announce(t('reports.cleared'));
  });
  connect();
  // A page that waits in the browser's history must not hold a connection.
  addEventListener('pagehide', () => {
    source?.close();
    state.seenUntil = arrivals.at(-1)?.time ?? since;
    save();
  });
  addEventListener('pageshow', (event) => event.persisted && connect());
}

function connect() {
  clearTimeout(timer);
  source?.close();
  source = new EventSource('/received/stream');
  source.addEventListener('open', () => setConnection('live'));
  source.addEventListener('error', () => {
    setConnection('lost');
    // After an answer that is no stream the browser does not try again by itself.
    if (source.readyState === EventSource.CLOSED) timer = setTimeout(connect, AGAIN);
  });
  source.addEventListener('message', ({ data, lastEventId }) => {
    if (seen.has(lastEventId)) return;
    seen.add(lastEventId);
    take(JSON.parse(data));
  });
}

function setConnection(is) {
  if (is === connection) return;
  connection = is;
  renderConnection();
}

function take(arrival) {
  if (Date.parse(arrival.time) <= Date.parse(state.clearedAt)) return;
  arrivals.push(arrival);
  const lane = lanes.find(({ path }) => path === arrival.path);
  if (!lane) return;
  const isNew = Date.parse(arrival.time) > Date.parse(since);
  const list = listOf(lane);
  list.prepend(item(arrival, isNew));
  if (list.children.length > SHOWN) list.lastChild.remove();
  renderCount(lane);
  renderTotal();
  if (!isNew) return;
  news.set(lane, (news.get(lane) ?? 0) + 1);
  clearTimeout(news.timer);
  news.timer = setTimeout(tell, QUIET);
}

/** Tells all that came in one go at once. */
function tell() {
  const list = Array.from(news, ([lane, count]) => `${count} × ${t(lane.name)}`).join(', ');
  news = new Map();
  announce(t('reports.news', { list }));
}

const listOf = ({ path }) => $(`lane${path.replace('/', '-')}`).querySelector('ol');

function item(arrival, isNew) {
  const details = [formatTime(arrival.time), formatSize(arrival.size)];
  if (arrival.attempt > 1) details.push(t('reports.attempt', { attempt: arrival.attempt }));
  return el('li', { className: isNew ? 'new' : '' },
    el('code', {}, arrival.report_type || arrival.events || '?'),
    el('span', { className: 'hint' }, details.join(' · ')),
    el('span', { className: 'hint digest' }, `sha256 ${arrival.sha256.slice(0, 12)}…`));
}

export function render() {
  renderConnection();
  renderTotal();
  for (const lane of lanes) {
    const title = $(`lane${lane.path.replace('/', '-')}-title`);
    title.replaceChildren(t(lane.name), ' ', el('code', {}, lane.path));
    listOf(lane).replaceChildren(...of(lane).slice(-SHOWN).reverse().map((arrival) => item(arrival, false)));
    renderCount(lane);
  }
}

const of = ({ path }) => arrivals.filter((arrival) => arrival.path === path);

function renderCount(lane) {
  const mine = of(lane);
  const text = mine.length ? t('reports.total', { count: mine.length, size: sizeOf(mine) }) : t('reports.none');
  listOf(lane).previousElementSibling.textContent = text;
  listOf(lane).hidden = mine.length === 0;
}

function renderTotal() {
  $('reports-total').textContent = t('reports.total', { count: arrivals.length, size: sizeOf(arrivals) });
}

const sizeOf = (list) => formatSize(list.reduce((sum, { size }) => sum + size, 0));

function renderConnection() {
  $('stream-state').dataset.state = connection;
  $('stream-state').textContent = t(`reports.${connection}`);
}
