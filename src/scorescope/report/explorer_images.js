// One noisy image: the level is dragged, a pixel is chosen, and everything that is known of both is shown.

/**
 * What the page says in words; see study/exploration.py.
 * @typedef {object} Words
 * @property {string} model
 * @property {string} training_set
 * @property {string[]} denoisers
 * @property {number[]} sigmas high to low
 * @property {string[]} kinds
 * @property {number[]} sides
 * @property {number[]} spectrum_sigmas low to high
 */

/** The order of pictures before the mechanisms: places of `denoisers` follow. */
const BEFORE = ["clean", "noisy"];

class ImageBench {
  /**
   * @param {Words} words
   * @param {(name: string) => Stored} array
   * @param {() => void} changed
   */
  constructor(words, array, changed) {
    this.words = words;
    this.array = array;
    this.changed = changed;
    const shape = array("clean").shape;
    this.height = shape[2] ?? 1;
    this.width = shape[3] ?? 1;
    this.image = 0;
    this.level = Math.floor(words.sigmas.length / 2);
    this.pixel = this.nearestPixel((this.height - 1) / 2, (this.width - 1) / 2);
    this.slider = part("sigma", HTMLInputElement);
    /** @type {HTMLElement[]} */
    this.panels = [];
    this.makePanels();
    this.makeChoice();
    this.listen();
  }

  /** @returns {number} the noise level */
  get sigma() {
    return this.words.sigmas[this.level] ?? NaN;
  }

  /** @returns {[number, number]} row and column */
  get place() {
    const pixels = this.array("pixels");
    return [pixels.number(this.pixel, 0), pixels.number(this.pixel, 1)];
  }

  makePanels() {
    const names = [...BEFORE, ...this.words.denoisers];
    names.forEach((name, place) => {
      const parent = part(place < BEFORE.length + 2 ? "model-panels" : "mechanism-panels", HTMLElement);
      const panel = made("figure", "panel");
      const frame = made("div", "frame");
      const canvas = made("canvas");
      canvas.setAttribute("role", "img");
      frame.append(canvas);
      const shown = place === BEFORE.length ? "the model" : name;
      const caption = made("figcaption");
      caption.append(made("b", "", shown), made("span", "number"));
      panel.append(frame, caption);
      panel.dataset.shows = name;
      parent.append(panel);
      this.panels.push(panel);
    });
  }

  makeChoice() {
    const field = part("image-choice", HTMLFieldSetElement);
    this.words.kinds.forEach((kind, place) => {
      const label = choice("image", place, `${kind} image ${place + 1}`, field, () => this.show({ image: place }));
      paint(label, this.array("clean"), [place], `${kind} image`);
    });
  }

  listen() {
    this.slider.addEventListener("input", () => {
      this.show({ level: this.words.sigmas.length - 1 - Number(this.slider.value) });
    });
    part("model-panels", HTMLElement).addEventListener("keydown", event => this.key(event));
    for (const panel of this.panels) {
      const frame = /** @type {HTMLElement} */ (panel.querySelector(".frame"));
      this.point(frame);
    }
    this.point(/** @type {HTMLElement} */ (part("window", HTMLCanvasElement).parentElement));
  }

  /**
   * Let a pointer on a picture choose a pixel, at once and while it is dragged.
   * @param {HTMLElement} frame
   */
  point(frame) {
    const look = (/** @type {PointerEvent} */ event) => {
      const area = frame.getBoundingClientRect();
      const row = ((event.clientY - area.top) / area.height) * this.height - 0.5;
      const column = ((event.clientX - area.left) / area.width) * this.width - 0.5;
      this.show({ pixel: this.nearestPixel(row, column) });
    };
    frame.addEventListener("pointerdown", event => {
      frame.setPointerCapture(event.pointerId);
      look(event);
    });
    frame.addEventListener("pointermove", event => {
      if (frame.hasPointerCapture(event.pointerId)) look(event);
    });
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    /** @type {Record<string, [number, number]>} */
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const step = steps[event.key];
    const levels = { PageUp: -1, PageDown: 1 };
    if (step) this.show({ pixel: this.beside(step) });
    else if (event.key in levels) this.show({ level: this.level + levels[/** @type {"PageUp"} */ (event.key)] });
    else return;
    event.preventDefault();
  }

