/**
 * A client for the gateway's `klavi_frontend`, for browsers: one file, no
 * dependencies. Take it as it is.
 *
 *     import { Klavi, KlaviProblem } from './klavi.js';
 *
 *     const klavi = new Klavi({ prefix: '/klavi' });
 *     await klavi.createLink({ personalTaxId: '529.982.247-25' });
 *
 *     // either Klavi's own pages ...
 *     location.assign((await klavi.freshLink()).linkURL);
 *
 *     // ... or your own
 *     const banks = await klavi.institutions();
 *     const consent = await klavi.createConsent({ institutionCode: banks[0].institutionCode });
 *     location.assign(consent.consentRedirectURL);      // once, within 60 seconds
 *
 * Both ways end at your redirectURL. What stands in its query came by way of
 * the browser and proves nothing; the signed events and reports at your
 * services do.
 *
 * What the client does by itself:
 * - A link lives 30 minutes. When it has run out, the client creates another one
 *   with the same fields and sends the request again, once.
 * - Every POST has an Idempotency-Key, so that it can be sent again without a
 *   second link or consent where the first answer got lost.
 * - Where the gateway says Retry-After (429, 503), and where the network failed, it
 *   waits and sends the request again, twice at most.
 *
 * Everything else is a {@link KlaviProblem}, which says what to do about it.
 *
 * @module klavi
 */

/**
 * What `POST <prefix>/links` answers.
 *
 * @typedef {object} Link
 * @property {string} linkId      Klavi's id of the link; it comes back as `link_id`.
 * @property {string} [linkToken] Sealed: good through this gateway only, for what the link was created
 *                                for. Missing with `flow whitelabel`.
 * @property {string} [linkURL]   Klavi's hosted page. Missing with `flow api_only`.
 * @property {number} expireIn    Seconds from now.
 * @property {string} expiresAt   The same as a time (RFC 3339), by the gateway's clock.
 */

/**
 * What may be sent with a link. Which fields are fixed or closed, the gateway's
 * config says; closed ones are refused as `unknown-field`.
 *
 * @typedef {object} LinkFields
 * @property {string} [personalTaxId]   CPF, with or without punctuation.
 * @property {string} [businessTaxId]   CNPJ.
 * @property {string} [email]
 * @property {string} [phone]           Such as +5511987654321.
 * @property {string} [institutionCode] The only institution of this link.
 * @property {string} [redirectURL]     One of the gateway's `redirect_urls`; left out, the first.
 */

/**
 * One of Klavi's institutions; more members than these are there.
 *
 * @typedef {object} Institution
 * @property {string}  institutionCode
 * @property {string}  name
 * @property {string}  avatar          The URL of a logo.
 * @property {boolean} isOutage        A consent would be refused at the moment.
 * @property {boolean} isBeta
 * @property {number}  institutionType 1: Open Finance, which takes consents. 2: Open Data, which does not.
 */

/**
 * What may be sent with a consent. What the link fixed may be left out.
 *
 * @typedef {object} ConsentFields
 * @property {string} [institutionCode] Required, unless the link has one.
 * @property {string} [personalTaxId]
 * @property {string} [businessTaxId]
 * @property {string} [redirectURL]
 * @property {string} [externalTrackId] Yours; left out, the gateway makes one up.
 * @property {string} [phone]
 * @property {string} [email]
 * @property {0|12}   [validityPeriod]  Months; 0 is without end.
 * @property {object} [clientMetadata]
 */

/**
 * @typedef {object} Consent
 * @property {string} consentId
 * @property {string} consentRedirectURL The bank's page. It can be opened once, within 60 seconds.
 * @property {string} expireAt           When the consent ends, once it is given.
 */

/**
 * What the client did by itself, for those who show it.
 *
 * @typedef {{kind: 'renewed', link: Link} | {kind: 'waiting', seconds: number, problem: KlaviProblem}} Notice
 */

/**
 * @typedef {object} CallOptions
 * @property {AbortSignal} [signal]
 * @property {string} [idempotencyKey] Of a POST; left out, a new one.
 */

/**
 * What an app should do about each problem type (docs/problems.md). Types that
 * come later are judged by their status.
 *
 * - `log-in`: have the user log in, then try again.
 * - `start-again`: forget the link and begin anew.
 * - `new-link`: create a new link. The client has tried that already.
 * - `check-field`: have the user look at `problem.field`.
 * - `choose-another`: offer other institutions.
 * - `revoke-one`: there is a connection to this bank already.
 * - `wait`: try again in `problem.retryAfter` seconds.
 * - `try-again`: try again later; what was asked for may have happened.
 * - `give-up`: it did not work, and will not.
 * - `mistake`: nothing that a user could mend: the app or the gateway's config is wrong.
 *
 * @type {Readonly<Record<string, string>>}
 */
