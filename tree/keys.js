// What keys and clicks do.

function listen() {
  $("tree").onscroll = () => { drawing ||= requestAnimationFrame(draw); };
  $("tree").onclick = (event) => {
    const line = event.target.closest("[data-at]");
    if (!line) return;
    const node = now.nodes[line.dataset.at];
    if (event.target.className === "caret") toggle(node);
    else choose(node);
  };
  $("tree").ondblclick = (event) => {
    const line = event.target.closest("[data-at]");
    if (line && event.target.className !== "caret") toggle(now.nodes[line.dataset.at]);
  };
  $("cards").onclick = (event) => {
    const card = event.target.closest(".card");
    if (card && !String(getSelection())) choose(now.nodes[card.dataset.at]);
  };
  $("query").oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(ask, 120);
  };
  $("clear").onclick = () => { clearWishes(); choose(now.chosen); };
  $("unfold").onclick = unfoldAll;
  $("fold").onclick = () => { now.open = new Set(); layOut(); choose(now.nodes[0]); };
  $("ask-help").onclick = () => $("help").showModal();
  $("other").onchange = () => {
    const other = Number($("other").value);
    if (other < 0) show(now.trees[0].index);
    else showPair(now.trees[0].index, other);
  };
  addEventListener("resize", () => { if (now) draw(); });
  addEventListener("hashchange", () => { if (now && location.hash !== address()) openFromAddress(); });
  addEventListener("keydown", onKey);
}

function ask() {
  clearTimeout(typing);
  wish.query = $("query").value.trim().toLowerCase();
  sift();
  drawPath();
}

const ANYWHERE = ["/", "Escape", "w", "?", "t", "c", "n", "p"];

function onKey(event) {
  if (!now || event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const inQuery = event.target === $("query");
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (inQuery && !["Enter", "Escape", "ArrowDown"].includes(key)) return;
  if (event.target.tagName === "SELECT" || (!inQuery && event.target !== $("tree") && !ANYWHERE.includes(key))) return;
  const act = (inQuery ? inQueryActs(event) : treeActs())[key];
  if (!act) return;
  event.preventDefault();
  act();
}

function inQueryActs(event) {
  return {
    Enter: () => { ask(); nextHit(event.shiftKey ? -1 : 1); },
    ArrowDown: () => { ask(); $("tree").focus(); nextHit(1); },
    Escape: clearAndReturn,
  };
}

function treeActs() {
  const lines = now.lines, node = now.chosen, page = Math.max(1, Math.floor($("tree").clientHeight / ROW_PX) - 1);
  const at = lines[node.line] === node ? node.line : 0;
  const go = (line) => choose(lines[Math.min(Math.max(line, 0), lines.length - 1)] ?? node);
  return {
    __proto__: null,
    ArrowDown: () => go(at + 1),
    ArrowUp: () => go(at - 1),
    PageDown: () => go(at + page),
    PageUp: () => go(at - page),
    Home: () => go(0),
    End: () => go(lines.length - 1),
    ArrowRight: () => (now.open.has(node) || !node.below.length ? lines[at + 1]?.above === node && go(at + 1) : toggle(node)),
    ArrowLeft: () => (now.open.has(node) && node.below.length ? toggle(node) : node.above && choose(node.above)),
    Enter: () => toggle(node),
    " ": () => toggle(node),
    "*": unfoldAll,
    "/": () => { $("query").focus(); $("query").select(); },
    "?": () => $("help").showModal(),
    Escape: clearAndReturn,
    n: () => nextHit(1),
    p: () => nextHit(-1),
    t: () => { if (!$("views").hidden) showTokens(!wish.tokens); },
    c: () => colourBy(after(metricsHere(), wish.metric)),
    w: () => {
      if (now.winners.length) choose(after(now.winners, node));
      $("tree").focus();
    },
  };
}

function after(list, item) {
  return list[(list.indexOf(item) + 1) % list.length];
}

function clearAndReturn() {
  clearWishes();
  choose(now.chosen);
  $("tree").focus();
}
