// A line over the last five minutes. One series each, so the title is the legend.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600;
const HEIGHT = 120;
const SPAN_S = 300;

function shape(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** The next of 1, 2, 5, 10, 20, 50 … */
export function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((top) => top >= value);
}

export class Chart {
  /** `figure` has `.value`, `.plot`, `.top` and `.ago`; `read` takes the figure out of a sample. */
  constructor(figure, { read, top, say }) {
    this.figure = figure;
    this.read = read;
    this.top = top ?? ((samples) => ceiling(Math.max(1, ...samples.map(read))));
    this.say = say;
    this.samples = [];
    this.area = shape("path", { class: "area" });
    this.line = shape("path", { class: "line", "vector-effect": "non-scaling-stroke" });
    this.cross = shape("line", { class: "cross", y1: 0, y2: HEIGHT, "vector-effect": "non-scaling-stroke" });
    this.svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.svg.append(this.area, this.line, this.cross);
    figure.querySelector(".plot").append(this.svg);
    this.svg.addEventListener("pointermove", (event) => this.#point(event));
    this.svg.addEventListener("pointerleave", () => this.#unpoint());
  }

  draw(samples) {
    this.samples = samples;
    const newest = samples.at(-1);
    if (!newest) return;
    const top = Math.max(this.top(samples), 1);
    const points = samples.map((one) => [this.#x(one, newest), HEIGHT - (HEIGHT - 3) * Math.min(1, this.read(one) / top)]);
    const path = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L");
    this.line.setAttribute("d", `M${path}`);
    this.area.setAttribute("d", `M${points[0][0]},${HEIGHT}L${path}L${WIDTH},${HEIGHT}Z`);
    this.figure.querySelector(".top").textContent = top.toLocaleString();
    if (!this.pointed) this.#tell(newest, "now");
  }

  #x(sample, newest) {
    return WIDTH * (1 - Math.min(1, (newest.at - sample.at) / SPAN_S));
  }

  #tell(sample, ago) {
    const words = this.say(sample);
    this.figure.querySelector(".value").textContent = words;
    this.figure.querySelector(".ago").textContent = ago;
    if (ago === "now") this.svg.setAttribute("aria-label", `${this.figure.dataset.title}, last five minutes; now ${words}`);
  }

  #point(event) {
    const newest = this.samples.at(-1);
    if (!newest) return;
    const box = this.svg.getBoundingClientRect();
    const at = newest.at - SPAN_S * (1 - (event.clientX - box.left) / box.width);
    const near = this.samples.reduce((a, b) => (Math.abs(b.at - at) < Math.abs(a.at - at) ? b : a));
    const x = this.#x(near, newest);
    this.pointed = true;
    this.cross.setAttribute("x1", x);
    this.cross.setAttribute("x2", x);
    this.cross.classList.add("on");
    this.#tell(near, near === newest ? "now" : `${Math.round(newest.at - near.at)} s ago`);
  }

  #unpoint() {
    this.pointed = false;
    this.cross.classList.remove("on");
    if (this.samples.length) this.#tell(this.samples.at(-1), "now");
  }
}
