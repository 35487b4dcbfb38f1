"use strict";
// The tree of the page: what is on show, filters, the lines in sight (no others are in the document),
// keyboard. What stands around the tree is in panels.js, part of the same script. Texts of a model are
// only ever set as text.

const ROW_PX = 34, SPARE_ROWS = 10, SNIPPET = 260, PATH_CARDS = 100, OPEN_ALL_BELOW = 120;
const MARKER = /<remaining>(\d+\/\d+)<\/remaining>/;
const ACTIONS = ["problem", "expand", "divide", "critic", "refine", "conclude"];
const OUTCOMES = { right: "✓", wrong: "✗", ungraded: "○" };
const METRICS = {
  value: { says: "the model's own word on success", low: "0", high: "1", of: (node) => node.value },
  q: { says: "mean of what the search backed up", low: "0", high: "1", of: (node) => (node.visits ? node.q : null) },
  visits: { says: "how often the search went through, log scale", low: "0", high: "most", of: (node) => Math.log1p(node.visits) / Math.log1p(now.mostVisits || 1) },
  prior: { says: "share of probability among siblings", low: "0", high: "1", of: (node) => node.prior },
};
const { rows, best } = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const wish = { query: "", actions: new Set(), outcomes: new Set(), metric: "value" };
let now = null; // the problem on show: its nodes, what is unfolded, what is chosen, the lines that follow
let drawing = 0, typing = 0, noting = 0; // a frame and two timers that wait

$("title").textContent = document.title;
buildSwitches();
listen();
if (rows.length) openFromAddress();
else $("problem").textContent = "No problems in this file";

// ---- one problem

function show(index, id) {
  const row = rows[index];
  const byId = new Map();
  const nodes = row.nodes.map((record, at) => {
    const above = byId.get(record.parent) ?? null;
    const node = { ...record, at, above, below: [], level: above ? above.level + 1 : 0 };
    above?.below.push(node);
    byId.set(node.id, node);
    return node;
  });
  for (const node of nodes) node.below.sort((a, b) => b.visits - a.visits || a.id - b.id);
  const winner = byId.get(best[index]);
  now = { index, nodes, byId, winner, winning: new Set(lineTo(winner)), folded: null, lines: [], hits: null };
  now.mostVisits = nodes.reduce((most, node) => Math.max(most, node.visits), 0);
  now.open = new Set(nodes.length < OPEN_ALL_BELOW ? nodes : [nodes[0], ...now.winning]);
  now.chosen = byId.get(id) ?? winner ?? nodes[0];
  buildHeader(row);
  buildFilters();
  buildProblems();
  clearWishes();
  choose(now.chosen);
}

function lineTo(node) {
  const line = [];
  for (; node; node = node.above) line.push(node);
  return line.reverse();
}

function outcomeOf(node) {
  if (node.outcome !== null) return node.outcome >= 0.5 ? "right" : "wrong";
  return node.terminal ? "ungraded" : null;
}

function choose(node) {
  now.chosen = node;
  if (now.hits && !now.kept.has(node)) clearWishes();
  unfoldTo(node);
  flatten();
  scrollTo(node);
  drawPath();
  clearTimeout(noting);
  noting = setTimeout(() => location.replace(`#${now.index + 1}/${node.id}`), 300); // browsers throttle faster changes
}

function unfoldTo(node) {
  for (let up = node.above; up; up = up.above) now.open.add(up);
}

function openFromAddress() {
  const [problem, id] = location.hash.slice(1).split("/").map(Number);
  show(rows[problem - 1] ? problem - 1 : 0, id);
}

// ---- filters

function sift() {
  const asked = wish.query || wish.actions.size || wish.outcomes.size;
  $("clear").hidden = !asked;
  if (!asked) {
    if (now.folded) now.open = now.folded;
    now.folded = now.hits = now.kept = null;
    unfoldTo(now.chosen);
  } else {
    now.folded ??= now.open;
    now.hits = now.nodes.filter(wanted);
    now.kept = new Set();
    now.open = new Set();
    for (const hit of now.hits) {
      for (let up = hit; up && !now.kept.has(up); up = up.above) now.kept.add(up);
      for (let up = hit.above; up && !now.open.has(up); up = up.above) now.open.add(up);
    }
    now.hitSet = new Set(now.hits);
  }
  flatten();
  countHits();
}

