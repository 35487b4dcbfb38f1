// The path to the chosen thought: a card a thought, with its exact text or its tokens.

const PATH_CARDS = 24; // of a long path at first
const MARKER = /<remaining>(\d+(?:\/\d+)?)<\/remaining>/;
const HEAD_ENDS = "<start_of_thought>", TEXT_ENDS = "<end_of_thought>";
const TAGS = new Set(["<problem>", "<critic>", "<refine>", "<conclusion>"]);

function drawPath(most = PATH_CARDS) {
  const line = lineTo(now.chosen), shown = line.slice(-most);
  const cards = shown.map(cardOf);
  if (shown.length < line.length) {
    const more = el("button", "earlier", `Show ${plural(line.length - shown.length, "earlier thought")}`);
    more.type = "button";
    more.onclick = () => drawPath(Infinity);
    cards.unshift(more);
  }
  $("cards").replaceChildren(...cards);
  $("path").scrollTop = cards.at(-1).offsetTop - 64;
  countHits();
}

function cardOf(node) {
  const sides = sidesOf(node), one = sides.find(Boolean);
  const card = el("article", "card");
  card.dataset.at = node.at;
  card.classList.toggle("winning", node.wins);
  card.classList.toggle("chosen", node === now.chosen);
  const head = el("h3");
  head.append(el("span", `action ${one.action}`, one.action));
  if (!node.sides) head.append(el("span", "id", `#${one.id}`));
  else head.append(el("span", "place", PLACES[placeOf(node)]));
  const outcome = outcomeOf(one);
  if (outcome) head.append(el("span", `mark ${outcome}`, `${OUTCOMES[outcome]} ${outcome}`));
  card.append(head);
  if (node.sides && wish.tokens) sides.forEach((side, at) => side?.pieces && card.append(tagged(at), writing(side)));
  else card.append(writing(one));
  sides.forEach((side, at) => {
    if (!side) return;
    const facts = el("ul", "facts");
    if (node.sides) facts.append(el("li", `side ${"ab"[at]}`, `${"AB"[at]} #${side.id}`));
    facts.append(...factsOf(side).map((fact) => el("li", "", fact)));
    card.append(facts);
  });
  return card;
}

function tagged(at) {
  const tag = el("p", "facts");
  tag.append(el("span", `side ${"ab"[at]}`, "AB"[at]));
  return tag;
}

function writing(node) {
  const full = el("p", "full");
  full.dir = "auto";
  if (node.pieces?.length && wish.tokens) {
    full.classList.add("tokens");
    full.append(...node.pieces.map(tokenOf));
  } else if (node.pieces?.length && node.above) fillPieces(full, bodyOf(node.pieces));
  else fill(full, node.text);
  if (!full.textContent.trim()) {
    full.classList.add("empty");
    full.textContent = "no text";
  }
  return full;
}

function tokenOf([text, logprob]) {
  const control = /^<[a-z_]+>$/.test(text);
  const token = el("span", `token${logprob === null ? " forced" : ""}${control ? " control" : ""}`);
  if (text.includes("\n")) token.classList.add("broken");
  token.textContent = text === "" ? "◌" : text.replace(/\n/g, "↵\n");
  token.title = logprob === null ? "forced" : `log-prob ${logprob.toFixed(3)}, probability ${percent(Math.exp(logprob))}`;
  if (text === "") token.title += ", part of a character";
  if (logprob !== null) token.style.background = likeliness(Math.exp(logprob));
  return token;
}

function likeliness(probability) {
  return `color-mix(in oklab, var(--unlikely) ${100 * (1 - probability)}%, var(--likely))`;
}

// The pieces of the text alone: without header, tag, end and rating.
function bodyOf(pieces) {
  const start = pieces.findIndex(([text]) => text.endsWith(HEAD_ENDS)) + 1;
  const end = pieces.findIndex(([text], at) => at >= start && text === TEXT_ENDS);
  const body = pieces.slice(start, end < 0 ? undefined : end);
  const tag = body.slice(0, 2).findIndex(([text]) => TAGS.has(text));
  return tag < 0 ? body : body.toSpliced(tag, 1);
}

// Exact text with forced tokens, budget marks and what was searched for marked; they may overlap.
function fillPieces(element, body) {
  const text = body.map(([piece]) => piece).join("");
  const kinds = []; // [from, to, forced, budget mark]
  let from = 0;
  for (const [piece, logprob] of body) {
    const forced = logprob === null, last = kinds.at(-1), mark = MARKER.exec(piece)?.[1];
    if (last && last[2] === forced && !mark && !last[3]) last[1] += piece.length;
    else kinds.push([from, from + piece.length, forced, mark]);
    from += piece.length;
  }
  const hits = hitsIn(text);
  for (const [start, end, forced, mark] of kinds) {
    if (mark) element.append(chip(mark));
    else {
      const run = el("span", forced ? "forced" : "");
      if (forced) run.title = "forced, not sampled";
      for (const [a, b, hit] of cut(start, end, hits)) run.append(hit ? el("mark", "", text.slice(a, b)) : text.slice(a, b));
      element.append(run);
    }
  }
}

function cut(start, end, hits) {
  const parts = [];
  let at = start;
  for (const [from, to] of hits) {
    if (to <= at || from >= end) continue;
    if (from > at) parts.push([at, from, false]);
    parts.push([Math.max(from, at), Math.min(to, end), true]);
    at = Math.min(to, end);
  }
  if (at < end) parts.push([at, end, false]);
  return parts;
}

function hitsIn(text) {
  const lower = text.toLowerCase(), hits = [];
  // A letter whose lower case is longer would shift every later place, so such texts go unmarked.
  if (!wish.query || lower.length !== text.length) return hits;
  for (let at = lower.indexOf(wish.query); at >= 0; at = lower.indexOf(wish.query, at + wish.query.length)) hits.push([at, at + wish.query.length]);
  return hits;
}

function factsOf(node) {
  const below = Boolean(node.above);
  const figures = { value: node.value, q: node.visits ? node.q : null, prior: below ? node.prior : null, priority: node.priority, "value target": node.value_target, advantage: node.advantage, "log-prob": below ? node.logprob : null, entropy: node.entropy, varentropy: node.varentropy };
  const facts = Object.entries(figures).filter(([, figure]) => figure != null).map(([name, figure]) => `${name} ${number(figure)}`);
  if (node.value !== null) facts.unshift(node.value >= 0.5 ? "rated positive" : "rated negative");
  facts.push(plural(node.visits, "visit"), plural(node.tokens, "token"), `${node.thinking_left} left to think`);
  if (node.count > 1) facts.push(`${node.count} equal thoughts`);
  if (node.answer !== null) facts.unshift(`answer ${node.answer}`);
  if (node.closed) facts.push("closed");
  return facts;
}

function showTokens(tokens) {
  wish.tokens = tokens;
  for (const input of $("views").querySelectorAll("input")) input.checked = (input.value === "tokens") === tokens;
  $("token-key").hidden = !tokens;
  if (now) drawPath();
}