  /**
   * The known pixel nearest to a place in the image.
   * @param {number} row
   * @param {number} column
   * @returns {number}
   */
  nearestPixel(row, column) {
    const pixels = this.array("pixels").values;
    let best = 0;
    let least = Infinity;
    for (let place = 0; place < pixels.length / 2; place++) {
      const apart = ((pixels[2 * place] ?? 0) - row) ** 2 + ((pixels[2 * place + 1] ?? 0) - column) ** 2;
      if (apart < least) [best, least] = [place, apart];
    }
    return best;
  }

  /**
   * The known pixel next to the chosen one, in a direction; the same at the border.
   * @param {[number, number]} step
   * @returns {number}
   */
  beside([down, across]) {
    const pixels = this.array("pixels").values;
    const [row, column] = this.place;
    let best = this.pixel;
    let least = Infinity;
    for (let place = 0; place < pixels.length / 2; place++) {
      const rows = (pixels[2 * place] ?? 0) - row;
      const columns = (pixels[2 * place + 1] ?? 0) - column;
      const along = rows * down + columns * across;
      const aside = Math.abs(rows * across) + Math.abs(columns * down);
      if (along > 0 && along + 1000 * aside < least) [best, least] = [place, along + 1000 * aside];
    }
    return least < 1000 ? best : this.pixel;
  }

  /**
   * Show another image, level or pixel; what is not named stays.
   * @param {{ image?: number, level?: number, pixel?: number }} what
   */
  show({ image = this.image, level = this.level, pixel = this.pixel }) {
    this.image = within(image, this.words.kinds.length);
    this.level = within(level, this.words.sigmas.length);
    this.pixel = within(pixel, this.array("pixels").shape[0] ?? 1);
    this.slider.value = String(this.words.sigmas.length - 1 - this.level);
    this.slider.setAttribute("aria-valuetext", `σ = ${said(this.sigma)}`);
    part("sigma-said", HTMLOutputElement).value = `σ = ${said(this.sigma)}`;
    chosenOf("image-choice", this.image);
    this.showPictures();
    this.showPixel();
    this.changed();
  }

  showPictures() {
    const { image, level } = this;
    const [row, column] = this.place;
    const distances = this.array("distances");
    this.panels.forEach((panel, place) => {
      const canvas = /** @type {HTMLCanvasElement} */ (panel.querySelector("canvas"));
      const name = panel.dataset.shows ?? "";
      const number = /** @type {HTMLElement} */ (panel.querySelector(".number"));
      if (place === 0) paint(canvas, this.array("clean"), [image], "the clean image");
      else if (place === 1) paint(canvas, this.array("noisy"), [level, image], `the noisy image, σ = ${said(this.sigma)}`);
      else {
        const denoiser = place - BEFORE.length;
        const distance = distances.number(level, image, denoiser);
        paint(canvas, this.array("denoised"), [level, image, denoiser], `what ${name} makes of it`);
        number.textContent = denoiser ? said(distance) : "";
        number.dataset.value = String(distance);
      }
      const frame = /** @type {HTMLElement} */ (panel.querySelector(".frame"));
      outline(frame, "dot", { top: row, left: column, height: 1, width: 1 }, this.height, this.width);
    });
    const nearest = this.nearestMechanism();
    this.panels.forEach((panel, place) => panel.classList.toggle("nearest", place === nearest + BEFORE.length));
    part("nearest-said", HTMLElement).textContent =
      nearest < 0
        ? "There is none to compare with."
        : `Nearest to the model here: ${this.words.denoisers[nearest]}, ${said(distances.number(level, image, nearest))};` +
          ` the optimal denoiser: ${said(distances.number(level, image, 1))}.`;
  }

