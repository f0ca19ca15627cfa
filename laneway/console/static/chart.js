// Draws the charts: elements with data-chart, the address of their points.
"use strict";
(() => {
  const MINUTE = 60_000;
  const charts = new Map();

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function series(label, stroke, options = {}) {
    return { label, stroke, width: 2, points: { show: false }, spanGaps: false, ...options };
  }

  // Hour and minute of each line, and the day below the first line of it.
  function times(_chart, seconds) {
    let shown = "";
    return seconds.map((second) => {
      const at = new Date(second * 1000);
      const two = (number) => String(number).padStart(2, "0");
      const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
      const text = `${two(at.getHours())}:${two(at.getMinutes())}` + (day === shown ? "" : `\n${day}`);
      shown = day;
      return text;
    });
  }

  function options(element) {
    const grid = { stroke: colour("--line"), width: 1 };
    const axis = { stroke: colour("--faint"), grid, ticks: grid, font: "12px system-ui" };
    return {
      width: element.clientWidth,
      height: 190,
      legend: { live: true },
      axes: [{ ...axis, values: times }, { ...axis, size: 56 }, { ...axis, scale: "sizes", side: 1, size: 56, grid: { show: false } }],
      scales: { y: { range: (_u, _min, max) => [0, Math.max(1, max * 1.1)] }, sizes: { range: (_u, _min, max) => [0, Math.max(1, max * 1.1)] } },
      series: [
        { value: "{YYYY}-{MM}-{DD} {HH}:{mm}" },
        series("accepted a minute", colour("--blue")),
        series("completed a minute", colour("--green")),
        series("failed a minute", colour("--red")),
        series("waiting", colour("--amber"), { scale: "sizes", dash: [6, 4] }),
      ],
    };
  }

  async function draw(element) {
    const answer = await fetch(element.dataset.chart, { headers: { Accept: "application/json" } });
    if (!answer.ok) return;
    const found = await answer.json();
    const points = [found.at, found.accepted, found.completed, found.failed, found.waiting];
    const chart = charts.get(element);
    if (chart) return chart.setData(points);
    charts.set(element, new uPlot(options(element), points, element));
  }

  function drawAgain() {
    for (const [element, chart] of charts) { chart.destroy(); charts.delete(element); }
    drawAll();
  }

  function drawAll() {
    for (const element of document.querySelectorAll("[data-chart]")) draw(element).catch(() => {});
  }

  new ResizeObserver(() => {
    for (const [element, chart] of charts) chart.setSize({ width: element.clientWidth, height: 190 });
  }).observe(document.getElementById("main"));
  document.addEventListener("laneway:theme", drawAgain);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAgain);
  setInterval(() => { if (!document.hidden) drawAll(); }, MINUTE);
  drawAll();
})();
