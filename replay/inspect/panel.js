// The chosen node: what it is, its path, its tokens.

let asking = 0;

async function drawNode() {
  const panel = $("node"), place = now.chosen;
  if (place === null) { panel.replaceChildren(element("p", "empty", "No node is chosen.")); return; }
  const { nodes } = now;
  const id = nodes.id[place];
  const parts = [title(place), facts(place)];
  if (held) {
    parts.push(...path(above(place), place));
    const tokens = held.tokens[place];
    if (tokens) parts.push(...tokensOf(tokens));
    else if (nodes.text) parts.push(element("h3", "", "Thought"), full(nodes.text[place]));
    if (!tokens) parts.push(element("p", "legend", `Tokens and log-probs of the first ${number(held.tokens.length)} nodes are in this file; of this one: llama-o1 inspect RUN --node ${id}`));
    panel.replaceChildren(...parts);
  } else {
    const turn = ++asking;
    if (panel.dataset.id !== String(id)) panel.replaceChildren(...parts);
    try {
      const detail = await ask("node.json", { id });
      if (turn !== asking) return;
      parts.push(...path(detail.above, place), ...tokensOf(detail.tokens));
    } catch (error) {
      parts.push(element("p", "empty", error.message)); // it may have been evicted since
    }
    if (turn === asking) panel.replaceChildren(...parts);
  }
  panel.dataset.id = id;
}

function title(place) {
  const heading = element("h2", "", `Node ${now.nodes.id[place]}`);
  const action = text("action", place), tree = text("tree", place);
  heading.append(element("span", ACTIONS.includes(action) ? `action ${action}` : "action", action));
  const address = held ? held.trees[tree] : now.overview.has_trees ? `tree/${tree.split("/").map(encodeURIComponent).join("/")}#1` : null;
  if (address) {
    const link = element("a", "tree", "open its tree");
    link.href = `${address}/${now.nodes.node[place]}`;
    link.target = "_blank";
    link.rel = "noopener";
    heading.append(link);
  }
  return heading;
}

function facts(place) {
  const { nodes } = now;
  const list = element("dl", "facts");
  for (const [name, value] of [
    ["problem", text("problem", place)],
    ["tree", `${text("tree", place)}, node ${nodes.node[place]}, child of ${nodes.parent[place]}`],
    ["weights version", `${nodes.version[place]}, ${nodes.age[place]} behind the newest`],
    ["value → target", `${number(nodes.value[place])} → ${number(nodes.value_target[place])}`],
    ["advantage", number(nodes.advantage[place])],
    ["own answer", { right: "right", wrong: "wrong", none: "none declared" }[outcomeOf(place)] ?? number(nodes.outcome[place])],
    ["priority", number(nodes.priority[place])],
    ["drawn", `${nodes.draws[place]} times`],
    ["tokens", `${nodes.num_sampled[place]} sampled of ${nodes.num_tokens[place]}, after ${nodes.num_context[place]} of context`],
    ["temperature", number(nodes.temperature[place])],
  ]) list.append(element("dt", "", name), element("dd", "", value));
  return list;
}

// The nodes above, as far as the table has them.
function above(place) {
  const { nodes } = now;
  const key = (at, node) => `${nodes.tree.places[at]} ${nodes.problem.places[at]} ${node}`;
  if (!now.byNode) {
    now.byNode = new Map();
    for (let at = 0; at < now.count; at++) now.byNode.set(key(at, nodes.node[at]), at);
  }
  const line = new Set();
  for (let at = now.byNode.get(key(place, nodes.parent[place])); at !== undefined && !line.has(at); at = now.byNode.get(key(at, nodes.parent[at]))) line.add(at);
  return [...line].reverse().map((at) => ({ id: nodes.id[at], action: text("action", at), text: nodes.text?.[at] ?? null, value: nodes.value[at], value_target: nodes.value_target[at], parent: nodes.parent[at] }));
}

function path(line, place) {
  const { nodes } = now;
  const own = { id: nodes.id[place], action: text("action", place), text: nodes.text?.[place] ?? null, value: nodes.value[place], value_target: nodes.value_target[place], chosen: true };
  const list = element("ol", "path");
  if ((line[0]?.parent ?? nodes.parent[place]) !== 0) list.append(element("li", "id", "… what lies above is not here"));
  for (const one of [...line, own]) {
    const item = element("li", one.chosen ? "chosen" : "");
    item.append(element("small", "", `${number(one.value, 2)} → ${number(one.value_target, 2)}`));
    item.append(element("span", ACTIONS.includes(one.action) ? `action ${one.action}` : "action", one.action), " ");
    const said = element("span", "words", one.text === null ? `node ${one.id}` : plain(one.text));
    said.dir = "auto";
    item.append(said);
    list.append(item);
  }
  return [element("h3", "", "Path, with value → target"), list];
}

function tokensOf(tokens) {
  const shown = element("p", "tokens");
  const sampled = tokens.filter(([, logprob]) => logprob !== FORCED).map(([, logprob]) => logprob);
  for (const [words, logprob] of tokens) {
    const token = element("span", logprob === FORCED ? "forced" : "", words);
    token.title = logprob === FORCED ? "forced" : `log-prob ${logprob.toFixed(4)}, probability ${(100 * Math.exp(logprob)).toFixed(1)} %`;
    if (logprob !== FORCED) token.style.backgroundColor = `rgba(var(--unsure), ${Math.min(0.75, 0.3 * -logprob).toFixed(2)})`;
    shown.append(token);
  }
  const mean = sampled.length ? (sampled.reduce((sum, one) => sum + one, 0) / sampled.length).toFixed(4) : "–";
  return [
    element("h3", "", "Tokens, by log-prob"), shown,
    element("p", "legend", `Mean log-prob ${mean}. The redder, the less probable; in italics what was forced.`),
  ];
}

function full(words) {
  const shown = element("p", "tokens", words);
  shown.dir = "auto";
  return shown;
}
