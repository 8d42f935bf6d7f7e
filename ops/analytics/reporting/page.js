"use strict";
const plots = JSON.parse(document.getElementById("plots").textContent);
const root = document.documentElement;

function template() {
  const style = getComputedStyle(root);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const axis = {
    automargin: true, ticklabelstandoff: 4, exponentformat: "none", separatethousands: true,
    gridcolor: colour("rule"), linecolor: colour("rule"), zerolinecolor: colour("rule"),
    tickfont: { size: 12 }, title: { font: { size: 13, color: colour("faint") }, standoff: 10 },
  };
  const shades = [[0, colour("low")], [1, colour("high")]];
  return {
    layout: {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", separators: ".,",
      font: { family: "system-ui, sans-serif", color: colour("ink") },
      colorway: [1, 2, 3, 4, 5, 6, 7, 8].map((number) => colour(`series-${number}`)),
      colorscale: { sequential: shades },
      hoverlabel: { bgcolor: colour("paper"), bordercolor: colour("faint"), font: { color: colour("ink") } },
      xaxis: axis, yaxis: axis,
    },
  };
}

function draw() {
  for (const [id, { data, layout }] of Object.entries(plots)) {
    const drawn = { ...structuredClone(layout), template: template() };
    Plotly.react(id, structuredClone(data), drawn, { responsive: true, displayModeBar: false });
  }
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
// Paper is white, whatever the screen is.
for (const [event, isPrint] of [["beforeprint", true], ["afterprint", false]]) {
  addEventListener(event, () => {
    root.classList.toggle("print", isPrint);
    draw();
  });
}
