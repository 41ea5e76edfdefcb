// Eigenvectors of the model's derivative, turned by rank.

class DirectionBench {
  /**
   * @param {Words} words
   * @param {(name: string) => Stored} array
   * @param {() => void} changed
   */
  constructor(words, array, changed) {
    this.words = words;
    this.array = array;
    this.changed = changed;
    const [levels = 1, images = 1, count = 1] = array("eigenvectors").shape;
    this.levels = levels;
    this.images = images;
    this.count = count;
    this.level = Math.floor(levels / 2);
    this.image = 0;
    this.k = 1;
    this.sigmaSlider = part("spectrum-sigma", HTMLInputElement);
    this.kSlider = part("k", HTMLInputElement);
    const names = ["clean", "noisy", "the model", "direction"];
    this.canvases = names.map(name => this.panel(name));
    const field = part("spectrum-choice", HTMLFieldSetElement);
    for (let place = 0; place < images; place++) {
      const canvas = choice("spectrum-image", place, `image ${place + 1}`, field, () => this.show({ image: place }));
      paint(canvas, array("spectrum_images"), [0, place, 0], "an image");
    }
    this.sigmaSlider.addEventListener("input", () => this.show({ level: Number(this.sigmaSlider.value) }));
    this.kSlider.addEventListener("input", () => this.show({ k: Number(this.kSlider.value) }));
    choosable(this.chart, count, place => this.show({ k: place + 1 }));
  }

  /** @returns {SVGSVGElement} */
  get chart() {
    return part("eigenvalues", SVGSVGElement);
  }

  /**
   * @param {string} name
   * @returns {HTMLCanvasElement}
   */
  panel(name) {
    const figure = made("figure", "panel");
    const frame = made("div", "frame");
    const canvas = made("canvas");
    canvas.setAttribute("role", "img");
    const caption = made("figcaption");
    caption.append(made("b", "", name), made("span", "number"));
    frame.append(canvas);
    figure.append(frame, caption);
    figure.dataset.shows = name;
    part("spectrum-panels", HTMLElement).append(figure);
    return canvas;
  }

  /**
   * Show another image, level or direction; what is not named stays.
   * @param {{ image?: number, level?: number, k?: number }} what
   */
  show({ image = this.image, level = this.level, k = this.k }) {
    this.image = within(image, this.images);
    this.level = within(level, this.levels);
    this.k = within(k - 1, this.count) + 1;
    const sigma = `σ = ${said(this.words.spectrum_sigmas[this.level] ?? NaN)}`;
    const values = this.array("eigenvalues").at(this.level, this.image);
    const value = values[this.k - 1] ?? NaN;
    this.sigmaSlider.value = String(this.level);
    this.sigmaSlider.setAttribute("aria-valuetext", sigma);
    part("spectrum-sigma-said", HTMLOutputElement).value = sigma;
    const direction = `${this.k} of ${this.count}, eigenvalue ${said(value)}`;
    this.kSlider.value = String(this.k);
    this.kSlider.setAttribute("aria-valuetext", direction);
    part("k-said", HTMLOutputElement).value = direction;
    chosenOf("spectrum-choice", this.image);
    const names = ["the clean image", `the noisy image, ${sigma}`, "what the model makes of it"];
    this.canvases.forEach((canvas, place) => {
      if (place < 3) paint(canvas, this.array("spectrum_images"), [this.level, this.image, place], names[place] ?? "");
      else paint(canvas, this.array("eigenvectors"), [this.level, this.image, this.k - 1], `direction ${direction}`);
    });
    const number = this.canvases[3]?.closest("figure")?.querySelector(".number");
    if (number) number.textContent = `λ = ${said(value)}`;
    const high = Math.max(1, ...values);
    const low = Math.min(0, ...values);
    drawLine(this.chart, values, [low, high], [0, 0.5, 1], this.k - 1, `eigenvalues by rank; direction ${direction}`);
    this.changed();
  }
}
