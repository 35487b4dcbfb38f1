"use strict";
// What is on show: one tree or two side by side, filters, folding. Lines are drawn in lines.js, two trees
// become one in diff.js, the path is in path.js, keys and clicks in keys.js, what stands around and the start
// in panels.js; the files are joined into one script. Only lines in sight are in the document. Texts of a model are only set as text.

const ROW_PX = 34, SPARE_ROWS = 6, OPEN_ALL_BELOW = 120;
const { rows, best, compare } = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const wish = { query: "", actions: new Set(), outcomes: new Set(), sides: new Set(), metric: "value", tokens: false };
let now = null; // what is on show: trees, nodes, what is unfolded, what is chosen, the lines that follow
let drawing = 0, typing = 0, noting = 0; // a frame and two timers that wait

// ---- what is on show

function show(index, id) {
  const tree = grow(index);
  now = { trees: [tree], nodes: tree.nodes, winners: tree.winner ? [tree.winner] : [] };
  begin(tree.byId.get(id) ?? tree.winner ?? tree.nodes[0]);
}

function showPair(index, other, at) {
  const trees = [grow(index), grow(other)];
  const nodes = merge(...trees);
  const winners = trees.map((tree, side) => nodes.find((node) => tree.winner && node.sides[side] === tree.winner));
  now = { trees, nodes, winners: [...new Set(winners)].filter(Boolean) };
  begin(nodes[at] ?? now.winners[0] ?? nodes[0]);
}

function grow(index) {
  const byId = new Map();
  const nodes = rows[index].nodes.map((record, at) => {
    const above = byId.get(record.parent) ?? null;
    const node = { ...record, at, above, below: [], level: above ? above.level + 1 : 0, wins: false };
    above?.below.push(node);
    byId.set(node.id, node);
    return node;
  });
  for (const node of nodes) node.below.sort((a, b) => b.visits - a.visits || a.id - b.id);
  const winner = byId.get(best[index]) ?? null;
  for (let node = winner; node; node = node.above) node.wins = true;
  return { index, row: rows[index], nodes, byId, winner };
}

function begin(chosen) {
  const { nodes } = now;
  Object.assign(now, { chosen, folded: null, hits: null, kept: null, lines: [] });
  now.paired = now.trees.length === 2;
  now.open = new Set(nodes.length < OPEN_ALL_BELOW ? nodes : nodes.filter((node) => node.wins || !node.above));
  now.most = {};
  for (const name of ["visits", "priority"])
    now.most[name] = now.trees.flatMap((tree) => tree.nodes).reduce((most, node) => Math.max(most, node[name] ?? 0), 0);
  buildAround();
  clearWishes();
  choose(chosen);
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

function sidesOf(node) {
  return node.sides ?? [node];
}

function nameOf(index) {
  return rows[index].name ?? `tree ${index + 1}`;
}

function choose(node) {
  now.chosen = node;
  if (now.hits && !now.kept.has(node)) clearWishes();
  let hidden = now.lines[node.line] !== node;
  for (let up = node.above; up; up = up.above) {
    hidden ||= !now.open.has(up);
    now.open.add(up);
  }
  if (hidden) layOut();
  scrollTo(node);
  drawPath();
  clearTimeout(noting);
  noting = setTimeout(() => location.replace(address()), 300); // browsers throttle faster changes
}

function address() {
  const [first, second] = now.trees;
  return second ? `#${first.index + 1}-${second.index + 1}/${now.chosen.at}` : `#${first.index + 1}/${now.chosen.id}`;
}

function openFromAddress() {
  const [problem, id] = location.hash.slice(1).split("/");
  const [first, second] = problem.split("-").map((number) => Number(number) - 1);
  if (rows[first] && rows[second]?.problem === rows[first].problem) showPair(first, second, Number(id));
  else if (rows[first]) show(first, Number(id));
  else if (compare) showPair(...compare);
  else show(0);
}

// ---- search and filters

function sift() {
  const asked = wish.query || wish.actions.size || wish.outcomes.size || wish.sides.size;
  $("clear").hidden = !asked;
  if (!asked) {
    if (now.folded) now.open = now.folded;
    now.folded = now.hits = now.kept = null;
    for (let up = now.chosen.above; up; up = up.above) now.open.add(up);
  } else {
    now.folded ??= now.open;
    now.hits = now.nodes.filter(wanted);
    now.hitSet = new Set(now.hits);
    now.kept = new Set();
    now.open = new Set();
    for (const hit of now.hits) {
      for (let up = hit; up && !now.kept.has(up); up = up.above) now.kept.add(up);
      for (let up = hit.above; up && !now.open.has(up); up = up.above) now.open.add(up);
    }
  }
  flatten();
  countHits();
}

function wanted(node) {
  const sides = sidesOf(node).filter(Boolean);
  if (wish.sides.size && !wish.sides.has(placeOf(node))) return false;
  if (wish.actions.size && !wish.actions.has(sides[0].action)) return false;
  if (wish.outcomes.size && !sides.some((side) => wish.outcomes.has(outcomeOf(side)))) return false;
  return !wish.query || sides.some((side) => textOf(side).includes(wish.query) || String(side.id) === wish.query);
}

function textOf(node) {
  return (node.lower ??= `${node.text}\n${node.answer ?? ""}`.toLowerCase());
}

function clearWishes() {
  clearTimeout(typing);
  wish.query = $("query").value = "";
  for (const name of ["actions", "outcomes", "sides"]) wish[name].clear();
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

// ---- the lines that are unfolded, and those of them in sight

function flatten() {
  layOut();
  draw();
}

function layOut() {
  const lines = [], stack = [now.nodes[0]];
  while (stack.length) {
    const node = stack.pop();
    if (now.hits && !now.kept.has(node)) continue;
    node.line = lines.push(node) - 1;
    if (now.open.has(node)) for (let i = node.below.length; i--; ) stack.push(node.below[i]);
  }
  now.lines = lines;
  $("canvas").style.height = `${lines.length * ROW_PX}px`;
}

function draw() {
  drawing = 0;
  const first = Math.max(0, Math.floor($("tree").scrollTop / ROW_PX) - SPARE_ROWS);
  const count = Math.ceil($("tree").clientHeight / ROW_PX) + 2 * SPARE_ROWS;
  const drawn = now.lines.slice(first, first + count).map(lineOf);
  $("canvas").replaceChildren(...(drawn.length ? drawn : [el("p", "empty", "No thought fits the search and filters.")]));
  if (drawn.some((line) => line.dataset.at === String(now.chosen.at))) $("tree").setAttribute("aria-activedescendant", `line-${now.chosen.at}`);
  else $("tree").removeAttribute("aria-activedescendant");
}

function toggle(node) {
  if (!node.below.length) return;
  if (!now.open.delete(node)) now.open.add(node);
  flatten();
}

function unfoldAll() {
  now.open = new Set(now.nodes);
  layOut();
  scrollTo(now.chosen);
}

function scrollTo(node) {
  const tree = $("tree"), top = node.line * ROW_PX;
  if (top < tree.scrollTop) tree.scrollTop = top;
  else if (top + ROW_PX > tree.scrollTop + tree.clientHeight) tree.scrollTop = top + ROW_PX - tree.clientHeight;
  draw();
}
