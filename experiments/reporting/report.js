"use strict";
(async () => {
  const root = document.documentElement;
  const plots = [...document.querySelectorAll(".plot")];
  // In CSS pixels, between the margins of A4.
  const PAPER_WIDTH = 660;
  const PAPER_HEIGHT = 0.72; // of the height on a screen

  async function loadPlotly() {
    const text = document.getElementById("plotly").textContent;
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const compressed = new Blob([bytes]).stream();
    const stream = compressed.pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    return window.Plotly;
  }

  function connectLegend(plot) {
    for (const entry of plot.closest("figure").querySelectorAll("button.entry")) {
      entry.addEventListener("click", () => {
        const shown = entry.getAttribute("aria-pressed") !== "true";
        entry.setAttribute("aria-pressed", String(shown));
        const traces = [...plot.data.keys()].filter(
          (i) => plot.data[i].meta === entry.dataset.group,
        );
        Plotly.restyle(plot, { visible: shown }, traces);
      });
    }
  }

  async function draw(plot) {
    const source = document.querySelector(`script[data-for="${plot.id}"]`);
    const { data, layout, x } = JSON.parse(source.textContent);
    for (const trace of data) trace.x = x[trace.x];
    await Plotly.newPlot(plot, data, layout, { responsive: true, displayModeBar: false });
    connectLegend(plot);
  }

  function fitPaper(printing) {
    for (const fold of document.querySelectorAll("details")) {
      if (printing && !fold.open) fold.dataset.folded = "";
      if (printing) fold.open = true;
      else if ("folded" in fold.dataset) {
        fold.open = false;
        delete fold.dataset.folded;
      }
    }
    for (const plot of plots) {
      if (!plot.data) continue;
      const height = Number(plot.dataset.height) * (printing ? PAPER_HEIGHT : 1);
      plot.style.height = `${height}px`;
      const width = printing ? PAPER_WIDTH : null;
      Plotly.relayout(plot, { autosize: !printing, width, height });
    }
  }

  try {
    await loadPlotly();
    for (const plot of plots) {
      await draw(plot);
      // Let the browser respond between figures.
      await new Promise((resume) => setTimeout(resume));
    }
    window.addEventListener("beforeprint", () => fitPaper(true));
    window.addEventListener("afterprint", () => fitPaper(false));
    root.dataset.drawn = String(plots.length);
  } catch (problem) {
    document.getElementById("unable").hidden = false;
    for (const plot of plots.filter((each) => !each.data)) {
      plot.textContent = `Not drawn: see ${plot.dataset.key}.png beside this file.`;
    }
    root.dataset.failed = String(problem);
  }
})();
