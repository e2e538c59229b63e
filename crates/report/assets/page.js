// Draws the figures described in #figures with Plotly, in the page's own colours, light or dark.
(() => {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 40rem)");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // Plotly reads names as a little HTML; ours are text.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const alpha = (hex, part) => hex + Math.round(part * 255).toString(16).padStart(2, "0");

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

  // 1, 2, 5, 10, 20, ..: Plotly's own labels leave the zeros out.
  const decades = [1, 10, 100, 1000, 10000, 100000].flatMap((ten) => [ten, 2 * ten, 5 * ten]);

  function axis(a, colours) {
    return {
      title: { text: a.title, standoff: 8, font: { size: 12.5, color: colours.soft } },
      type: a.log ? "log" : "linear", range: a.range && [...a.range], tickformat: a.tokens ? "~s" : undefined,
      rangemode: a.tokens ? "tozero" : "normal", tickvals: a.log ? decades : undefined, nticks: 6, exponentformat: "SI",
      gridcolor: colours.grid, zerolinecolor: colours.rule, linecolor: colours.rule, tickfont: { size: 12 }, automargin: true,
    };
  }

  function draw(panel, element) {
    const shade = dark.matches ? 1 : 0;
    const colours = { ink: css("--ink"), soft: css("--soft"), rule: css("--rule"), grid: css("--grid") };
    const alone = panel.lines.length === 1;
    const traces = panel.bands.map((b) => band(b, shade)).concat(panel.lines.map((l) => line(l, shade, alone)));
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colours.ink },
      margin: { l: 58, r: 14, t: 12, b: 46 }, hovermode: panel.lines.length > 9 || panel.lines.some((l) => l.points) ? "closest" : "x unified",
      hoverlabel: { bgcolor: css("--raised"), bordercolor: colours.rule, font: { color: colours.ink } },
      xaxis: axis(panel.x, colours), yaxis: axis(panel.y, colours),
      legend: { orientation: "h", yanchor: "bottom", y: 1.01, x: 0, font: { size: 12.5 }, groupclick: "togglegroup", tracegroupgap: 0 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colours.soft, activecolor: colours.ink },
      dragmode: narrow.matches ? false : "zoom",
    };
    if (panel.window) {
      const [start, end] = panel.window;
      layout.shapes = [{
        type: "rect", layer: "below", xref: "x", yref: "paper", x0: start, x1: end, y0: 0, y1: 1,
        fillcolor: css("--shade"), opacity: 0.16, line: { width: 0 },
      }];
      layout.annotations = [{
        xref: "x", yref: "paper", x: end, y: 1, xanchor: "left", yanchor: "top", showarrow: false,
        text: "window", font: { size: 11.5, color: colours.soft },
      }];
    }
    return Plotly.react(element, traces, layout, {
      // The buttons are listed one by one: Plotly's own set has one that uploads the figure.
      responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
      displayModeBar: narrow.matches ? false : "hover",
    });
  }

  function drawAll() {
    for (const figure of figures) {
      figure.panels.forEach((panel, k) => {
        const element = document.getElementById(`${figure.id}-${k}`);
        if (panel.lines.length > 0) draw(panel, element);
      });
    }
  }
  drawAll();
  dark.addEventListener("change", drawAll);
  narrow.addEventListener("change", drawAll);
})();