const ADVICE = Object.freeze({
  'login-required': 'log-in',
  'not-yours': 'start-again',
  'origin': 'mistake',
  'not-found': 'mistake',
  'method-not-allowed': 'mistake',
  'invalid-request': 'mistake',
  'unsupported-media-type': 'mistake',
  'unknown-field': 'mistake',
  'invalid-field': 'check-field',
  'redirect-not-listed': 'mistake',
  'link-expired': 'new-link',
  'link-invalid': 'new-link',
  'consent-mismatch': 'start-again',
  'consent-limit': 'revoke-one',
  'institution-unavailable': 'choose-another',
  'idempotency-conflict': 'mistake',
  'too-large': 'mistake',
  'rate-limited': 'wait',
  'klavi-refused': 'give-up',
  'klavi-unreachable': 'try-again',
  'klavi-nonsense': 'give-up',
  'internal': 'give-up',
  'network': 'try-again',
});

/** An answer that is not a success, or no answer at all. Decide by `type`. */
export class KlaviProblem extends Error {
  /**
   * @param {object} p
   * @param {string} p.type
   * @param {number} [p.status]
   * @param {string} [p.title]
   * @param {string} [p.detail]
   * @param {string} [p.field]
   * @param {number} [p.statusCode]
   * @param {string} [p.message]
   * @param {number} [retryAfter]
   * @param {unknown} [cause]
   */
  constructor(p, retryAfter, cause) {
    super(`${p.type}: ${p.detail ?? p.title ?? ''}`, { cause });
    this.name = 'KlaviProblem';
    /** From the list in docs/problems.md; `network` where there was no answer, `unknown` where it was none of the gateway's. */
    this.type = p.type;
    /** The HTTP status; 0 where there was no answer. */
    this.status = p.status ?? 0;
    /** For developers, and in English. Do not show them to users. */
    this.title = p.title ?? '';
    this.detail = p.detail ?? '';
    /** The member of the request's body that is meant, if one is. @type {string | undefined} */
    this.field = p.field;
    /** Klavi's own code and message, where Klavi answered. @type {number | undefined} */
    this.klaviCode = p.statusCode;
    /** @type {string | undefined} */
    this.klaviMessage = p.message;
    /** In how many seconds the same request may work. @type {number | undefined} */
    this.retryAfter = retryAfter;
  }

  /** What to do about it: one of the words explained at ADVICE above. */
  get advice() {
    return ADVICE[this.type] ?? (this.status >= 500 || this.status === 0 ? 'try-again' : 'mistake');
  }
}

const MAX_REPEATS = 2;
const MAX_WAIT = 10; // seconds; a longer Retry-After is the caller's to decide
const NETWORK_WAIT = 1; // seconds

export class Klavi {
  #prefix;
  #fetch;
  #fields;
  #link;
  #goodUntil;
  #notify;
  #renewing = null;

  /**
   * @param {object} [options]
   * @param {string} [options.prefix]                  As in the gateway's config.
   * @param {typeof fetch} [options.fetch]             In place of the browser's own, for instance to add the site's login.
   * @param {(notice: Notice) => void} [options.onNotice]
   * @param {ReturnType<Klavi['toJSON']>} [options.restore] What an earlier page kept of `JSON.stringify(klavi)`,
   *                                                   so that a link survives the way to the bank and back.
   */
  constructor({ prefix = '/klavi', fetch = (...request) => globalThis.fetch(...request), onNotice = () => {}, restore } = {}) {
    this.#prefix = prefix.replace(/\/$/, '');
    this.#fetch = fetch;
    this.#notify = onNotice;
    this.#fields = restore?.fields ?? {};
    this.#link = restore?.link ?? null;
    this.#goodUntil = restore?.goodUntil ?? 0;
  }

  /** The link in use, or null. @returns {Link | null} */
  get link() {
    return this.#link;
  }

