// Step 2: consent, by Klavi's own pages or by screens of one's own, and the way back.

import { $, announce, busy, colored, el, klavi, marked, save, showProblem, state, t } from './page.js';

const OPEN_FINANCE = 1;
const TICKET_LIFE = 60; // seconds in which a consentRedirectURL can be opened

let institutions = [];

export function start() {
  takeReturn();
  $('go-hosted').addEventListener('click', () => busy($('go-hosted'), goHosted));
  $('load-institutions').addEventListener('click', () => busy($('load-institutions'), load));
  $('consent-form').addEventListener('submit', (event) => {
    event.preventDefault();
    busy($('create-consent'), create);
  });
  $('go-bank').addEventListener('click', () => {
    state.consent.opened = true;
    save();
  });
  document.addEventListener('link', render);
  setInterval(renderTimer, 1000);
}

// Klavi's own pages.

async function goHosted() {
  $('hosted-problem').replaceChildren();
  try {
    const link = await klavi.freshLink();
    save();
    location.assign(link.linkURL);
  } catch (err) {
    showProblem($('hosted-problem'), err);
  }
}

// Screens of one's own.

async function load() {
  $('api-problem').replaceChildren();
  try {
    institutions = await klavi.institutions();
  } catch (err) {
    showProblem($('api-problem'), err);
    return;
  }
  renderInstitutions();
  announce(t('api.loaded', { count: institutions.length }));
  $('institutions').querySelector('input:checked')?.focus();
}

async function create() {
  $('api-problem').replaceChildren();
  const institutionCode = new FormData($('consent-form')).get('institutionCode');
  state.institution = institutionCode;
  try {
    const answer = await klavi.createConsent({ institutionCode, redirectURL: `${location.origin}/` });
    state.consent = { answer, until: Date.now() + TICKET_LIFE * 1000 };
  } catch (err) {
    delete state.consent;
    renderConsent();
    showProblem($('api-problem'), err);
    return;
  }
  save();
  renderConsent();
  announce(t('api.created'));
  $('go-bank').focus();
}

// The way back.

/** Takes what Klavi put into the address, and leaves the address as it was. */
function takeReturn() {
  const params = new URLSearchParams(location.search);
  if (!params.has('link_id')) return;
  state.returned = Object.fromEntries(params);
  delete state.consent;
  save();
  history.replaceState(null, '', location.pathname);
  requestAnimationFrame(() => {
    $('returned').scrollIntoView({ block: 'center' });
    $('returned-title').focus({ preventScroll: true });
  });
}

export function render() {
  const { link } = klavi;
  $('consent-needs-link').hidden = Boolean(link);
  $('ways').hidden = !link;
  $('api-needs-cpf').hidden = !link || Boolean(klavi.toJSON().fields.personalTaxId);
  renderReturned();
  renderInstitutions();
  renderConsent();
}

function renderReturned() {
  const { returned } = state;
  $('returned').hidden = !returned;
  if (!returned) return;
  const outcome = returned.error === undefined ? 'ok' : 'no';
  $('returned').dataset.outcome = outcome;
  $('returned-title').textContent = t(`returned.${outcome}`);
  $('returned-text').replaceChildren(...marked(t(`returned.${outcome}.text`)));
  const event = { ok: 'consent_authorised', no: returned.error === 'server_error' ? 'consent_error' : 'consent_rejected' }[outcome];
  $('returned-hint').replaceChildren(...marked(t('returned.hint', { event })));
  $('returned-values').replaceChildren(...Object.entries(returned).flatMap(([name, value]) => {
    const cell = el('dd', {}, el('code', {}, value));
    if (name === 'link_id') {
      cell.append(' ', el('span', { className: 'mark' }, t(value === klavi.link?.linkId ? 'returned.same' : 'returned.other')));
    }
    return [el('dt', {}, el('code', {}, name)), cell];
  }));
}

function renderInstitutions() {
  $('consent-form').hidden = institutions.length === 0;
  const chosen = new FormData($('consent-form')).get('institutionCode') ?? state.institution ?? institutions[0]?.institutionCode;
  $('institutions').replaceChildren(...institutions.map((one) => {
    const takesConsents = one.institutionType === OPEN_FINANCE;
    const marks = [
      ...(one.isOutage ? [el('span', { className: 'mark warn' }, t('mark.outage'))] : []),
      ...(one.isBeta ? [el('span', { className: 'mark' }, t('mark.beta'))] : []),
    ];
    const hint = takesConsents ? hintOf(one.institutionCode) : t('mark.opendata');
    return el('label', { className: 'institution' },
      el('input', {
        type: 'radio', name: 'institutionCode', value: one.institutionCode, required: true,
        disabled: !takesConsents, checked: takesConsents && one.institutionCode === chosen,
      }),
      el('img', { src: one.avatar, alt: '', width: 32, height: 32 }),
      el('span', { className: 'institution-name' },
        el('span', {}, el('span', { lang: 'pt-BR' }, one.name), ' ', ...marks),
        el('span', { className: 'hint' }, `${one.institutionCode}${hint ? ` · ${hint}` : ''}`)));
  }));
}

/** How the simulated bank behaves, of those that are known. */
function hintOf(code) {
  try {
    return t(`bank.${code}`);
  } catch {
    return '';
  }
}

function renderConsent() {
  $('consent-result').hidden = !state.consent;
  if (!state.consent) return;
  $('consent-json').replaceChildren(...colored(state.consent.answer));
  $('go-bank').href = state.consent.answer.consentRedirectURL;
  renderTimer();
}

function renderTimer() {
  if (!state.consent) return;
  const seconds = Math.ceil((state.consent.until - Date.now()) / 1000);
  const over = seconds <= 0 || state.consent.opened;
  // Whoever has the focus there must not lose it.
  if (over && document.activeElement === $('go-bank')) ($('consent-form').hidden ? $('load-institutions') : $('create-consent')).focus();
  $('go-bank').hidden = over;
  $('consent-timer').textContent = over ? t('api.over') : t('api.left', { seconds });
  if (!over && seconds === 15) announce(t('api.soon'));
}