function wanted(node) {
  if (wish.actions.size && !wish.actions.has(node.action)) return false;
  if (wish.outcomes.size && !wish.outcomes.has(outcomeOf(node))) return false;
  return !wish.query || textOf(node).includes(wish.query) || String(node.id) === wish.query;
}

function textOf(node) {
  return (node.lower ??= `${node.text}\n${node.answer ?? ""}`.toLowerCase());
}

function clearWishes() {
  wish.query = $("query").value = "";
  wish.actions.clear();
  wish.outcomes.clear();
  for (const button of document.querySelectorAll(".filters button")) button.setAttribute("aria-pressed", "false");
  sift();
}

function countHits() {
  const place = now.hits ? now.hits.indexOf(now.chosen) + 1 : 0;
  $("hits").textContent = !now.hits ? "" : place ? `${place} of ${now.hits.length}` : `${now.hits.length} found`;
}

function nextHit(step) {
  if (!now.hits?.length) return;
  const order = now.lines.filter((node) => now.hitSet.has(node));
  const hits = order.length ? order : now.hits;
  choose(hits[(hits.indexOf(now.chosen) + step + hits.length + (step < 0 && !hits.includes(now.chosen))) % hits.length]);
}

// ---- the tree

function flatten() {
  const lines = [], stack = [now.nodes[0]];
  while (stack.length) {
    const node = stack.pop();
    if (now.hits && !now.kept.has(node)) continue;
    node.line = lines.push(node) - 1;
    if (now.open.has(node)) for (let i = node.below.length; i--; ) stack.push(node.below[i]);
  }
  now.lines = lines;
  $("canvas").style.height = `${lines.length * ROW_PX}px`;
  draw();
}

function draw() {
  drawing = 0;
  const first = Math.max(0, Math.floor($("tree").scrollTop / ROW_PX) - SPARE_ROWS);
  const count = Math.ceil($("tree").clientHeight / ROW_PX) + 2 * SPARE_ROWS;
  const drawn = now.lines.slice(first, first + count).map(lineOf);
  $("canvas").replaceChildren(...(drawn.length ? drawn : [el("p", "empty", "No thought fits the search and filters.")]));
  $("tree").setAttribute("aria-activedescendant", `line-${now.chosen.at}`);
}

function lineOf(node) {
  const line = el("div", "line");
  line.id = `line-${node.at}`;
  line.style.top = `${node.line * ROW_PX}px`;
  line.dataset.at = node.at;
  line.classList.toggle("winning", now.winning.has(node));
  line.classList.toggle("chosen", node === now.chosen);
  line.classList.toggle("aside", Boolean(now.hits) && !now.hitSet.has(node));
  line.setAttribute("role", "treeitem");
  line.setAttribute("aria-level", node.level + 1);
  line.setAttribute("aria-selected", node === now.chosen);
  if (node.below.length) line.setAttribute("aria-expanded", now.open.has(node));
  const guides = el("span", "guides");
  guides.style.width = `${18 * Math.min(node.level, 10) + 2 * Math.min(Math.max(node.level - 10, 0), 20)}px`;
  const caret = el("span", "caret", node.below.length ? (now.open.has(node) ? "▾" : "▸") : "");
  const share = METRICS[wish.metric].of(node);
  const dot = el("span", share === null ? "dot none" : "dot");
  if (share !== null) dot.style.background = tint(share);
  const words = el("span", "words");
  words.dir = "auto";
  fill(words, snippet(node));
  line.append(guides, caret, dot, el("span", "id", node.id), el("span", `action ${node.action}`, node.action));
  if (node.answer !== null) line.append(el("span", "declared", `= ${node.answer}`));
  line.append(words);
  if (now.winning.has(node)) line.append(el("span", "star", "★"));
  line.append(meter(node, share), el("span", "visits", node.visits), markOf(node));
  return line;
}

function meter(node, share) {
  const box = el("span", "meter"), track = el("span", "track"), fillBar = el("i");
  fillBar.style.width = `${100 * (share ?? 0)}%`;
  if (share !== null) fillBar.style.background = tint(share);
  track.append(fillBar);
  box.append(track, el("b", "", wish.metric === "visits" ? "" : number(share)));
  return box;
}

