// The head explorer, and the text whose tokens are followed over training.
if (byId("explorer-data")) {
  const models = json("explorer-data");
  const types = { u8: Uint8Array, i8: Int8Array, u16: Uint16Array, f32: Float32Array };
  /// The model that the arguments are about.
  const lead = Math.max(0, models.findIndex((m) => m.label === "2 layers"));
  const unpacked = new Map();
  /// A model's arrays by name, unpacked when first asked for.
  function arrays(k) {
    if (!unpacked.has(k)) unpacked.set(k, unpack(k));
    return unpacked.get(k);
  }
  async function unpack(k) {
    const buffer = await inflated(byId(`packed-${k}`));
    return Object.fromEntries(models[k].arrays.map(({ name, kind, shape, at }) => {
      const length = shape.reduce((a, b) => a * b, 1);
      return [name, { data: new types[kind](buffer, at, length), shape }];
    }));
  }
  const tokensSaid = (n) => (n >= 1e6 ? `${(n / 1e6).toFixed(2)}M` : n >= 1e3 ? `${(n / 1e3).toFixed(0)}k` : `${n}`) + " tokens";
  const nearest = (list, value) => list.reduce((best, x, k) => (Math.abs(x - value) < Math.abs(list[best] - value) ? k : best), 0);
  const chart = (title, ytitle, names, xs, ys, mark, dashes = []) => ({
    traces: names.map((name, k) => ({
      x: xs, y: ys[k], name: plain(name), type: "scatter", mode: xs.length > 1 ? "lines" : "markers",
      line: { color: colours()[k], width: 2.25, dash: dashes[k] || "solid" }, hovertemplate: "%{y:.3f}<extra>" + plain(name) + "</extra>",
    })),
    layout: {
      ...layoutOf({ x: { title: "training tokens", tokens: true }, y: { title: ytitle }, lines: names.map(() => ({})) }),
      shapes: mark.map((x) => ({ type: "line", xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line: { color: css("--soft"), width: 1.5, dash: "dot" } })),
    },
  });
  const colours = () => (dark.matches ? ["#5eb3f6", "#ff9152", "#3fd0a4", "#aab4be"] : ["#0060a8", "#c44601", "#007a5a", "#57606a"]);
  const show = (element, { traces, layout }) => Plotly.react(element, traces, layout, { ...buttons, displayModeBar: false });

  // ---- heads ----
  {
    const model = byId("x-model"), text = byId("x-text"), snapshot = byId("x-snapshot"), heads = byId("x-heads");
    const canvas = byId("x-map"), kinds = document.getElementsByName("x-kind");
    models.forEach((m, k) => model.append(option(m.label, k)));
    model.value = lead;
    let m = models[lead], a = null, head = 0, asked = 0;
    const list = tokenList(byId("x-tokens"), { at: paintTokens });
    const prompt = () => (text.value === "text" ? null : m.prompts[+text.value]);
    const names = () => (prompt() ? prompt().tokens : ["⟨start⟩", ...m.tokens.slice(0, size() - 1)]);
    const suffix = () => (prompt() ? `.${text.value}` : "");
    const size = () => a["attention" + suffix()].shape[3];
    const row = () => (prompt() ? 0 : +snapshot.value);
    const block = () => (row() * m.layers * m.heads + head) * size() * size();
    const attention = (q, k) => a["attention" + suffix()].data[block() + q * size() + k] / 64;
    const unit = () => a["unit" + suffix()].data[row() * m.layers * m.heads + head];
    const attribution = (q, k) => a["attribution" + suffix()].data[block() + q * size() + k] * unit();
    const headName = (h) => `${Math.floor(h / m.heads)}.${h % m.heads}`;

    async function choose() {
      const turn = ++asked;
      const next = +model.value, unpackedNow = await arrays(next);
      if (turn !== asked) return;
      m = models[next];
      a = unpackedNow;
      text.replaceChildren(...(m.maps.length ? [option(m.text, "text")] : []), ...m.prompts.map((p, k) => option(`prompt: ${p.behaviour}`, k)));
      snapshot.max = Math.max(0, m.maps.length - 1);
      snapshot.value = snapshot.max;
      const matching = a.scores.data, [, points, all] = a.scores.shape, last = (points - 1) * all;
      head = Array.from({ length: all }, (_, h) => h).reduce((best, h) => (matching[last + h] > matching[last + best] ? h : best), 0);
      heads.replaceChildren(Object.assign(document.createElement("legend"), { textContent: "Head (shade: prefix matching at the end)" }));
      for (let layer = 0; layer < m.layers; layer++) {
        const line = Object.assign(document.createElement("div"), { className: "layer" });
        line.append(Object.assign(document.createElement("span"), { textContent: `layer ${layer}` }));
        for (let h = layer * m.heads; h < (layer + 1) * m.heads; h++) {
          const button = Object.assign(document.createElement("button"), { type: "button", textContent: headName(h) });
          const score = matching[last + h];
          button.style.background = `color-mix(in srgb, var(--link) ${Math.round(45 * score)}%, transparent)`;
          button.title = `prefix matching ${score.toFixed(2)}`;
          button.addEventListener("click", () => { head = h; pressed(); refresh(); });
          button.dataset.head = h;
          line.append(button);
        }
        heads.append(line);
      }
      pressed();
      chooseText();
    }
    const pressed = () => heads.querySelectorAll("button").forEach((button) => button.setAttribute("aria-pressed", +button.dataset.head === head));
    function chooseText() {
      snapshot.disabled = Boolean(prompt()) || m.maps.length < 2;
      list.set(names(), `Tokens of ${text.selectedOptions[0].textContent}`);
      refresh();
    }
    function refresh() {
      const tokens = prompt() ? m.snapshots[m.snapshots.length - 1] : m.snapshots[m.maps[row()]];
      byId("x-snapshot-said").textContent = tokensSaid(tokens);
      paintMap();
      paintTokens(list.cursor);
      const at = (array, k, points) => Array.from({ length: points }, (_, p) => array.data[(k * points + p) * m.layers * m.heads + head]);
      const points = a.scores.shape[1];
      show(byId("x-scores"), chart("", "score", ["prefix matching", "copying", "previous token"], m.scored,
        [0, 1, 2].map((k) => at(a.scores, k, points)), [tokens], ["solid", "dash", "dot"]));
      byId("x-measures").replaceChildren(...m.measures.map(([name, of]) => {
        const one = document.createElement("div"), said = of[head] === null ? "none" : of[head].toFixed(3);
        one.append(Object.assign(document.createElement("dt"), { textContent: name.replaceAll("_", " ") }),
          Object.assign(document.createElement("dd"), { textContent: said }));
        return one;
      }));
      byId("x-removed").hidden = !m.removed.length;
      if (m.removed.length) show(byId("x-effects"), chart("", "ICL score, change (nats)", ["without the head"], m.removed, [at(a.effects, 0, m.removed.length)], [tokens]));
    }
    function paintMap() {
      const n = size(), colours = palette(kinds[0].checked ? [css("--raised"), "#e69a7a", "#a8260c", "#5c0f00"] : diverging());
      canvas.width = canvas.height = n;
      const image = canvas.getContext("2d").createImageData(n, n), data = image.data;
      const base = block(), attends = kinds[0].checked;
      const source = (attends ? a["attention" + suffix()] : a["attribution" + suffix()]).data;
      for (let q = 0; q < n; q++) {
        for (let k = 0; k < n; k++) {
          const value = source[base + q * n + k], part = attends ? Math.sqrt(value / 64) : 0.5 - value / 62;
          const colour = colours[Math.max(0, Math.min(255, Math.round(part * 255)))], to = 4 * (q * n + k);
          data[to] = colour[0]; data[to + 1] = colour[1]; data[to + 2] = colour[2];
          data[to + 3] = k > q ? 0 : 255;
        }
      }
      canvas.getContext("2d").putImageData(image, 0, 0);
    }
    function paintTokens(at) {
      if (!a) return;
      const n = size(), shown = names(), red = dark.matches ? "#ff6a4a" : "#d13a12", blue = dark.matches ? "#6fb4ff" : "#0b5394";
      const styles = shown.map(() => ({}));
      const line = (part) => `inset 0 -0.22em 0 ${alpha(blue, part)}`;
      const said = byId("x-said"), top = byId("x-top");
      if (at < 0) {
        // How much the head adds to the prediction of each token, through all sources.
        const sums = shown.map((_, i) => { let sum = 0; if (i > 0) for (let k = 0; k < i; k++) sum += attribution(i - 1, k); return sum; });
        const largest = Math.max(...sums, 1e-9);
        sums.forEach((sum, i) => { if (sum > 0) styles[i].line = line(sum / largest); });
        said.textContent = `Head ${headName(head)} of ${m.label}. Underlined: tokens whose prediction it helps. Point at a token, or move with the arrow keys; click or Enter holds it.`;
        top.replaceChildren();
      } else {
        let largest = 1e-9;
        if (at > 0) for (let k = 0; k < at; k++) largest = Math.max(largest, attribution(at - 1, k));
        for (let k = 0; k < n && k <= at; k++) {
          const share = attention(at, k);
          if (share > 0.004) styles[k].background = alpha(red, 0.08 + 0.8 * share);
          if (at > 0 && k < at && attribution(at - 1, k) > 0.02 * largest) styles[k].line = line(attribution(at - 1, k) / largest);
        }
        said.textContent = `“${seen(shown[at])}”, position ${at}. Red: what it attends to, to predict what comes next. Underlined blue: what its own prediction came from.`;
        const sources = Array.from({ length: Math.min(at + 1, n) }, (_, k) => k)
          .filter((k) => attention(at, k) > 0).sort((x, y) => attention(at, y) - attention(at, x)).slice(0, 5);
        top.replaceChildren(...sources.map((k) => Object.assign(document.createElement("li"), {
          textContent: `“${seen(shown[k])}” (${k}): attention ${attention(at, k).toFixed(3)}, adds ${attribution(at, k).toFixed(3)} nats to the next token`,
        })));
      }
      list.paint(styles);
    }
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      const to = (offset, length) => Math.max(0, Math.min(size() - 1, Math.floor((offset / length) * size())));
      return [to(event.clientY - box.top, box.height), to(event.clientX - box.left, box.width)];
    };
    canvas.addEventListener("pointermove", (event) => {
      const [q, k] = place(event), shown = names();
      byId("x-map-said").textContent = k > q ? "Later tokens cannot be seen." :
        `“${seen(shown[q])}” (${q}) → “${seen(shown[k])}” (${k}): attention ${attention(q, k).toFixed(3)}, adds ${attribution(q, k).toFixed(3)} nats to the next token`;
    });
    canvas.addEventListener("click", (event) => list.move(place(event)[0], true));
    model.addEventListener("change", choose);
    text.addEventListener("change", chooseText);
    snapshot.addEventListener("input", refresh);
    kinds.forEach((kind) => kind.addEventListener("change", paintMap));
    dark.addEventListener("change", () => { if (a) refresh(); });
    whenNear([byId("explorer")], () => { if (!a) choose(); });
  }

  // ---- the text over training ----
  {
    const model = byId("t-model"), before = byId("t-before"), after = byId("t-after");
    models.forEach((m, k) => model.append(option(m.label, k)));
    model.value = lead;
    let m = models[lead], a = null, asked = 0, two = [];
    const loss = (s, k) => a.losses.data[s * m.tokens.length + k] / 1000;
    const change = (k) => loss(+after.value, k) - loss(+before.value, k);
    const list = tokenList(byId("t-tokens"), { at: say, press: pick });
    async function choose() {
      const turn = ++asked, next = +model.value, now = await arrays(next);
      if (turn !== asked) return;
      m = models[next];
      a = now;
      const last = m.snapshots.length - 1, end = m.snapshots[last], [from, to] = m.window || [end / 4, end];
      for (const [range, tokens] of [[before, from], [after, to]]) { range.max = last; range.value = nearest(m.snapshots, tokens); }
      list.set(m.tokens, `Tokens of ${m.text}`);
      two = [];
      refresh(true);
    }
    function refresh(fresh) {
      byId("t-before-said").textContent = tokensSaid(m.snapshots[+before.value]);
      byId("t-after-said").textContent = tokensSaid(m.snapshots[+after.value]);
      const blue = dark.matches ? "#5aa2f0" : "#2b78c5", red = dark.matches ? "#ff6a4a" : "#d13a12";
      list.paint(m.tokens.map((_, k) => {
        const by = change(k);
        return Math.abs(by) < 0.1 ? {} : { background: alpha(by < 0 ? blue : red, Math.min(1, Math.abs(by) / 4) * 0.75) };
      }));
      if (fresh) {
        const order = m.tokens.map((_, k) => k).sort((x, y) => change(x) - change(y));
        two = [order[0], order[order.length - 1]];
      }
      m.tokens.forEach((_, k) => list.span(k).classList.toggle("picked", two.includes(k)));
      plot();
      say(list.cursor);
    }
    function plot() {
      const all = m.snapshots.map((_, s) => m.tokens.reduce((sum, _, k) => sum + loss(s, k), 0) / m.tokens.length);
      const names = [...two.map((k) => `${k + 1} “${seen(m.tokens[k])}”`), "mean of the text"];
      show(byId("t-plot"), chart("", "loss (nats)", names, m.snapshots, [...two.map((k) => m.snapshots.map((_, s) => loss(s, k))), all],
        [m.snapshots[+before.value], m.snapshots[+after.value]], [...two.map(() => "solid"), "dash"]));
    }
    function pick(k) {
      two = two.includes(k) ? two.filter((x) => x !== k) : [...two.slice(-1), k];
      refresh();
    }
    function say(k) {
      if (!a) return;
      byId("t-said").textContent = k < 0
        ? "Blue: easier at B; red: harder. Click two tokens, or press Enter on them, to follow their losses."
        : `“${seen(m.tokens[k])}”, token ${k + 1}: ${loss(+before.value, k).toFixed(2)} nats at A, ${loss(+after.value, k).toFixed(2)} at B, ${change(k) < 0 ? "" : "+"}${change(k).toFixed(2)}.`;
    }
    model.addEventListener("change", choose);
    for (const range of [before, after]) range.addEventListener("input", () => refresh());
    dark.addEventListener("change", () => { if (a) refresh(); });
    whenNear([byId("text-over-training")], () => { if (!a) choose(); });
  }
}
