// The page: the socket, keys and buttons. What is shown is in panels.js.

import { hash, reduce } from './book.js';
import { counters, named, write } from './draw.js';
import { draw, ladder, make } from './panels.js';
import { Recording, Tape, lines } from './replay.js';

const token = location.hash.slice(1);
const ALL = ['exchange', 'markets', 'market', 'book', 'own', 'trades', 'events', 'chart', 'orders', 'timeline', 'positions', 'members', 'requests', 'faults', 'streams', 'subscriptions'];
const view = { center: true, complement: false, at: 0, order: 0, shown: '', shards: [], requests: 0, prices: [], listed: -1 };
const watch = { panels: ALL, ticker: '', filter: '', order: 0 };
const live = new Map();
let model = live;
let tape = new Tape();
let recording = null;
/** The market that was watched before a recording was opened. */
let kept = '';
let place = null;
let socket = null;
let frame = null;
let age = 0;
let rates = [];
const dirty = new Set();
/** For tests: what the page has done so far. */
const seen = { frames: 0, oldest: 0, long: 0, bad: 0 };
window.simulator = { seen, counters, view };

const tables = make({
  market: (ticker) => { watch.ticker = ticker; view.center = true; look(); },
  price: (price) => { view.at = view.prices.indexOf(price); named('place').price.value = price; redraw('book'); },
  order: (key) => { view.order = watch.order = Number(key); redraw('orders', 'timeline'); look(); },
});

function redraw(...names) {
  for (const name of names) dirty.add(name);
  schedule();
}

/** Tells the exchange what is watched; a recording is looked at here. */
function look() {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ watch }));
  if (place !== null) go(place);
}

function say(text, isBad = false) {
  write(named('state'), text);
  named('state').className = isBad ? 'fact bad' : 'fact';
}

function connect() {
  socket = new WebSocket(`ws://${location.host}/ui/stream`, ['kalshi-sim.1', token]);
  socket.addEventListener('open', look);
  socket.addEventListener('message', (event) => received(JSON.parse(event.data)));
  socket.addEventListener('close', () => {
    say(token ? 'not connected' : 'no token', true);
    setTimeout(connect, 1000);
  });
}

function received(message) {
  if (message.hello) {
    write(named('seed'), message.hello.seed);
    say(`version ${message.hello.version}`);
    named('shard').dataset.filled = '';
    return;
  }
  if (message.error) {
    say(message.error, true);
    return;
  }
  frame = message;
  age = Date.now() - frame.sent;
  seen.frames += 1;
  seen.oldest = Math.max(seen.oldest, age);
  if (frame.full) for (const name of live.keys()) dirty.add(name);
  reduce(live, frame);
  tape.push(frame);
  for (const name of Object.keys(frame.panels)) if (place === null) dirty.add(name);
  if (place === null && view.shown !== frame.ticker) {
    view.shown = frame.ticker;
    view.center = true;
    dirty.add('markets').add('book');
  }
  schedule();
}

let scheduled = false;
function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    const began = performance.now();
    if (dirty.size) {
      draw(view, tables, model, dirty);
      dirty.clear();
    }
    head();
    // A page that is not drawn says nothing, and so gets nothing.
    if (frame && frame.acknowledged !== true && socket.readyState === WebSocket.OPEN) {
      socket.send(JSON.stringify({ ack: frame.n }));
      frame.acknowledged = true;
    }
    counters.draws += 1;
    counters.longest = Math.max(counters.longest, Math.ceil(performance.now() - began));
  });
}

function head() {
  if (!frame) return;
  if (place === null) {
    write(named('clock'), new Date(frame.at).toISOString().replace('T', ' ').slice(0, 23));
    write(named('frozen'), frame.frozen ? 'frozen' : 'running');
    write(named('tape-at'), 'now');
  }
  write(named('freeze'), frame.frozen ? 'resume' : 'freeze');
  const length = recording?.length ?? tape.length;
  const slider = named('tape');
  slider.max = String(Math.max(0, length - 1));
  if (place === null) slider.value = slider.max;
  write(named('counters'), `frame ${frame.n} · ${age} ms old · ${counters.draws} draws, longest ${counters.longest} ms · ${counters.cells} cells`);
  shards();
}

