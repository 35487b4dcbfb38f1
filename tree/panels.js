// What stands around tree and path: figures, problems, the choice of a second tree, switches; and the start.

const ACTIONS = ["problem", "expand", "divide", "critic", "refine", "conclude"];

function buildAround() {
  const { trees, paired } = now;
  $("problem").textContent = trees[0].row.problem;
  $("name").textContent = trees.map((tree) => rows.length > 1 || tree.row.name ? nameOf(tree.index) : "").join(" and ");
  for (const column of document.querySelectorAll(".single")) column.hidden = paired;
  buildFigures();
  buildCurves();
  buildHalves();
  buildPair();
  buildProblems();
  buildFilters();
  buildSwitch("metrics", metricsHere(), wish.metric, colourBy, (name) => METRICS[name].says);
  $("views").hidden = !trees.some((tree) => tree.nodes.some((node) => node.pieces?.length));
  if ($("views").hidden) showTokens(false);
  colourBy(metricsHere().includes(wish.metric) ? wish.metric : "value");
}

function buildFigures() {
  const figures = [
    ["Answer", (tree) => tree.row.answer ?? "none"],
    ["Confidence", (tree) => number(tree.row.confidence)],
    ["Tokens used", (tree) => tree.row.tokens_used.toLocaleString("en")],
    ["Nodes", (tree) => tree.nodes.length.toLocaleString("en")],
    ["Depth", (tree) => tree.nodes.reduce((deepest, node) => Math.max(deepest, node.level), 0).toLocaleString("en")],
    ["Seconds", (tree) => tree.row.seconds?.toFixed(tree.row.seconds < 10 ? 2 : 0)],
  ];
  const boxes = figures.map(([name, of]) => {
    const box = el("div"), told = now.trees.map(of);
    if (told.every((figure) => figure === undefined)) return box;
    box.append(el("dt", "", name));
    told.forEach((figure, at) => {
      const dd = el("dd", name === "Answer" && now.trees[at].row.answer !== null ? "answer" : "");
      if (now.paired) dd.append(el("span", `side ${"ab"[at]}`, "AB"[at]), " ");
      dd.append(figure ?? "–");
      box.append(dd);
    });
    return box;
  });
  $("figures").classList.toggle("paired", now.paired);
  $("figures").replaceChildren(...boxes.filter((box) => box.children.length));
}

// What the search would have answered, had its budget been smaller.
function buildCurves() {
  const known = now.trees.filter((tree) => tree.row.curve?.length);
  $("curves").hidden = !known.length;
  $("curves").replaceChildren(...known.map((tree) => {
    const told = el("p"), at = now.trees.indexOf(tree);
    if (now.paired) told.append(el("span", `side ${"ab"[at]}`, "AB"[at]), " ");
    told.append("answer by tokens spent: ");
    let last;
    for (const [tokens, , answer, confidence] of tree.row.curve) {
      if (answer === last) continue;
      last = answer;
      const step = el("span", "step");
      step.append(el("b", "", answer ?? "none"), ` from ${tokens.toLocaleString("en")}`);
      step.title = `confidence ${number(confidence)} then`;
      told.append(step);
    }
    return told;
  }));
}

function buildHalves() {
  $("halves").hidden = !now.paired;
  $("halves").replaceChildren(...(now.paired ? now.trees : []).map((tree, at) => {
    const half = el("div", "half");
    half.append(el("span", `side ${"ab"[at]}`, "AB"[at]), el("span", "words", nameOf(tree.index)), el("span", "meter", wish.metric), el("span", "visits", "visits"), el("span", "mark"));
    return half;
  }));
}

function buildPair() {
  const first = now.trees[0].index;
  const same = rows.map((_, index) => index).filter((index) => index !== first && rows[index].problem === rows[first].problem);
  $("pair").hidden = !same.length;
  const option = (value, text) => Object.assign(el("option", "", text), { value });
  $("other").replaceChildren(option(-1, "no other tree"), ...same.map((index) => option(index, `${nameOf(index)}: ${rows[index].answer === null ? "no answer" : `= ${rows[index].answer}`}`)));
  $("other").value = now.paired ? now.trees[1].index : -1;
}