  /** What to keep in sessionStorage. It holds the link token: keep it nowhere else. */
  toJSON() {
    return { fields: this.#fields, link: this.#link, goodUntil: this.#goodUntil };
  }

  /**
   * Creates a link. Its fields are remembered for the next one.
   *
   * @param {LinkFields} [fields]
   * @param {CallOptions} [options]
   * @returns {Promise<Link>}
   */
  async createLink(fields = {}, options = {}) {
    const link = await this.#send('POST', '/links', fields, options);
    this.#fields = { ...fields };
    this.#link = link;
    // By this machine's clock from now on: it may differ from the gateway's.
    this.#goodUntil = Date.now() + link.expireIn * 1000;
    return link;
  }

  /**
   * Returns the link, or a new one if it has run out or is about to: for those
   * who go to its linkURL.
   *
   * @param {object} [options]
   * @param {number} [options.leastSeconds] How long it must still be good.
   * @returns {Promise<Link>}
   */
  async freshLink({ leastSeconds = 60 } = {}) {
    if (this.#link && Date.now() + leastSeconds * 1000 < this.#goodUntil) return this.#link;
    return this.#renew();
  }

  /**
   * Lists the institutions.
   *
   * @param {CallOptions} [options]
   * @returns {Promise<Institution[]>}
   */
  institutions(options = {}) {
    return this.#withLink('GET', '/institutions', undefined, options);
  }

  /**
   * Creates a consent under the link. Send the user to its consentRedirectURL at once.
   *
   * @param {ConsentFields} consent
   * @param {CallOptions} [options]
   * @returns {Promise<Consent>}
   */
  createConsent(consent, options = {}) {
    return this.#withLink('POST', '/consents', consent, options);
  }

  /** Sends what needs a link; if that has run out, again with a new one. */
  async #withLink(method, path, body, options) {
    if (!this.#link) throw new Error('klavi: create a link first');
    if (!this.#link.linkToken) throw new Error('klavi: the gateway gives out no linkToken (flow whitelabel); go to linkURL');
    const used = this.#link;
    try {
      return await this.#send(method, path, body, options, used.linkToken);
    } catch (err) {
      if (!(err instanceof KlaviProblem) || err.advice !== 'new-link') throw err;
    }
    // Another call may have renewed it meanwhile. The key is not used again:
    // under another link it is another request.
    const link = this.#link === used ? await this.#renew() : this.#link;
    return this.#send(method, path, body, { signal: options.signal }, link.linkToken);
  }

  /** Creates the next link; several callers get the same. */
  #renew() {
    this.#renewing ??= this.createLink(this.#fields)
      .then((link) => {
        this.#notify({ kind: 'renewed', link });
        return link;
      })
      .finally(() => {
        this.#renewing = null;
      });
    return this.#renewing;
  }

  /** Sends a request, again after a wait where that may help. */
  async #send(method, path, body, { signal, idempotencyKey = newKey() } = {}, linkToken) {
    const headers = { Accept: 'application/json' };
    // In its own header, so that Authorization stays free for the site's login.
    if (linkToken) headers['Klavi-Link-Token'] = linkToken;
    if (method === 'POST') {
      headers['Content-Type'] = 'application/json';
      headers['Idempotency-Key'] = idempotencyKey;
    }
    const request = { method, headers, body: body && JSON.stringify(body), signal, cache: 'no-store', redirect: 'error' };
    for (let repeats = 0; ; repeats++) {
      const { value, problem } = await attempt(this.#fetch, this.#prefix + path, request);
      if (!problem) return value;
      const seconds = waitFor(problem);
      if (seconds === undefined || seconds > MAX_WAIT || repeats === MAX_REPEATS) throw problem;
      this.#notify({ kind: 'waiting', seconds, problem });
      await sleep(seconds, signal);
    }
  }
}

async function attempt(fetch, url, request) {
  let res, text;
  try {
    res = await fetch(url, request);
    text = await res.text();
  } catch (err) {
    if (request.signal?.aborted) throw err;
    return { problem: new KlaviProblem({ type: 'network', detail: 'no answer came' }, undefined, err) };
  }
  const value = parse(text);
  if (res.ok && value !== undefined) return { value };
  const told = !res.ok && typeof value?.type === 'string' ? value : { type: 'unknown', detail: "the answer is not the gateway's" };
  const seconds = Number(res.headers.get('Retry-After')) || undefined;
  return { problem: new KlaviProblem({ ...told, status: res.status }, seconds) };
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** In how many seconds the same request is worth another try; undefined if it is not. */
function waitFor(problem) {
  if (problem.type === 'network') return NETWORK_WAIT;
  if (problem.status === 429 || problem.status === 503) return problem.retryAfter;
  return undefined;
}

function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener('abort', () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

/** A random UUID. crypto.randomUUID exists on https and localhost only. */
function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}
