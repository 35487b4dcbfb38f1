// Two trees of one problem as one: a thought stands in both where it and the whole line above it do.

const PLACES = { both: "in both", A: "only A", B: "only B" };

function merge(first, second) {
  const nodes = [], stack = [pair(first.nodes[0], second.nodes[0], null)];
  while (stack.length) {
    const node = stack.pop();
    node.at = nodes.push(node) - 1;
    node.below = partners(node);
    for (let i = node.below.length; i--; ) stack.push(node.below[i]);
  }
  return nodes;
}

function pair(a, b, above) {
  const wins = Boolean(a?.wins || b?.wins);
  return { sides: [a, b], above, below: [], level: above ? above.level + 1 : 0, wins };
}

// Thoughts of both trees first, then A's own, then B's own; the most visited first in each.
function partners(node) {
  const [ours, theirs] = node.sides.map((side) => side?.below ?? []);
  const left = new Map(theirs.map((child) => [`${child.action}\n${child.text}`, child]));
  const shared = [], own = [];
  for (const child of ours) {
    const key = `${child.action}\n${child.text}`, twin = left.get(key);
    left.delete(key);
    (twin ? shared : own).push(pair(child, twin ?? null, node));
  }
  const others = theirs.filter((child) => left.get(`${child.action}\n${child.text}`) === child);
  return [...shared, ...own, ...others.map((child) => pair(null, child, node))];
}

function placeOf(node) {
  if (!node.sides) return null;
  const [a, b] = node.sides;
  return a && b ? "both" : a ? "A" : "B";
}
