// Every head of a scanned model in its place, and what it attends to.
if (byId("scanned-data")) {
  const models = json("scanned-data");
  const model = byId("m-model"), measure = byId("m-measure"), text = byId("m-text");
  const grid = byId("m-heads"), canvas = byId("m-map");
  const unpacked = new Map();
  let m = models[0], head = 0, bytes = null, asked = 0;
  models.forEach((one, k) => model.append(option(one.label, k)));
  const list = tokenList(byId("m-tokens"), { at: paintTokens });
  const tokens = () => m.texts[+text.value].tokens;
  const headName = (h) => `${Math.floor(h / m.heads)}.${h % m.heads}`;
  const said = (x) => (x === null ? "none" : x.toFixed(3));
  const column = () => m.measures[+measure.value];
  /// The share of its attention that position `q` has on position `k`.
  const attention = (q, k) => bytes[(head * tokens().length * (tokens().length + 1)) / 2 + (q * (q + 1)) / 2 + k] / 255;

  /// The attention on a text, unpacked when it is first asked for.
  function unpack(k, t) {
    const key = `scanned-${k}-${t}`;
    if (!unpacked.has(key)) unpacked.set(key, inflated(byId(key)).then((buffer) => new Uint8Array(buffer)));
    return unpacked.get(key);
  }
  function choose() {
    m = models[+model.value];
    bytes = null;
    measure.replaceChildren(...m.measures.map(([name], k) => option(name.replaceAll("_", " "), k)));
    text.replaceChildren(...m.texts.map((t, k) => option(t.name, k)));
    const of = m.measures[0][1];
    head = of.reduce((best, x, h) => ((x ?? -Infinity) > (of[best] ?? -Infinity) ? h : best), 0);
    grid.replaceChildren(...Array.from({ length: m.layers }, (_, layer) => {
      const row = Object.assign(document.createElement("div"), { className: "places-row" });
      row.append(Object.assign(document.createElement("span"), { textContent: layer }));
      for (let h = layer * m.heads; h < (layer + 1) * m.heads; h++) {
        const button = Object.assign(document.createElement("button"), { type: "button" });
        button.dataset.head = h;
        row.append(button);
      }
      return row;
    }));
    shade();
    pick(head);
    chooseText();
  }
  const button = (h) => grid.querySelector(`[data-head="${h}"]`);
  function shade() {
    const [name, of] = column(), largest = Math.max(...of.map((x) => Math.abs(x ?? 0)), 1e-9);
    of.forEach((x, h) => {
      const one = button(h), part = Math.round((100 * Math.abs(x ?? 0)) / largest);
      one.style.background = `color-mix(in srgb, ${x < 0 ? "#c44601" : "var(--link)"} ${part}%, transparent)`;
      one.title = `head ${headName(h)}: ${name.replaceAll("_", " ")} ${said(x)}`;
      one.setAttribute("aria-label", one.title);
    });
  }
  /// One head can be reached by the tabulator, the others from it by arrows.
  function pick(h, focus) {
    head = h;
    grid.querySelectorAll("button").forEach((one) => {
      const chosen = +one.dataset.head === head;
      one.setAttribute("aria-pressed", chosen);
      one.tabIndex = chosen ? 0 : -1;
    });
    if (focus) button(head).focus();
    const [name, of] = column();
    byId("m-head").textContent = `Head ${headName(head)} of ${m.label}: ${name.replaceAll("_", " ")} ${said(of[head])}.`;
    byId("m-measures").replaceChildren(...m.measures.map(([measured, all]) => {
      const one = document.createElement("div");
      one.append(Object.assign(document.createElement("dt"), { textContent: measured.replaceAll("_", " ") }),
        Object.assign(document.createElement("dd"), { textContent: said(all[head]) }));
      return one;
    }));
    if (bytes) paint();
  }
  async function chooseText() {
    bytes = null;
    const turn = ++asked, now = await unpack(+model.value, +text.value);
    if (turn !== asked) return;
    bytes = now;
    list.set(tokens(), `Tokens of ${text.selectedOptions[0].textContent}`);
    paint();
  }
  const mapSaid = byId("m-map-said").textContent;
  function paint() {
    byId("m-map-said").textContent = mapSaid;
    const n = tokens().length, colours = palette([css("--raised"), "#e69a7a", "#a8260c", "#5c0f00"]);
    canvas.width = canvas.height = n;
    const image = canvas.getContext("2d").createImageData(n, n), data = image.data;
    for (let q = 0; q < n; q++) {
      for (let k = 0; k <= q; k++) data.set([...colours[Math.round(255 * Math.sqrt(attention(q, k)))], 255], 4 * (q * n + k));
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    paintTokens(list.cursor);
  }
  function paintTokens(at) {
    if (!bytes) return;
    const shown = tokens(), styles = shown.map(() => ({})), red = dark.matches ? "#ff6a4a" : "#d13a12";
    const top = byId("m-top");
    if (at < 0) {
      byId("m-said").textContent = "Point at a token, or move with the arrow keys, to see what the head attends to from there; click or Enter holds it.";
      top.replaceChildren();
    } else {
      const sources = Array.from({ length: at + 1 }, (_, k) => k).filter((k) => attention(at, k) > 0);
      sources.forEach((k) => { styles[k].background = alpha(red, 0.08 + 0.8 * attention(at, k)); });
      byId("m-said").textContent = `From “${seen(shown[at])}”, position ${at}. Red: what the head attends to.`;
      sources.sort((x, y) => attention(at, y) - attention(at, x));
      top.replaceChildren(...sources.slice(0, 5).map((k) => Object.assign(document.createElement("li"), {
        textContent: `“${seen(shown[k])}” (${k}): ${attention(at, k).toFixed(3)}`,
      })));
    }
    list.paint(styles);
  }
  const place = (event) => {
    const box = canvas.getBoundingClientRect(), n = tokens().length;
    const to = (offset, length) => Math.max(0, Math.min(n - 1, Math.floor((offset / length) * n)));
    return [to(event.clientY - box.top, box.height), to(event.clientX - box.left, box.width)];
  };
  canvas.addEventListener("pointermove", (event) => {
    if (!bytes) return;
    const [q, k] = place(event), shown = tokens();
    byId("m-map-said").textContent = k > q ? "Later tokens cannot be seen." :
      `“${seen(shown[q])}” (${q}) → “${seen(shown[k])}” (${k}): ${attention(q, k).toFixed(3)}`;
  });
  canvas.addEventListener("click", (event) => { if (bytes) list.move(place(event)[0], true); });
  grid.addEventListener("click", (event) => {
    if (event.target.dataset.head !== undefined) pick(+event.target.dataset.head);
  });
  grid.addEventListener("keydown", (event) => {
    const last = m.layers * m.heads - 1;
    const to = {
      ArrowRight: Math.min(head + 1, last), ArrowLeft: Math.max(head - 1, 0),
      ArrowDown: head + m.heads > last ? head : head + m.heads, ArrowUp: head < m.heads ? head : head - m.heads,
    }[event.key];
    if (to === undefined) return;
    pick(to, true);
    event.preventDefault();
  });
  model.addEventListener("change", choose);
  measure.addEventListener("change", () => { shade(); pick(head); });
  text.addEventListener("change", chooseText);
  dark.addEventListener("change", () => { if (bytes) { shade(); paint(); } });
  whenNear([byId("scanned")], () => { if (!bytes) choose(); });
}