function markOf(node) {
  const outcome = outcomeOf(node);
  const mark = el("span", `mark ${outcome ?? ""}`, outcome ? OUTCOMES[outcome] : "");
  if (outcome) mark.title = outcome === "ungraded" ? "ends here, not graded" : `answer is ${outcome}`;
  return mark;
}

function snippet(node) {
  const found = wish.query ? textOf(node).indexOf(wish.query) : -1;
  if (found < SNIPPET - 60) return node.text.slice(0, SNIPPET).replace(/\s+/g, " ");
  return `… ${node.text.slice(found - 40, found - 40 + SNIPPET).replace(/\s+/g, " ")}`;
}

function tint(share) {
  if (wish.metric === "visits" || wish.metric === "prior") return `color-mix(in oklab, var(--hot) ${100 * share}%, var(--cold))`;
  return share < 0.5
    ? `color-mix(in oklab, var(--mid) ${200 * share}%, var(--bad))`
    : `color-mix(in oklab, var(--good) ${200 * share - 100}%, var(--mid))`;
}

function toggle(node) {
  if (!node.below.length) return;
  if (!now.open.delete(node)) now.open.add(node);
  flatten();
}

function scrollTo(node) {
  const tree = $("tree"), top = node.line * ROW_PX;
  if (top < tree.scrollTop) tree.scrollTop = top;
  else if (top + ROW_PX > tree.scrollTop + tree.clientHeight) tree.scrollTop = top + ROW_PX - tree.clientHeight;
  draw();
}

// ---- keyboard and mouse

function listen() {
  $("tree").onscroll = () => { drawing ||= requestAnimationFrame(draw); };
  $("tree").onclick = (event) => {
    const line = event.target.closest(".line");
    if (!line) return;
    const node = now.nodes[line.dataset.at];
    if (event.target.className === "caret") toggle(node);
    else choose(node);
  };
  $("tree").ondblclick = (event) => {
    const line = event.target.closest(".line");
    if (line && event.target.className !== "caret") toggle(now.nodes[line.dataset.at]);
  };
  $("cards").onclick = (event) => {
    const card = event.target.closest(".card");
    if (card && !String(getSelection())) choose(now.nodes[card.dataset.at]);
  };
  $("query").oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(() => { wish.query = $("query").value.trim().toLowerCase(); sift(); }, 120);
  };
  $("clear").onclick = () => { clearWishes(); choose(now.chosen); };
  $("unfold").onclick = () => { now.open = new Set(now.nodes); flatten(); };
  $("fold").onclick = () => { now.open = new Set(); choose(now.nodes[0]); };
  addEventListener("resize", () => { if (now) draw(); });
  addEventListener("hashchange", () => { if (now && location.hash !== `#${now.index + 1}/${now.chosen.id}`) openFromAddress(); });
  addEventListener("keydown", onKey);
}

function onKey(event) {
  if (!now || event.ctrlKey || event.metaKey || event.altKey) return;
  const inQuery = event.target === $("query");
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (inQuery && !["Enter", "Escape"].includes(key)) return;
  if (!inQuery && event.target !== $("tree") && !["/", "Escape", "w"].includes(key)) return;
  const lines = now.lines, node = now.chosen, page = Math.max(1, Math.floor($("tree").clientHeight / ROW_PX) - 1);
  const at = lines[node.line] === node ? node.line : 0;
  const go = (line) => choose(lines[Math.min(Math.max(line, 0), lines.length - 1)] ?? node);
  const acts = {
    ArrowDown: () => go(at + 1),
    ArrowUp: () => go(at - 1),
    PageDown: () => go(at + page),
    PageUp: () => go(at - page),
    Home: () => go(0),
    End: () => go(lines.length - 1),
    ArrowRight: () => (now.open.has(node) || !node.below.length ? lines[at + 1]?.above === node && go(at + 1) : toggle(node)),
    ArrowLeft: () => (now.open.has(node) && node.below.length ? toggle(node) : node.above && choose(node.above)),
    Enter: () => (inQuery ? nextHit(event.shiftKey ? -1 : 1) : toggle(node)),
    " ": () => toggle(node),
    "/": () => { $("query").focus(); $("query").select(); },
    Escape: () => { clearTimeout(typing); clearWishes(); choose(now.chosen); $("tree").focus(); },
    w: () => { if (now.winner) choose(now.winner); $("tree").focus(); },
  };
  if (!Object.hasOwn(acts, key)) return;
  event.preventDefault();
  acts[key]();
}
