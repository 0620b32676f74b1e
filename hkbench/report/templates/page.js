// Unpacks plotly.js, which lies gzipped in the page, and draws each chart; again when the width turns narrow
// or wide, and at a page's width for print.
(async () => {
  "use strict";
  const PRINT_WIDTH = 680;
  const narrow = matchMedia("(max-width: 640px)");
  const boxes = [...document.querySelectorAll("[data-chart]")];
  const drawings = JSON.parse(document.getElementById("drawings").textContent);

  async function unpackPlotly() {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  function laidOver(base, over) {
    const merged = { ...base };
    for (const [key, value] of Object.entries(over)) {
      const nested = value !== null && typeof value === "object" && !Array.isArray(value);
      merged[key] = nested ? laidOver(base[key] ?? {}, value) : value;
    }
    return merged;
  }

  function draw(printing) {
    for (const box of boxes) {
      const drawing = structuredClone(drawings[box.dataset.chart]);
      const layout = narrow.matches && !printing ? laidOver(drawing.layout, drawing.narrow) : drawing.layout;
      if (printing) layout.width = PRINT_WIDTH;
      box.style.minHeight = `${layout.height}px`;
      Plotly.react(box, drawing.data, layout, {
        responsive: true,
        displaylogo: false,
        showSendToCloud: false,
        displayModeBar: false,
      });
    }
  }

  function openForPrint() {
    for (const details of document.querySelectorAll("details:not([open])")) {
      details.open = true;
      details.dataset.opened = "";
    }
    draw(true);
  }

  function closeAfterPrint() {
    for (const details of document.querySelectorAll("details[data-opened]")) {
      details.open = false;
      delete details.dataset.opened;
    }
    draw(false);
  }

  try {
    await unpackPlotly();
    for (const box of boxes) box.replaceChildren();
    draw(false);
    narrow.addEventListener("change", () => draw(false));
    addEventListener("beforeprint", openForPrint);
    addEventListener("afterprint", closeAfterPrint);
    document.documentElement.dataset.drawn = String(boxes.length);
  } catch (error) {
    for (const box of boxes) box.textContent = `This chart could not be drawn (${error.message}); its table has the data.`;
  }
})();