function shards() {
  const select = named('shard');
  if (select.dataset.filled === '' && view.shards.length) {
    select.dataset.filled = 'yes';
    select.replaceChildren(...view.shards.map(([index, name]) => new Option(`shard ${index} ${name}`, index)));
  }
  const [, , active, trading] = view.shards.find(([index]) => index === select.value) ?? [];
  write(named('trading'), trading === false ? 'resume trading' : 'pause trading');
  write(named('active'), active === false ? 'resume exchange' : 'pause exchange');
}

/** Compares the book with what the exchange says of it, and counts requests: once a second. */
setInterval(() => {
  rates = [...rates, view.requests].slice(-2);
  write(named('rate'), String(Math.max(0, view.requests - (rates[0] ?? 0))));
  if (!frame || place !== null) return;
  const own = hash(live.get('book'));
  const isSame = own === frame.hash;
  if (!isSame) seen.bad += 1;
  write(named('hash'), own);
  write(named('hash-state'), isSame ? 'same as the exchange' : `the exchange has ${frame.hash}`);
  named('hash-state').className = isSame ? '' : 'bad';
}, 1000);

/** Shows the view of a place on the slider; `null` is live. */
function go(to) {
  place = to;
  named('live').className = to === null ? 'on' : '';
  if (to === null) {
    if (recording) watch.ticker = kept;
    recording = null;
    model = live;
    view.shown = frame?.ticker ?? '';
  } else {
    const found = recording ? recording.at(to, watch.ticker || view.shown) : tape.at(to);
    if (!found) return;
    model = found.model;
    view.shown = found.ticker;
    write(named('clock'), new Date(found.at).toISOString().replace('T', ' ').slice(0, 23));
    write(named('frozen'), 'past');
    write(named('tape-at'), new Date(found.at).toISOString().slice(11, 23));
    named('tape').value = String(to);
  }
  redraw(...ALL);
}

async function open(file) {
  const { found, cut } = await lines(file);
  replay(file.name, found, cut, '');
}

/** Opens what the exchange keeps of the past: also that of before this page. */
async function history() {
  const answer = await fetch('/ui/history', { headers: { 'x-token': token } });
  replay('history', (await answer.text()).split('\n'), '', view.shown);
}

function replay(name, found, cut, ticker) {
  const read = new Recording(found);
  if (!read.length) {
    say('this is no recording of books or trades', true);
    return;
  }
  if (!recording) kept = watch.ticker;
  recording = read;
  view.center = true;
  watch.ticker = read.tickers.includes(ticker) ? ticker : read.tickers[0] ?? '';
  say(`${name}: ${read.length} events${cut ? `; ${cut}` : ''}`);
  named('tape').max = String(read.length - 1);
  go(read.length - 1);
}

async function send(method, path, body, out = null) {
  try {
    const answer = await fetch(path, {
      method,
      headers: { 'x-token': token, ...(body ? { 'content-type': 'application/json' } : {}) },
      body: body || undefined,
    });
    const text = await answer.text();
    if (out) write(out, `${answer.status} ${text}`);
    else say(answer.ok ? `${path} done` : text, !answer.ok);
  } catch (error) {
    say(String(error), true);
  }
}
const post = (path, body) => send('POST', path, body && JSON.stringify(body));

const freeze = () => post(frame?.frozen ? '/clock/resume' : '/clock/freeze');
const advance = (seconds) => post('/clock/advance', { seconds });
const market = (what, body) => post(`/markets/${encodeURIComponent(view.shown)}/${what}`, body);
const shard = (change) => {
  const [index, , exchangeActive, tradingActive] = view.shards.find(([number]) => number === named('shard').value) ?? [];
  if (index !== undefined) post(`/shards/${index}`, { exchange_active: exchangeActive, trading_active: tradingActive, ...change(exchangeActive, tradingActive) });
};
const scroll = (by) => { view.at += by; ladder(view, tables, model); };
const step = (by) => {
  const length = recording?.length ?? tape.length;
  if (length) go(Math.max(0, Math.min(length - 1, (place ?? length - 1) + by)));
};

