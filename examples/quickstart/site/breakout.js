// Step 4: the requests of somebody who has taken over the page. They are made by
// hand: the client would not send them.

import { $, announce, busy, el, marked, refusal, t } from './page.js';
import { Klavi, KlaviProblem } from './klavi.js';

const CPF = '529.982.247-25';
const OTHER_CPF = '111.444.777-35';
const FOREIGN = 'https://attacker.example/';

// What they have in hand: a link for one CPF and one bank.
const own = new Klavi();
const linkFields = { personalTaxId: CPF, institutionCode: '001' };

const sealed = (link) => link.linkToken;
const attempts = [
  { name: 'list-consents', method: 'GET', path: '/klavi/consents', token: sealed },
  { name: 'refresh', method: 'GET', path: '/klavi/refresh', token: sealed },
  { name: 'disguise', method: 'GET', path: '/klavi/links/..%2Frefresh', token: sealed },
  { name: 'revoke', method: 'DELETE', path: '/klavi/consents/1b4e28ba-2fa1-11d2-883f-0016d3cca427/revoke', token: sealed },
  { name: 'other-person', method: 'POST', path: '/klavi/consents', token: sealed, body: { personalTaxId: OTHER_CPF } },
  { name: 'other-bank', method: 'POST', path: '/klavi/consents', token: sealed, body: { institutionCode: '341' } },
  { name: 'redirect', method: 'POST', path: '/klavi/links', body: { personalTaxId: CPF, redirectURL: FOREIGN } },
  { name: 'callback', method: 'POST', path: '/klavi/links', body: { personalTaxId: CPF, productsCallbackURL: { all: FOREIGN } } },
  { name: 'pretend', method: 'POST', path: '/klavi/links', body: { personalTaxId: CPF, externalInfo: { user: 'someone-else' } } },
  { name: 'twice', method: 'POST', path: '/klavi/links', text: `{"personalTaxId":"${CPF}","personalTaxId":"${OTHER_CPF}"}` },
  { name: 'klavi-token', method: 'GET', path: '/klavi/institutions', token: klaviToken, shown: 'linkURL?v=…' },
  { name: 'changed-token', method: 'GET', path: '/klavi/institutions', token: changed, shown: 'KLT1…✗…' },
  { name: 'no-token', method: 'GET', path: '/klavi/institutions' },
];

const answers = new Map(); // by name

function klaviToken(link) {
  return new URL(link.linkURL).searchParams.get('v');
}

function changed({ linkToken }) {
  const middle = Math.floor(linkToken.length / 2);
  return linkToken.slice(0, middle) + (linkToken[middle] === 'A' ? 'B' : 'A') + linkToken.slice(middle + 1);
}

export function start() {
  $('attempts').append(...attempts.map((attempt) => {
    const { name, method, path } = attempt;
    const button = el('button', { type: 'button', id: `try-${name}`, 'aria-describedby': `about-${name}` });
    button.addEventListener('click', () => busy(button, async () => {
      const { verdict, problem } = await run(attempt);
      announce(`${t(`breakout.${verdict}`)}: ${problem.status} ${problem.type}`);
    }));
    const asked = attempt.text ?? (attempt.body && JSON.stringify(attempt.body));
    return el('li', { className: 'attempt' },
      el('div', { className: 'asked' },
        el('h3', { id: `about-${name}` }),
        el('p', {}, el('code', {}, `${method} ${path}`)),
        ...(asked ? [el('p', {}, el('code', {}, asked))] : []),
        ...(attempt.shown ? [el('p', {}, el('code', {}, `Klavi-Link-Token: ${attempt.shown}`))] : [])),
      button,
      el('div', { className: 'answer', id: `answer-${name}` }));
  }));
  $('try-all').addEventListener('click', () => busy($('try-all'), async () => {
    for (const attempt of attempts) await run(attempt);
    announce($('breakout-total').textContent);
  }));
}

async function run(attempt) {
  let answer;
  try {
    if (!own.link) await own.createLink(linkFields);
    answer = await send(attempt, await own.freshLink());
  } catch (err) {
    if (!(err instanceof KlaviProblem)) throw err;
    answer = { verdict: 'failed', problem: err };
  }
  answers.set(attempt.name, answer);
  renderAnswer(attempt);
  renderTotal();
  return answer;
}

async function send({ method, path, body, text, token }, link) {
  const headers = {};
  if (token) headers['Klavi-Link-Token'] = token(link);
  if (method === 'POST') headers['Content-Type'] = 'application/json';
  let res, told;
  try {
    res = await fetch(path, { method, headers, body: text ?? (body && JSON.stringify(body)), cache: 'no-store' });
    told = await res.json();
  } catch (err) {
    if (!res) throw new KlaviProblem({ type: 'network', detail: 'no answer came' }, undefined, err);
  }
  if (res.ok) return { verdict: 'through', problem: { status: res.status, type: '', title: '' } };
  const problem = typeof told?.type === 'string' ? { ...told, status: res.status } : { status: res.status, type: '?', title: '' };
  // A refusal is the gateway's word. What broke is none.
  return { verdict: res.status < 500 && problem.type !== '?' ? 'refused' : 'failed', problem };
}

export function render() {
  for (const attempt of attempts) {
    $(`about-${attempt.name}`).replaceChildren(...marked(t(`try.${attempt.name}`)));
    renderAnswer(attempt);
  }
  renderTotal();
}

function renderAnswer({ name }) {
  const answer = answers.get(name);
  $(`try-${name}`).textContent = t(answer ? 'breakout.again' : 'breakout.try');
  if (!answer) return;
  const place = $(`answer-${name}`);
  place.dataset.verdict = answer.verdict;
  place.replaceChildren(el('strong', { className: 'verdict' }, t(`breakout.${answer.verdict}`)), refusal(answer.problem));
}

function renderTotal() {
  const all = Array.from(answers.values());
  const refused = all.filter(({ verdict }) => verdict === 'refused').length;
  $('breakout-total').textContent = all.length ? t('breakout.total', { refused, sent: all.length }) : '';
}
