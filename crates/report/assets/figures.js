// Draws the panels described in the page's JSON: with Plotly where they are read, on small canvases where they are
// scanned. Everything is in the page's own colours, light or dark.
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 40rem)");
// Where nothing can hover, the buttons would lie over every figure all the time.
const pointer = matchMedia("(hover: hover)");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const byId = (id) => document.getElementById(id);
const json = (id) => JSON.parse(byId(id).textContent);
// Plotly reads names as a little HTML; ours are text.
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const alpha = (hex, part) => hex + Math.round(Math.max(0, Math.min(1, part)) * 255).toString(16).padStart(2, "0");
/// Signs for what cannot be seen in a token.
const seen = (token) => token.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "·");

// Cividis, thinned: its order is the same for colour-blind eyes. And blue through the page's colour to red.
const sequential = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];
const diverging = () => ["#0b5394", "#6fa8dc", css("--raised"), "#e69a7a", "#a8260c"];
const scaleOf = (kind) => (kind === "diverging" ? diverging() : sequential);
const rgb = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
/// 256 colours between the stops of a scale.
function palette(stops) {
  const colours = stops.map(rgb);
  return Array.from({ length: 256 }, (_, k) => {
    const at = (k / 255) * (colours.length - 1), low = Math.min(Math.floor(at), colours.length - 2);
    return colours[low].map((c, i) => Math.round(c + (at - low) * (colours[low + 1][i] - c)));
  });
}

function band(b, shade) {
  return {
    x: b.x.concat([...b.x].reverse()), y: b.high.concat([...b.low].reverse()),
    type: "scatter", mode: "lines", fill: "toself", fillcolor: alpha(b.colour[shade], 0.2),
    line: { width: 0 }, hoverinfo: "skip", showlegend: false, legendgroup: plain(b.group),
  };
}

function line(l, shade, alone) {
  const name = plain(l.name);
  const grouped = l.group !== l.name && l.legend;
  return {
    x: l.x, y: l.y, type: "scatter", opacity: l.opacity,
    // A line through one snapshot has no length.
    mode: l.x.length > 1 && !l.points ? "lines" : "markers",
    line: { color: l.colour[shade], width: l.width, dash: l.dash }, marker: { color: l.colour[shade], size: 8 },
    name: grouped && /^layer|heads$/.test(l.group) ? plain(l.group) : name, legendgroup: plain(l.group),
    showlegend: l.legend && !alone,
    hovertemplate: (l.points ? "%{x:.3f}, " : "") + "%{y:.3f}<extra>" + name + "</extra>",
  };
}

function heat(h, panel) {
  const stops = scaleOf(h.colours);
  const places = h.labels && h.labels.map((label, k) => `${k} ${plain(seen(label))}`);
  const along = (axis, value) => (places ? value : axis.tokens ? `%{${value}:.3s} tokens` : `%{${value}:.3~r}`);
  return {
    type: "heatmap", x: places || h.x, y: places || h.y, z: h.z, zmin: h.range[0], zmax: h.range[1],
    colorscale: stops.map((colour, k) => [k / (stops.length - 1), colour]),
    colorbar: { thickness: 10, outlinewidth: 0, len: 1, tickfont: { size: 11 }, nticks: 5 },
    hovertemplate: places
      ? `%{y} → %{x}: %{z:.3f} ${h.unit}<extra></extra>`
      : `${along(panel.x, "x")}, ${along(panel.y, "y")}: %{z:.3f} ${h.unit}<extra></extra>`,
  };
}

// 1, 2, 5, 10, 20, ..: Plotly's own labels leave the zeros out.
const decades = [1, 10, 100, 1000, 10000, 100000].flatMap((ten) => [ten, 2 * ten, 5 * ten]);

function axis(a, colours, places) {
  return {
    title: { text: a.title, standoff: 8, font: { size: 12.5, color: colours.soft } },
    type: places ? "category" : a.log ? "log" : "linear", range: a.range && [...a.range], tickformat: a.tokens ? "~s" : undefined,
    autorange: a.range ? undefined : a.down ? "reversed" : true,
    rangemode: a.tokens && !a.log ? "tozero" : "normal", tickvals: a.log && !a.tokens ? decades : undefined, nticks: places ? 12 : 6,
    exponentformat: "SI", showgrid: !places, tickangle: places ? 0 : undefined,
    gridcolor: colours.grid, zerolinecolor: colours.rule, linecolor: colours.rule,
    tickfont: { size: places ? 10 : 12 }, automargin: true, ticklabeloverflow: "hide past div",
  };
}

function layoutOf(panel) {
  const colours = { ink: css("--ink"), soft: css("--soft"), rule: css("--rule"), grid: css("--grid") };
  const places = panel.heat && panel.heat.labels;
  const layout = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colours.ink },
    margin: { l: 58, r: 14, t: 12, b: 46 },
    hovermode: panel.heat || panel.lines.length > 9 || panel.lines.some((l) => l.points) ? "closest" : "x unified",
    hoverlabel: { bgcolor: css("--raised"), bordercolor: colours.rule, font: { color: colours.ink } },
    xaxis: axis(panel.x, colours, places), yaxis: axis(panel.y, colours, places),
    legend: { orientation: "h", yanchor: "bottom", y: 1.01, x: 0, font: { size: 12.5 }, groupclick: "togglegroup", tracegroupgap: 0 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colours.soft, activecolor: colours.ink },
    dragmode: narrow.matches ? false : "zoom",
  };
  if (panel.window) {
    const [start, end] = panel.window;
    // Over a map of colours a shade would be taken for data: two lines instead.
    const edge = (x) => ({ type: "line", xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line: { width: 1.5, dash: "dot", color: colours.ink } });
    layout.shapes = panel.heat ? [edge(start), edge(end)] : [{
      type: "rect", layer: "below", xref: "x", yref: "paper", x0: start, x1: end, y0: 0, y1: 1,
      fillcolor: css("--shade"), opacity: 0.16, line: { width: 0 },
    }];
    if (!panel.heat && !panel.x.log) {
      layout.annotations = [{
        xref: "x", yref: "paper", x: end, y: 1, xanchor: "left", yanchor: "top", showarrow: false,
        text: "window", font: { size: 11.5, color: colours.soft },
      }];
    }
  }
  return layout;
}