const on = (id, event, act) => named(id).addEventListener(event, act);
on('freeze', 'click', freeze);
on('trading', 'click', () => shard((active, trading) => ({ trading_active: !trading })));
on('active', 'click', () => shard((active) => ({ exchange_active: !active })));
on('live', 'click', () => go(null));
on('tape', 'input', () => go(Number(named('tape').value)));
on('file', 'change', () => named('file').files[0] && open(named('file').files[0]));
on('history', 'click', history);
on('filter', 'input', () => { watch.filter = named('filter').value; look(); });
on('help-open', 'click', () => named('help').showModal());
on('fault-add', 'click', () => route('POST /faults'));
on('fault-clear', 'click', () => send('DELETE', '/faults'));
on('route', 'change', () => route(named('route').value));
for (const button of document.querySelectorAll('[data-advance]')) button.addEventListener('click', () => advance(Number(button.dataset.advance)));
for (const button of document.querySelectorAll('[data-market]')) button.addEventListener('click', () => market(button.dataset.market, button.dataset.market === 'close' ? { in_seconds: 0 } : undefined));
for (const button of document.querySelectorAll('[data-result]')) button.addEventListener('click', () => market('determine', { result: button.dataset.result }));
for (const button of document.querySelectorAll('[data-post]')) button.addEventListener('click', () => send('POST', button.dataset.post, button.dataset.body));

on('place', 'submit', (event) => {
  event.preventDefault();
  const form = named('place');
  const body = { ticker: view.shown, post_only: form.post_only.checked };
  for (const field of ['member', 'side', 'price', 'count', 'time_in_force']) body[field] = form[field].value;
  send('POST', '/ui/orders', JSON.stringify(body), named('placed'));
});

let routes = [];
function route(name) {
  const found = routes.find(({ method, path }) => `${method} ${path}` === name);
  if (!found) return;
  named('route').value = name;
  named('route-path').value = found.path.replace('{ticker}', view.shown).replace('{index}', named('shard').value);
  named('route-body').value = found.example ?? '';
  named('route-body').focus();
}
on('admin', 'submit', (event) => {
  event.preventDefault();
  const method = named('route').value.split(' ')[0];
  send(method, named('route-path').value, method === 'GET' ? '' : named('route-body').value, named('answer'));
});
fetch('/').then((answer) => answer.json()).then((list) => {
  routes = list.routes;
  named('route').replaceChildren(...routes.map(({ method, path, does }) => new Option(`${method} ${path}: ${does}`, `${method} ${path}`)));
  route('GET /clock');
  document.activeElement?.blur();
});

on('ladder-box', 'keydown', (event) => {
  const by = { ArrowUp: -1, ArrowDown: 1, PageUp: -20, PageDown: 20 }[event.key];
  if (by) {
    scroll(by);
    event.preventDefault();
    event.stopPropagation();
  } else if (event.key === 'Enter' && view.prices[view.at]) named('place').price.value = view.prices[view.at];
});
on('ladder-box', 'wheel', (event) => { scroll(Math.sign(event.deltaY)); event.preventDefault(); });

const KEYS = {
  '/': () => named('filter').focus(), b: () => named('ladder-box').focus(), c: () => { view.center = true; redraw('book'); },
  n: () => { view.complement = !view.complement; redraw('book'); }, o: () => named('place').price.focus(), a: () => named('route').focus(),
  f: freeze, 1: () => advance(1), 2: () => advance(60), 3: () => advance(3600), '[': () => step(-1), ']': () => step(1),
  l: () => go(null), h: history, '?': () => named('help').showModal(),
};
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') document.activeElement?.blur();
  const isTyping = /INPUT|TEXTAREA|SELECT/.test(event.target.tagName) && event.target.type !== 'range';
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, event.key)) return;
  KEYS[event.key]();
  event.preventDefault();
});
addEventListener('resize', () => redraw('chart'));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => redraw('chart'));
if (PerformanceObserver.supportedEntryTypes?.includes('longtask')) {
  new PerformanceObserver((list) => { for (const { duration } of list.getEntries()) seen.long = Math.max(seen.long, Math.ceil(duration)); }).observe({ entryTypes: ['longtask'] });
}
connect();
