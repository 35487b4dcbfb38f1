// Around the tree of page.js: the path to the chosen thought, figures, problems, switches.

// ---- the path

function drawPath() {
  const line = lineTo(now.chosen), shown = line.slice(-PATH_CARDS);
  const cards = shown.map((node) => {
    const card = el("article", "card");
    card.dataset.at = node.at;
    card.classList.toggle("winning", now.winning.has(node));
    card.classList.toggle("chosen", node === now.chosen);
    const head = el("h3"), outcome = outcomeOf(node);
    head.append(el("span", `action ${node.action}`, node.action), el("span", "id", `#${node.id}`));
    if (outcome) head.append(el("span", `mark ${outcome}`, `${OUTCOMES[outcome]} ${outcome}`));
    const full = el("p", node.text.trim() ? "full" : "full empty");
    full.dir = "auto";
    fill(full, node.text.trim() ? node.text : "no text");
    const facts = el("ul", "facts");
    facts.append(...factsOf(node).map((fact) => el("li", "", fact)));
    card.append(head, full, facts);
    return card;
  });
  if (shown.length < line.length) cards.unshift(el("p", "empty", `${line.length - shown.length} earlier thoughts not shown`));
  $("cards").replaceChildren(...cards);
  $("path").scrollTop = cards.at(-1).offsetTop - 16;
  countHits();
}

function factsOf(node) {
  const facts = [["value", node.value], ["q", node.visits ? node.q : null], ["prior", node.above ? node.prior : null], ["log-prob", node.above ? node.logprob : null], ["entropy", node.entropy], ["varentropy", node.varentropy]]
    .filter(([, figure]) => figure !== null)
    .map(([name, figure]) => `${name} ${number(figure)}`);
  facts.push(plural(node.visits, "visit"), plural(node.tokens, "token"), `${node.thinking_left} left to think`);
  if (node.count > 1) facts.push(`${node.count} equal thoughts`);
  if (node.answer !== null) facts.unshift(`answer ${node.answer}`);
  if (node.closed) facts.push("closed");
  return facts;
}

// ---- header and switches

function buildHeader(row) {
  $("problem").textContent = row.problem;
  const depth = now.nodes.reduce((deepest, node) => Math.max(deepest, node.level), 0);
  const figures = [["Answer", row.answer ?? "none"], ["Confidence", number(row.confidence)], ["Tokens used", row.tokens_used.toLocaleString("en")], ["Nodes", now.nodes.length.toLocaleString("en")], ["Depth", depth.toLocaleString("en")]];
  if (row.seconds !== null) figures.push(["Seconds", row.seconds.toFixed(row.seconds < 10 ? 2 : 0)]);
  $("figures").replaceChildren(...figures.map(([name, figure]) => {
    const box = el("div");
    box.append(el("dt", "", name), el("dd", name === "Answer" && row.answer !== null ? "answer" : "", figure));
    return box;
  }));
}

function buildProblems() {
  $("problems").hidden = rows.length < 2;
  if (rows.length < 2) return;
  if (!$("problems").children.length) {
    $("problems").append(...rows.map((row, index) => {
      const button = el("button");
      button.append(el("span", "ask", row.problem.slice(0, SNIPPET)), el("span", "got", `${row.answer === null ? "no answer" : `= ${row.answer}`}, confidence ${number(row.confidence)}`));
      button.onclick = () => show(index);
      return button;
    }));
  }
  $("problems").querySelector("[aria-current]")?.removeAttribute("aria-current");
  $("problems").children[now.index].setAttribute("aria-current", "true");
}

function buildFilters() {
  const tally = (of) => now.nodes.reduce((counts, node) => counts.set(of(node), (counts.get(of(node)) ?? 0) + 1), new Map());
  const button = (chosen, name, sign, total) => {
    const chip = el("button", "", "");
    chip.append(el("span", name, sign + name), el("small", "", total));
    chip.setAttribute("aria-pressed", chosen.has(name));
    chip.onclick = () => {
      if (!chosen.delete(name)) chosen.add(name);
      chip.setAttribute("aria-pressed", chosen.has(name));
      sift();
    };
    return chip;
  };
  const actions = tally((node) => node.action), outcomes = tally(outcomeOf);
  $("actions").replaceChildren(...ACTIONS.filter((name) => actions.has(name)).map((name) => button(wish.actions, name, "", actions.get(name))));
  $("outcomes").replaceChildren(...Object.keys(OUTCOMES).filter((name) => outcomes.has(name)).map((name) => button(wish.outcomes, name, `${OUTCOMES[name]} `, outcomes.get(name))));
}

function buildSwitches() {
  for (const name of Object.keys(METRICS)) {
    const label = el("label"), input = el("input");
    Object.assign(input, { type: "radio", name: "metric", checked: name === wish.metric, onchange: () => colourBy(name) });
    label.title = METRICS[name].says;
    label.append(input, name);
    $("metrics").append(label);
  }
  colourBy(wish.metric);
}

function colourBy(name) {
  wish.metric = name;
  $("metric-name").textContent = name === "visits" ? "visits, log" : name;
  $("low").textContent = METRICS[name].low;
  $("high").textContent = METRICS[name].high;
  $("ramp").style.background = `linear-gradient(to right, ${tint(0)}, ${tint(0.5)}, ${tint(1)})`;
  if (now) draw();
}

// ---- small things

function el(tag, className = "", text = null) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== null) element.textContent = text;
  return element;
}

function fill(element, text) {
  text.split(MARKER).forEach((piece, at) => {
    if (at % 2) {
      const chip = el("span", "chip", piece);
      chip.title = `${piece} of the budget left`;
      element.append(chip);
    } else fillMarked(element, piece);
  });
}

function fillMarked(element, text) {
  const lower = text.toLowerCase();
  let from = 0;
  // A letter whose lower case is longer would shift every later place, so such texts go unmarked.
  for (let at; wish.query && lower.length === text.length && (at = lower.indexOf(wish.query, from)) >= 0; from = at + wish.query.length)
    element.append(text.slice(from, at), el("mark", "", text.slice(at, at + wish.query.length)));
  element.append(text.slice(from));
}

function number(figure) {
  return figure === null ? "–" : figure.toFixed(2);
}

function plural(total, noun) {
  return `${total.toLocaleString("en")} ${noun}${total === 1 ? "" : "s"}`;
}
