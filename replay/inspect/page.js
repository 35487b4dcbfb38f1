// The page's state, where its nodes come from (itself, or the server it came from), what is on show. The
// charts are in charts.js, the table in table.js, the chosen node in panel.js, parts of the same script.
// Texts of a model are only ever set as text.

const $ = (id) => document.getElementById(id);
const LIVE_ROWS = 2000, LOOK_AGAIN_MS = 10000, FORCED = null;
const ACTIONS = ["problem", "expand", "divide", "critic", "refine", "conclude"];
const GRADED = { right: "outcome >= 1", wrong: "outcome <= 0", none: "outcome IS NULL", "partly right": "outcome > 0 AND outcome < 1" };
const OUTCOMES = { right: "✓ right", wrong: "✗ wrong", none: "no answer" };
const held = JSON.parse($("data").textContent); // null: a server is asked
const wish = { query: "", where: "", actions: new Set(), outcomes: new Set(), sort: "priority", descending: true };
let now = null; // overview, columns of the nodes, the places of those on show in order
let fetching = 0; // number of the newest question
let looked = ""; // of the overview that is drawn: nothing has changed while it stays the same

listen();
if (held) {
  show(held.overview, held.nodes);
  sortedBy(held.sort);
} else {
  $("state").hidden = $("where").hidden = false;
  fetchAll(true);
  setInterval(() => { if (!document.hidden) fetchAll(false); }, LOOK_AGAIN_MS);
}

// ---- what there is

function show(overview, nodes) {
  const chosen = now?.chosen == null ? null : now.nodes.id[now.chosen];
  now = { overview, nodes, places: [], chosen: null, lower: null, byNode: null };
  now.count = nodes.id.length;
  now.isPart = !held && wish.actions.size + wish.outcomes.size > 0;
  drawHeader();
  drawCharts();
  buildFilters();
  const again = chosen === null ? -1 : nodes.id.indexOf(chosen);
  if (again >= 0) now.chosen = again;
  sift();
  if (again < 0) choose(now.places[0] ?? null);
}

function sortedBy(sort) {
  const [, name, way] = /^\s*(\w+)(?:\s+(asc|desc))?\s*$/i.exec(sort);
  wish.sort = name.toLowerCase();
  wish.descending = (way ?? "").toLowerCase() !== "asc";
  buildColumns();
  sift();
  choose(now.places[0] ?? null);
}

function text(name, place) {
  const column = now.nodes[name];
  return column.names[column.places[place]];
}

function outcomeOf(place) {
  const outcome = now.nodes.outcome[place];
  return outcome === null ? "none" : outcome >= 1 ? "right" : outcome <= 0 ? "wrong" : "partly right";
}

function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  const size = Math.abs(value);
  return size >= 1000 ? Math.round(value).toLocaleString("en-US") : size >= 0.001 ? value.toFixed(digits) : value.toExponential(1);
}

// ---- a server

async function ask(path, parameters) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== ""));
  const answer = await fetch(`${path}?${query}`);
  const read = await answer.json();
  if (!answer.ok) throw new Error(read.error);
  return read;
}

async function fetchAll(always) {
  const asked = { where: wish.where }, turn = ++fetching;
  try {
    const overview = await ask("overview.json", asked);
    const is = JSON.stringify(overview);
    if (is === looked && !always) return;
    const nodes = await ask("nodes.json", { where: condition(), sort: `${wish.sort} ${wish.descending ? "desc" : "asc"}`, limit: LIVE_ROWS });
    if (turn !== fetching) return; // a later question is on its way
    looked = is;
    $("where").removeAttribute("aria-invalid");
    show(overview, nodes);
  } catch (error) {
    $("where").setAttribute("aria-invalid", "true");
    $("notes").textContent = String(error.message);
  }
}

// The condition in the box and the chosen filters, in the words of --where.
function condition() {
  const quoted = [...wish.actions].map((action) => `'${action.replaceAll("'", "''")}'`);
  const graded = [...wish.outcomes].map((outcome) => GRADED[outcome]);
  const parts = [wish.where, quoted.length ? `action IN (${quoted.join(", ")})` : "", graded.join(" OR ")].filter(Boolean);
  return parts.length > 1 ? parts.map((part) => `(${part})`).join(" AND ") : parts.join("");
}

const leavesOut = () => !held && (now.overview.num_matching > now.count || now.isPart);

function refine() {
  if (leavesOut()) fetchAll(true); // the first that fit are not all here
  else sift();
}

// ---- what is on show

function sift() {
  const words = wish.query.toLowerCase();
  now.lower ??= now.nodes.text?.map((one) => one.toLowerCase());
  const asked = words || wish.actions.size || wish.outcomes.size;
  const places = [];
  for (let place = 0; place < now.count; place++) {
    if (wish.actions.size && !wish.actions.has(text("action", place))) continue;
    if (wish.outcomes.size && !wish.outcomes.has(outcomeOf(place))) continue;
    if (words && !(now.lower?.[place].includes(words) || text("problem", place).toLowerCase().includes(words) ||
      text("tree", place).toLowerCase().includes(words) || String(now.nodes.id[place]) === words)) continue;
    places.push(place);
  }
  now.places = places;
  order();
  $("clear").hidden = !asked;
  $("hits").textContent = asked && !now.isPart ? `${number(places.length)} of ${number(now.count)}` : `${number(now.count)} nodes`;
  drawTable();
}