function buildProblems() {
  $("problems").hidden = rows.length < 2 || (now.paired && rows.length === 2);
  if ($("problems").hidden) return;
  if (!$("problems").children.length) {
    $("problems").append(...rows.map((row, index) => {
      const button = el("button");
      const got = row.answer === null ? "no answer" : `= ${row.answer}`, told = row.name ?? `confidence ${number(row.confidence)}`;
      button.append(el("span", "ask", row.problem.slice(0, SNIPPET)), el("span", "got", `${got}, ${told}`));
      button.onclick = () => show(index);
      return button;
    }));
  }
  const shown = now.trees.map((tree) => tree.index);
  [...$("problems").children].forEach((button, index) => {
    if (shown.includes(index)) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  });
}

function buildFilters() {
  const counts = { actions: new Map(), outcomes: new Map(), sides: new Map() };
  const count = (group, name) => counts[group].set(name, (counts[group].get(name) ?? 0) + 1);
  for (const node of now.nodes) {
    const sides = sidesOf(node).filter(Boolean);
    count("actions", sides[0].action);
    for (const outcome of new Set(sides.map(outcomeOf))) count("outcomes", outcome);
    count("sides", placeOf(node));
  }
  const chips = (group, names, words) => {
    const here = names.filter((name) => counts[group].has(name));
    $(group).hidden = !here.length;
    $(group).replaceChildren(...here.map((name) => filterChip(wish[group], name, words(name), counts[group].get(name))));
  };
  chips("actions", ACTIONS, (name) => name);
  chips("outcomes", Object.keys(OUTCOMES), (name) => `${OUTCOMES[name]} ${name}`);
  chips("sides", Object.keys(PLACES), (name) => PLACES[name]);
}

function filterChip(chosen, name, words, total) {
  const button = el("button");
  button.type = "button";
  button.append(el("span", name, words), " ", el("small", "", total));
  button.setAttribute("aria-pressed", chosen.has(name));
  button.onclick = () => {
    if (!chosen.delete(name)) chosen.add(name);
    button.setAttribute("aria-pressed", chosen.has(name));
    sift();
  };
  return button;
}

function buildSwitch(id, names, chosen, onChoice, says) {
  for (const label of $(id).querySelectorAll("label")) label.remove();
  for (const name of names) {
    const label = el("label"), input = el("input");
    Object.assign(input, { type: "radio", name: id, value: name, checked: name === chosen, onchange: () => onChoice(name) });
    label.title = says(name);
    label.append(input, name);
    $(id).append(label);
  }
}

function colourBy(name) {
  wish.metric = name;
  for (const input of $("metrics").querySelectorAll("input")) input.checked = input.value === name;
  $("metric-name").textContent = name === "visits" ? "visits, log" : name;
  $("low").textContent = METRICS[name].low;
  $("high").textContent = METRICS[name].high;
  $("ramp").style.background = `linear-gradient(to right, ${tint(0)}, ${tint(0.5)}, ${tint(1)})`;
  buildHalves();
  draw();
}

// ---- small things

function el(tag, className = "", text = null) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== null) element.textContent = text;
  return element;
}

function chip(share) {
  const mark = el("span", "chip", share);
  mark.title = share.includes("/") ? `${share} of the budget left` : `${share} tokens of the budget left`;
  return mark;
}

// Text with budget marks as chips and what was searched for marked.
function fill(element, text) {
  text.split(MARKER).forEach((piece, at) => {
    if (at % 2) element.append(chip(piece));
    else for (const [from, to, hit] of cut(0, piece.length, hitsIn(piece))) element.append(hit ? el("mark", "", piece.slice(from, to)) : piece.slice(from, to));
  });
}

function number(figure) {
  return figure === null ? "–" : figure.toFixed(2).replace(/^-(?=0\.00$)/, "");
}

function percent(share) {
  return `${(100 * share).toFixed(share > 0.1 ? 0 : 2)} %`;
}

function plural(total, noun) {
  return `${total.toLocaleString("en")} ${noun}${total === 1 ? "" : "s"}`;
}

// ---- start

$("title").textContent = document.title;
buildSwitch("views", ["text", "tokens"], "text", (name) => showTokens(name === "tokens"), (name) => (name === "text" ? "the text alone, forced parts marked" : "every token with its probability"));
listen();
if (rows.length) openFromAddress();
else $("problem").textContent = "No problems in this file";