  /** @returns {number} which mechanism is nearest to the model; −1 without any */
  nearestMechanism() {
    const distances = this.array("distances").at(this.level, this.image);
    let best = -1;
    for (let place = 2; place < distances.length; place++) {
      if (best < 0 || (distances[place] ?? Infinity) < (distances[best] ?? Infinity)) best = place;
    }
    return best;
  }

  showPixel() {
    const { image, level, pixel } = this;
    const [row, column] = this.place;
    const errors = this.array("side_errors").at(level, image, pixel);
    const best = this.array("best").number(level, image, pixel);
    const side = this.words.sides[best] ?? 1;
    const window = this.sideName(best);
    part("pixel-name", HTMLElement).textContent = `Pixel in row ${row + 1}, column ${column + 1}`;
    const value = (/** @type {Stored} */ array, /** @type {number[]} */ ...index) => this.valueAt(array, index, row, column);
    part("pixel-said", HTMLElement).textContent =
      `The model makes ${value(this.array("denoised"), level, image, 0)} of` +
      ` ${value(this.array("noisy"), level, image)}; in the clean image it is ${value(this.array("clean"), image)}.`;
    this.showSensitivity(row, column);
    const canvas = part("window", HTMLCanvasElement);
    paint(canvas, this.array("noisy"), [level, image], `the noisy image; outlined, the window: ${window}`);
    const frame = /** @type {HTMLElement} */ (canvas.parentElement);
    outline(frame, "box", windowAround(row, column, side, this.height, this.width), this.height, this.width);
    outline(frame, "dot", { top: row, left: column, height: 1, width: 1 }, this.height, this.width);
    part("window-said", HTMLElement).textContent = `${window}, of the noisy image`;
    this.showWindows(errors, best);
    this.showPatches(side, window);
  }

  /**
   * A pixel of an image (C, H, W) in words, from −1, black, to 1, white; in colour its three numbers. Pictures are cut off there.
   * @param {Stored} array
   * @param {number[]} index
   * @param {number} row
   * @param {number} column
   * @returns {string}
   */
  valueAt(array, index, row, column) {
    const bytes = array.at(...index);
    const area = this.height * this.width;
    const numbers = [];
    for (let start = 0; start < bytes.length; start += area) {
      const byte = bytes[start + row * this.width + column] ?? 0;
      const beyond = array.name === "clean" ? "" : byte === 0 ? "≤ " : byte === 255 ? "≥ " : "";
      numbers.push(beyond + (byte / 127.5 - 1).toFixed(2).replace("-", "−"));
    }
    return numbers.length === 1 ? (numbers[0] ?? "") : `(${numbers.join(", ")})`;
  }

  /**
   * @param {number} row
   * @param {number} column
   */
  showSensitivity(row, column) {
    const maps = this.array("sensitivity");
    const figure = part("sensitivity-figure", HTMLElement);
    figure.hidden = maps.shape[0] === 0;
    if (figure.hidden) return;
    const index = [this.level, this.image, this.pixel];
    const canvas = part("sensitivity", HTMLCanvasElement);
    paintHeat(canvas, maps, index, this.array("heat"), "how much each pixel of the noisy image changes this output pixel");
    const frame = /** @type {HTMLElement} */ (canvas.parentElement);
    outline(frame, "dot", { top: row, left: column, height: 1, width: 1 }, this.height, this.width);
    const peak = this.array("peaks").number(...index);
    part("sensitivity-said", HTMLElement).textContent = `derivative up to ${said(peak)}`;
  }

  /**
   * A window in words.
   * @param {number} place among the sides
   * @returns {string}
   */
  sideName(place) {
    const side = this.words.sides[place] ?? 1;
    return place === this.words.sides.length - 1 ? "whole image" : `${side}×${side} pixels`;
  }

