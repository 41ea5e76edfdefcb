// Drawing: stored bytes onto canvases, pixel by pixel, marks over them, and small charts.

/** Of SVG. */
const DRAWN = "http://www.w3.org/2000/svg";

/**
 * The element of that id, which the page must have.
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
function part(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} called ${id}`);
  return found;
}

/**
 * A new element.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} [className]
 * @param {string} [text]
 * @returns {HTMLElementTagNameMap[K]}
 */
function made(tag, className = "", text = "") {
  const one = document.createElement(tag);
  if (className) one.className = className;
  if (text) one.textContent = text;
  return one;
}

/**
 * Paint an image (C, H, W) of a stored array as it is, and note on the canvas which it is.
 * @param {HTMLCanvasElement} canvas
 * @param {Stored} array
 * @param {number[]} index leading indices, up to the image
 * @param {string} said what it shows
 */
function paint(canvas, array, index, said) {
  const [channels = 1, height = 1, width = 1] = array.shape.slice(index.length);
  const bytes = array.at(...index);
  const area = height * width;
  put(canvas, width, height, (place, channel) => bytes[(channels === 3 ? channel : 0) * area + place] ?? 0);
  canvas.dataset.array = array.name;
  canvas.dataset.index = index.join(",");
  canvas.setAttribute("aria-label", said);
}

/**
 * Paint a map (H, W) of a stored array in the colours of heat.
 * @param {HTMLCanvasElement} canvas
 * @param {Stored} array
 * @param {number[]} index leading indices, up to the map
 * @param {Stored} heat (256, 3)
 * @param {string} said what it shows
 */