function order() {
  const column = now.nodes[wish.sort];
  const sign = wish.descending ? -1 : 1;
  const key = !column ? null : column.names ? (place) => column.names[column.places[place]] : (place) => column[place];
  if (!key) return;
  now.places.sort((a, b) => {
    const left = key(a), right = key(b);
    if (left === null || right === null) return (left === null) - (right === null) || a - b;
    return (left < right ? -sign : left > right ? sign : 0) || a - b;
  });
}

function choose(place) {
  now.chosen = place;
  drawTable();
  drawNode();
}

function drawHeader() {
  const { overview } = now;
  const [drawn, never] = overview.draws;
  const share = overview.num_matching ? Math.round((100 * never) / overview.num_matching) : 0;
  const about = overview.is_sample ? "about " : "";
  const size = overview.payload_bytes * (overview.is_sample ? overview.num_matching / overview.num_looked_at : 1);
  $("file").textContent = overview.file;
  $("figures").replaceChildren();
  const versions = overview.versions ? overview.versions.join(" – ") : "–";
  for (const [name, value] of [
    [overview.where ? "nodes that match" : "live nodes", number(overview.num_matching)],
    ["ever added", number(overview.position.added)],
    ["weights versions", versions],
    ["effective sample size", number(Math.round(overview.effective_sample_size))],
    ["draws", number(drawn)],
    ["never drawn", `${share} %`],
    ["arrays", `${about}${bytes(size)}`],
  ]) {
    const pair = document.createElement("div");
    pair.append(element("dt", "", name), element("dd", "", value));
    $("figures").append(pair);
  }
  const notes = [];
  if (overview.where) notes.push(`Only nodes where ${overview.where}.`);
  if (overview.is_sample) notes.push(`The charts are of ${number(overview.num_looked_at)} nodes spread evenly over ${number(overview.num_matching)}.`);
  const left = overview.num_matching - now.count;
  if (now.isPart && now.count >= LIVE_ROWS) notes.push(`The table holds the first ${number(now.count)} of the chosen nodes by ${wish.sort}.`);
  else if (left > 0 && !now.isPart) notes.push(`The table holds the first ${number(now.count)} nodes by ${held ? held.sort : wish.sort}; ${number(left)} are left out.`);
  $("notes").textContent = notes.join(" ");
}

function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const unit = Math.min(Math.floor(Math.log10(Math.max(count, 1)) / 3), 4);
  return `${(count / 1000 ** unit).toPrecision(3)} ${units[unit]}`;
}

function buildFilters() {
  const { by_action, by_outcome } = now.overview;
  filters("actions", by_action.map((group) => [group.name, group.name]), by_action);
  filters("outcomes", by_outcome.map((group) => [group.name, OUTCOMES[group.name] ?? group.name]), by_outcome);
}

function filters(which, pairs, groups) {
  const scale = now.overview.is_sample ? now.overview.num_matching / now.overview.num_looked_at : 1;
  const focused = [...$(which).children].indexOf(document.activeElement);
  $(which).replaceChildren(...pairs.map(([name, words], i) => {
    const button = element("button", "", words);
    button.type = "button";
    button.setAttribute("aria-pressed", wish[which].has(name));
    const about = scale > 1 ? "~" : "";
    button.append(element("small", "", about + number(Number((groups[i].num_nodes * scale).toPrecision(scale > 1 ? 2 : 15)))));
    button.addEventListener("click", () => {
      if (!wish[which].delete(name)) wish[which].add(name);
      button.setAttribute("aria-pressed", wish[which].has(name));
      refine();
    });
    return button;
  }));
  $(which).children[focused]?.focus();
}

function element(tag, style, words) {
  const made = document.createElement(tag);
  if (style) made.className = style;
  if (words !== undefined) made.textContent = words;
  return made;
}

function clearWishes() {
  wish.query = $("query").value = "";
  wish.actions.clear();
  wish.outcomes.clear();
  buildFilters();
  refine();
}

function listen() {
  let typing = 0;
  listenToTable();
  $("query").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => { wish.query = $("query").value.trim(); sift(); }, 120);
  });
  $("where").addEventListener("change", () => { wish.where = $("where").value.trim(); fetchAll(true); });
  $("clear").addEventListener("click", clearWishes);
  addEventListener("resize", () => now && drawTable());
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !now) return;
    const writes = event.target instanceof HTMLInputElement;
    if (event.key === "/" && !writes) $("query").focus();
    else if (event.key === "Escape") { clearWishes(); $("table").focus({ preventScroll: true }); }
    else if (!writes && event.key.toLowerCase() === "t") $("node").querySelector("a.tree")?.click();
    else if (writes && event.key === "ArrowDown") { $("table").focus({ preventScroll: true }); move(0); }
    else return;
    event.preventDefault();
  });
}