  /**
   * @param {Values} errors of every window
   * @param {number} best the nearest
   */
  showWindows(errors, best) {
    const most = Math.max(...errors) || 1;
    const rows = this.words.sides.map((_, place) => {
      const error = errors[place] ?? NaN;
      const row = made("li", place === best ? "best" : "");
      const bar = made("span", "bar");
      bar.style.setProperty("--share", String(Math.sqrt(error / most)));
      row.append(made("span", "name", this.sideName(place)), bar, made("span", "number", said(error)));
      row.dataset.value = String(error);
      if (place === best) row.setAttribute("aria-current", "true");
      return row;
    });
    part("windows", HTMLElement).replaceChildren(...rows);
  }

  /**
   * @param {number} side of the window
   * @param {string} window in words
   */
  showPatches(side, window) {
    const index = [this.level, this.image, this.pixel];
    const [row, column] = this.place;
    const box = windowAround(row, column, side, this.height, this.width);
    const behind = this.array("behind").at(...index);
    const entries = this.array("behind_entries").at(...index);
    const weights = this.array("weights").at(...index);
    const effective = this.array("effective").number(...index);
    part("patches-said", HTMLElement).textContent =
      `Effective number of training images in the posterior of this window (${window}): ${said(effective)}.` +
      ` Those with the most weight: the patch, and the image that it is from.`;
    const shown = [];
    for (let place = 0; place < behind.length; place++) {
      const entry = entries[place] ?? -1;
      if (entry >= 0) shown.push(this.patch(behind[place] ?? -1, entry, weights[place] ?? 0, box));
    }
    part("patches", HTMLElement).replaceChildren(...shown);
  }

  /**
   * One training image behind the pixel.
   * @param {number} kept place among the training images that are kept; −2 if it is not
   * @param {number} entry of the training set
   * @param {number} weight
   * @param {Box} box the window
   * @returns {HTMLElement}
   */
  patch(kept, entry, weight, box) {
    const item = made("li");
    item.dataset.entry = String(entry);
    item.dataset.weight = String(weight);
    const percent = weight < 1e-4 ? "< 0.01 %" : `${said(Number((100 * weight).toPrecision(2)))} %`;
    if (kept < 0) item.append(made("p", "absent", "picture not kept, for want of room"));
    else {
      const frame = made("div", "frame");
      const patch = made("canvas", "patch");
      const whole = made("canvas");
      for (const canvas of [patch, whole]) canvas.setAttribute("role", "img");
      paintPart(patch, this.array("training"), [kept], box, `its patch, weight ${percent}`);
      paint(whole, this.array("training"), [kept], `training image ${entry}`);
      const small = made("div", "frame");
      small.append(patch);
      frame.append(whole);
      outline(frame, "box", box, this.height, this.width);
      item.append(small, frame);
    }
    item.append(made("b", "", percent), made("small", "", `no. ${entry}`));
    return item;
  }
}

/**
 * A whole number brought between 0 and count − 1.
 * @param {number} value
 * @param {number} count
 * @returns {number}
 */
function within(value, count) {
  return Math.max(0, Math.min(count - 1, Math.round(value) || 0));
}

/**
 * One picture of a row of which a reader chooses one.
 * @param {string} name of the row
 * @param {number} place in it
 * @param {string} what it is
 * @param {HTMLElement} row
 * @param {() => void} choose
 * @returns {HTMLCanvasElement}
 */
function choice(name, place, what, row, choose) {
  const label = made("label");
  const button = made("input");
  button.type = "radio";
  button.name = name;
  button.value = String(place);
  button.setAttribute("aria-label", what);
  button.addEventListener("change", choose);
  const canvas = made("canvas");
  canvas.setAttribute("aria-hidden", "true");
  label.title = what;
  label.append(button, canvas);
  row.append(label);
  return canvas;
}

/**
 * Mark the chosen one of such a row.
 * @param {string} id of the row
 * @param {number} place
 */
function chosenOf(id, place) {
  part(id, HTMLFieldSetElement)
    .querySelectorAll("input")
    .forEach((button, other) => (button.checked = other === place));
}
