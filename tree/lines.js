// One line of the tree: of one tree, or a half for each of two.

const SNIPPET = 260;
const OUTCOMES = { right: "✓", wrong: "✗", ungraded: "○" };
const METRICS = {
  value: { says: "the model's own word on success", low: "0", high: "1", of: (node) => node.value },
  q: { says: "mean of what the search backed up", low: "0", high: "1", of: (node) => (node.visits ? node.q : null) },
  visits: { says: "how often the search went through, log scale", low: "0", high: "most", of: (node) => Math.log1p(node.visits) / Math.log1p(now?.most.visits || 1) },
  prior: { says: "share of probability among siblings", low: "0", high: "1", of: (node) => node.prior },
  priority: { says: "what replay goes by: |advantage| + |value target - value|, the highest so far for what is new", low: "0", high: "most", of: (node) => (node.priority == null ? null : node.priority / (now?.most.priority || 1)) },
};

function metricsHere() {
  return Object.keys(METRICS).filter((name) => name !== "priority" || now.trees.some((tree) => tree.nodes.some((node) => node.priority != null)));
}

function lineOf(node) {
  const line = el("div", "line");
  line.id = `line-${node.at}`;
  line.style.top = `${node.line * ROW_PX}px`;
  line.dataset.at = node.at;
  line.classList.toggle("winning", node.wins && !node.sides);
  line.classList.toggle("chosen", node === now.chosen);
  line.classList.toggle("aside", Boolean(now.hits) && !now.hitSet.has(node));
  const siblings = node.above ? node.above.below : [node];
  const states = {
    role: "treeitem",
    "aria-level": node.level + 1,
    "aria-setsize": siblings.length,
    "aria-posinset": siblings.indexOf(node) + 1,
    "aria-selected": node === now.chosen,
  };
  if (node.below.length) states["aria-expanded"] = now.open.has(node);
  for (const [name, state] of Object.entries(states)) line.setAttribute(name, state);
  if (!node.sides) line.append(...partsOf(node, node));
  else {
    line.classList.add("paired");
    line.append(...node.sides.map((side, at) => halfOf(node, side, at)));
  }
  return line;
}

function halfOf(node, side, at) {
  const half = el("div", side ? "half" : "half missing");
  half.classList.add("ab"[at]);
  half.classList.toggle("lone", Boolean(side) && placeOf(node) !== "both");
  half.classList.toggle("wins", Boolean(side?.wins));
  if (side) half.append(...partsOf(node, side, at && node.sides[0]));
  else half.append(el("span", "unseen", `not in ${"AB"[at]}`));
  return half;
}

// `node` is what folds, `side` what is told of it, `before` the same thought in the other tree.
function partsOf(node, side, before = null) {
  const guides = el("span", "guides");
  const [step, levels] = node.sides ? [10, 8] : [18, 10]; // of full steps; deeper lines move a little
  guides.style.width = `${step * Math.min(node.level, levels) + 2 * Math.min(Math.max(node.level - levels, 0), 20)}px`;
  const caret = el("span", "caret", node.below.length ? (now.open.has(node) ? "▾" : "▸") : "");
  caret.setAttribute("aria-hidden", "true");
  const share = METRICS[wish.metric].of(side);
  const dot = el("span", share === null ? "dot none" : "dot");
  if (share !== null) dot.style.background = tint(share);
  const words = el("span", "words");
  words.dir = "auto";
  fill(words, snippet(side));
  const parts = [guides, caret, dot, el("span", "id", side.id), el("span", `action ${side.action}`, side.action)];
  if (side.answer !== null) parts.push(el("span", "declared", `= ${side.answer}`));
  parts.push(words);
  if (side.wins) parts.push(el("span", "star", "★"));
  return [...parts, meter(side, share, before), el("span", "visits", side.visits), markOf(side)];
}

function meter(side, share, before) {
  const box = el("span", "meter"), track = el("span", "track"), filled = el("i");
  filled.style.width = `${100 * (share ?? 0)}%`;
  if (share !== null) filled.style.background = tint(share);
  track.append(filled);
  box.append(track);
  const figure = wish.metric === "visits" ? null : side[wish.metric];
  const known = share !== null && wish.metric !== "visits";
  const other = before && METRICS[wish.metric].of(before) !== null ? before[wish.metric] : null;
  if (known && other !== null && Math.abs(figure - other) >= 0.005) {
    const change = figure - other;
    box.append(el("b", change > 0 ? "delta up" : "delta down", `${change > 0 ? "+" : "−"}${Math.abs(change).toFixed(2)}`));
  }
  box.append(el("b", "", wish.metric === "visits" ? "" : number(known ? figure : null)));
  return box;
}

function markOf(node) {
  const outcome = outcomeOf(node);
  const mark = el("span", `mark ${outcome ?? ""}`, outcome ? OUTCOMES[outcome] : "");
  if (outcome) {
    mark.title = outcome === "ungraded" ? "ends here, not graded" : `answer is ${outcome}`;
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", mark.title);
  }
  return mark;
}

function snippet(node) {
  const found = wish.query ? textOf(node).indexOf(wish.query) : -1;
  if (found < SNIPPET - 60) return node.text.slice(0, SNIPPET).replace(/\s+/g, " ");
  return `… ${node.text.slice(found - 40, found - 40 + SNIPPET).replace(/\s+/g, " ")}`;
}

function tint(share) {
  if (["visits", "prior", "priority"].includes(wish.metric)) return warmth(share);
  return share < 0.5
    ? `color-mix(in oklab, var(--mid) ${200 * share}%, var(--bad))`
    : `color-mix(in oklab, var(--good) ${200 * share - 100}%, var(--mid))`;
}

function warmth(share) {
  return `color-mix(in oklab, var(--hot) ${100 * share}%, var(--cold))`;
}