const buttons = {
  // The buttons are listed one by one: Plotly's own set has one that uploads the figure.
  responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
};

function draw(panel, element) {
  const shade = dark.matches ? 1 : 0;
  const alone = panel.lines.length === 1;
  const traces = panel.heat
    ? [heat(panel.heat, panel)]
    : (panel.bands || []).map((b) => band(b, shade)).concat(panel.lines.map((l) => line(l, shade, alone)));
  return Plotly.react(element, traces, layoutOf(panel), { ...buttons, displayModeBar: pointer.matches && !narrow.matches ? "hover" : false });
}

/// Calls `show` for each element as it comes near the visible part of the page, and again when the colours change;
/// until the function that comes back is called.
function whenNear(elements, show) {
  const near = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watch.unobserve(entry.target);
      near.add(entry.target);
      show(entry.target);
    }
  }, { rootMargin: "500px" });
  elements.forEach((element) => watch.observe(element));
  const again = () => near.forEach(show);
  for (const query of [dark, narrow]) query.addEventListener("change", again);
  return () => {
    watch.disconnect();
    for (const query of [dark, narrow]) query.removeEventListener("change", again);
  };
}

/// A panel as small as a stamp, without words.
function stamp(panel, canvas) {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width) return;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const g = canvas.getContext("2d");
  g.scale(ratio, ratio);
  g.clearRect(0, 0, width, height);
  const pad = 3;
  if (panel.heat) {
    const h = panel.heat, colours = palette(scaleOf(h.colours)), rows = h.z.length, columns = h.x.length;
    const last = h.x[columns - 1] || 1;
    for (let c = 0; c < columns; c++) {
      // Each snapshot's column reaches half-way to its neighbours.
      const edge = (a, b) => pad + ((a + b) / 2 / last) * (width - 2 * pad);
      const x0 = c ? edge(h.x[c - 1], h.x[c]) : pad, x1 = c < columns - 1 ? edge(h.x[c], h.x[c + 1]) : width - pad;
      for (let r = 0; r < rows; r++) {
        const part = (h.z[r][c] - h.range[0]) / (h.range[1] - h.range[0]);
        g.fillStyle = `rgb(${colours[Math.max(0, Math.min(255, Math.round(part * 255)))]})`;
        const y0 = height - pad - ((r + 1) / rows) * (height - 2 * pad), y1 = height - pad - (r / rows) * (height - 2 * pad);
        g.fillRect(x0, y0, x1 - x0 + 0.6, y1 - y0 + 0.6);
      }
    }
    return;
  }
  const all = panel.lines.concat((panel.bands || []).flatMap((b) => [{ x: b.x, y: b.low }, { x: b.x, y: b.high }]));
  const reach = (axis, key) => {
    if (axis.range) return axis.range;
    const values = all.flatMap((l) => l[key]), low = Math.min(...values), high = Math.max(...values);
    return [axis.tokens ? Math.min(0, low) : low, high > low ? high : low + 1];
  };
  const [xr, yr] = [reach(panel.x, "x"), reach(panel.y, "y")];
  const px = (x) => pad + ((x - xr[0]) / (xr[1] - xr[0])) * (width - 2 * pad);
  const py = (y) => height - pad - ((y - yr[0]) / (yr[1] - yr[0])) * (height - 2 * pad);
  if (panel.window && !panel.x.log) {
    g.globalAlpha = 0.16;
    g.fillStyle = css("--shade");
    g.fillRect(px(panel.window[0]), 0, Math.max(1, px(panel.window[1]) - px(panel.window[0])), height);
  }
  const shade = dark.matches ? 1 : 0;
  if (yr[0] < 0 && yr[1] > 0) {
    g.globalAlpha = 1;
    g.fillStyle = css("--rule");
    g.fillRect(0, py(0), width, 1);
  }
  for (const b of panel.bands || []) {
    g.globalAlpha = 0.2;
    g.fillStyle = b.colour[shade];
    g.beginPath();
    b.x.forEach((x, k) => g.lineTo(px(x), py(b.high[k])));
    for (let k = b.x.length - 1; k >= 0; k--) g.lineTo(px(b.x[k]), py(b.low[k]));
    g.fill();
  }
  for (const l of panel.lines) {
    g.globalAlpha = l.opacity;
    g.strokeStyle = l.colour[shade];
    g.lineWidth = Math.max(0.8, l.width * 0.6);
    g.beginPath();
    l.x.forEach((x, k) => g.lineTo(px(x), py(l.y[k])));
    g.stroke();
  }
  g.globalAlpha = 1;
}

{
  const figures = json("figures");
  const panels = new Map(figures.flatMap((f) => f.panels.map((panel, k) => [`${f.id}-${k}`, panel])));
  const elements = [...panels.keys()].map(byId).filter((element) => element && element.classList.contains("plot"));
  whenNear(elements, (element) => draw(panels.get(element.id), element));
}
