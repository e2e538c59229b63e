// The Model Analysis Table: columns to pick, stamps drawn as they come into view, each enlarged on a click.
if (byId("analysis")) {
  const { rows, series } = json("analysis");
  const columns = series.flatMap((s, i) => s.models.map((model) => ({ ...model, series: i })));
  const table = byId("analysis-table"), picks = byId("analysis-picks");
  const chosen = new Set(columns.map((_, k) => k).filter((k) => columns[k].series === 0));

  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  series.forEach((s, i) => {
    const of = columns.map((_, k) => k).filter((k) => columns[k].series === i);
    const all = make("input", { type: "checkbox", checked: i === 0 });
    const boxes = of.map((k) => {
      const box = make("input", { type: "checkbox", checked: chosen.has(k) });
      box.addEventListener("change", () => { box.checked ? chosen.add(k) : chosen.delete(k); count(); fill(); });
      return box;
    });
    const count = () => {
      all.checked = boxes.every((box) => box.checked);
      all.indeterminate = !all.checked && boxes.some((box) => box.checked);
    };
    all.addEventListener("change", () => {
      boxes.forEach((box, n) => { box.checked = all.checked; all.checked ? chosen.add(of[n]) : chosen.delete(of[n]); });
      fill();
    });
    picks.append(make("div", { className: "picks" },
      make("label", { className: "whole" }, all, make("b", { textContent: s.title })),
      ...of.map((k, n) => make("label", {}, boxes[n], columns[k].label))));
  });

  const panelOf = new WeakMap();
  const drawStamp = (canvas) => stamp(panelOf.get(canvas), canvas);
  let forget = () => {};
  function fill() {
    const shown = columns.map((_, k) => k).filter((k) => chosen.has(k));
    const head = make("thead", {}, make("tr", {}, make("td"), ...shown.map((k) => {
      const heading = make("th", { scope: "col" }, columns[k].label);
      heading.append(make("small", { textContent: series[columns[k].series].title }));
      return heading;
    })));
    const body = make("tbody");
    rows.forEach(([name, says], r) => {
      const row = make("tr", {}, make("th", { scope: "row" }, name, make("small", { textContent: says })));
      for (const k of shown) {
        const panel = columns[k].panels[r];
        const cell = make("td");
        if (panel.lines.length || panel.heat) {
          const canvas = make("canvas");
          panelOf.set(canvas, panel);
          const button = make("button", { type: "button", className: "stamp", title: panel.title }, canvas);
          button.setAttribute("aria-label", `${name}, ${columns[k].label}: enlarge`);
          button.addEventListener("click", () => enlarge(k, r));
          cell.append(button);
        } else {
          cell.append(make("span", { className: "none", title: columns[k].said[r], textContent: "–" }));
        }
        row.append(cell);
      }
      body.append(row);
    });
    table.replaceChildren(head, body);
    forget();
    forget = whenNear([...table.querySelectorAll("canvas")], drawStamp);
  }

  const dialog = byId("enlarged"), plot = byId("enlarged-plot");
  let at = [0, 0];
  function enlarge(k, r) {
    at = [k, r];
    const panel = columns[k].panels[r];
    byId("enlarged-title").textContent = `${rows[r][0]}: ${columns[k].label}`;
    byId("enlarged-says").textContent = `${series[columns[k].series].title}. ${rows[r][1]}. ${columns[k].said[r]}`;
    if (!dialog.open) dialog.showModal();
    if (panel.lines.length || panel.heat) draw(panel, plot);
    else Plotly.purge(plot);
  }
  const step = (dk, dr) => {
    const shown = columns.map((_, k) => k).filter((k) => chosen.has(k));
    const k = shown[(shown.indexOf(at[0]) + dk + shown.length) % shown.length];
    enlarge(k, (at[1] + dr + rows.length) % rows.length);
  };
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  dialog.addEventListener("keydown", (event) => {
    if (moves[event.key]) { event.preventDefault(); step(...moves[event.key]); }
  });
  byId("enlarged-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dark.addEventListener("change", () => { if (dialog.open) enlarge(...at); });
  fill();
}