function paintHeat(canvas, array, index, heat, said) {
  const [height = 1, width = 1] = array.shape.slice(index.length);
  const bytes = array.at(...index);
  put(canvas, width, height, (place, channel) => heat.values[3 * (bytes[place] ?? 0) + channel] ?? 0);
  canvas.dataset.array = array.name;
  canvas.dataset.index = index.join(",");
  canvas.setAttribute("aria-label", said);
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 * @param {(place: number, channel: number) => number} colour
 */
function put(canvas, width, height, colour) {
  canvas.width = width;
  canvas.height = height;
  const pencil = canvas.getContext("2d");
  if (!pencil) throw new Error("this browser draws no pictures");
  const picture = pencil.createImageData(width, height);
  for (let place = 0; place < width * height; place++) {
    for (let channel = 0; channel < 3; channel++) picture.data[4 * place + channel] = colour(place, channel);
    picture.data[4 * place + 3] = 255;
  }
  pencil.putImageData(picture, 0, 0);
}

/**
 * A part of a stored image, cut out.
 * @param {HTMLCanvasElement} canvas
 * @param {Stored} array
 * @param {number[]} index leading indices, up to the image
 * @param {Box} box
 * @param {string} said
 */
function paintPart(canvas, array, index, box, said) {
  const [channels = 1, height = 1, width = 1] = array.shape.slice(index.length);
  const bytes = array.at(...index);
  put(canvas, box.width, box.height, (place, channel) => {
    const row = box.top + Math.floor(place / box.width);
    const column = box.left + (place % box.width);
    return bytes[((channels === 3 ? channel : 0) * height + row) * width + column] ?? 0;
  });
  canvas.dataset.array = array.name;
  canvas.dataset.index = index.join(",");
  canvas.dataset.box = [box.top, box.left, box.height, box.width].join(",");
  canvas.setAttribute("aria-label", said);
}

/**
 * A rectangle of pixels.
 * @typedef {{ top: number, left: number, height: number, width: number }} Box
 */

/**
 * The window of a side around a pixel, cut at the border.
 * @param {number} row
 * @param {number} column
 * @param {number} side
 * @param {number} height of the image
 * @param {number} width of the image
 * @returns {Box}
 */
function windowAround(row, column, side, height, width) {
  const reach = Math.floor(side / 2);
  const top = Math.max(0, row - reach);
  const left = Math.max(0, column - reach);
  return {
    top,
    left,
    height: Math.min(height, row + reach + 1) - top,
    width: Math.min(width, column + reach + 1) - left,
  };
}

/**
 * Put an outline over a picture.
 * @param {HTMLElement} frame around the canvas
 * @param {string} name of the outline
 * @param {Box | null} box nothing to take it away
 * @param {number} height of the image
 * @param {number} width of the image
 */
function outline(frame, name, box, height, width) {
  let mark = /** @type {HTMLElement | null} */ (frame.querySelector(`.${name}`));
  if (!mark) {
    mark = made("i", name);
    mark.setAttribute("aria-hidden", "true");
    frame.append(mark);
  }
  mark.hidden = box === null;
  if (!box) return;
  mark.style.top = `${(100 * box.top) / height}%`;
  mark.style.left = `${(100 * box.left) / width}%`;
  mark.style.height = `${(100 * box.height) / height}%`;
  mark.style.width = `${(100 * box.width) / width}%`;
}

/**
 * A line of numbers with one of them marked; a click or a drag along it chooses.
 * @param {SVGSVGElement} chart 320 wide, 140 high
 * @param {ArrayLike<number>} values
 * @param {[number, number]} range of the axis
 * @param {number[]} ticks
 * @param {number} marked
 * @param {string} said
 */
function drawLine(chart, values, range, ticks, marked, said) {
  const [low, high] = range;
  const across = (/** @type {number} */ place) => 34 + (276 * place) / Math.max(1, values.length - 1);
  const up = (/** @type {number} */ value) => 128 - (118 * (Math.min(high, Math.max(low, value)) - low)) / (high - low);
  const parts = ticks.flatMap(tick => [
    shape("line", { class: "tick", x1: 34, x2: 314, y1: up(tick), y2: up(tick) }),
    shape("text", { x: 28, y: up(tick) + 4, "text-anchor": "end" }, onAxis(tick)),
  ]);
  const points = Array.from(values, (value, place) => `${across(place).toFixed(1)},${up(value).toFixed(1)}`).join(" ");
  parts.push(shape("polyline", { class: "curve", points }));
  parts.push(shape("circle", { class: "here", cx: across(marked), cy: up(values[marked] ?? low), r: 5 }));
  chart.replaceChildren(...parts);
  chart.setAttribute("aria-label", said);
}

/**
 * Let a pointer on a chart of `drawLine` choose one of its numbers.
 * @param {SVGSVGElement} chart
 * @param {number} count of numbers
 * @param {(place: number) => void} choose
 */
function choosable(chart, count, choose) {
  const look = (/** @type {PointerEvent} */ event) => {
    const area = chart.getBoundingClientRect();
    const along = ((320 * (event.clientX - area.left)) / area.width - 34) / 276;
    choose(Math.round(Math.min(1, Math.max(0, along)) * (count - 1)));
  };
  chart.addEventListener("pointerdown", event => {
    chart.setPointerCapture(event.pointerId);
    look(event);
  });
  chart.addEventListener("pointermove", event => {
    if (chart.hasPointerCapture(event.pointerId)) look(event);
  });
}

/**
 * A part of a drawing.
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {string} [text]
 * @returns {SVGElement}
 */
function shape(tag, attributes, text = "") {
  const one = document.createElementNS(DRAWN, tag);
  for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, String(value));
  if (text) one.textContent = text;
  return /** @type {SVGElement} */ (one);
}

/**
 * A number in a few digits, with a true minus.
 * @param {number} value
 * @returns {string}
 */
function said(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e4) ? value.toExponential(1) : String(Number(value.toPrecision(3)));
  return text.replace(/-/g, "−");
}

/**
 * A number of an axis.
 * @param {number} value
 * @returns {string}
 */
function onAxis(value) {
  return String(Number(value.toFixed(2))).replace(/-/g, "−");
}
