// Samples by how near they are to training images.

class SampleBench {
  /**
   * @param {Words} words
   * @param {(name: string) => Stored} array
   * @param {() => void} changed
   */
  constructor(words, array, changed) {
    this.words = words;
    this.array = array;
    this.changed = changed;
    this.count = array("samples").shape[0] ?? 0;
    this.rank = 0;
    this.slider = part("rank", HTMLInputElement);
    this.strip = part("sample-choice", HTMLFieldSetElement);
    for (let place = 0; place < this.count; place++) {
      const canvas = choice("sample", place, this.name(place), this.strip, () => this.show({ rank: place }));
      paint(canvas, array("samples"), [place], "a sample");
    }
    this.slider.addEventListener("input", () => this.show({ rank: Number(this.slider.value) }));
    choosable(this.chart, this.count, rank => this.show({ rank }));
  }

  /** @returns {SVGSVGElement} */
  get chart() {
    return part("similarity", SVGSVGElement);
  }

  /**
   * @param {number} rank
   * @returns {string}
   */
  name(rank) {
    return `sample ${rank + 1} of ${this.count}, similarity ${this.array("similarity").number(rank, 0).toFixed(3)}`;
  }

  /**
   * Show a sample beside the training images most like it.
   * @param {{ rank?: number }} what
   */
  show({ rank = this.rank }) {
    this.rank = within(rank, this.count);
    this.slider.value = String(this.rank);
    this.slider.setAttribute("aria-valuetext", this.name(this.rank));
    part("rank-said", HTMLOutputElement).value = this.name(this.rank).replace("sample ", "");
    chosenOf("sample-choice", this.rank);
    this.scrollStrip();
    paint(part("sample", HTMLCanvasElement), this.array("samples"), [this.rank], this.name(this.rank));
    part("sample-name", HTMLElement).textContent = "the sample";
    const similarity = this.array("similarity").at(this.rank);
    const items = Array.from(this.array("neighbours").at(this.rank), (kept, place) => {
      const entry = this.array("entries").number(kept);
      const item = made("li");
      const frame = made("div", "frame");
      const canvas = made("canvas");
      canvas.setAttribute("role", "img");
      paint(canvas, this.array("training"), [kept], `training image ${entry}`);
      frame.append(canvas);
      item.append(frame, made("b", "", (similarity[place] ?? NaN).toFixed(3)), made("small", "", `no. ${entry}`));
      item.dataset.entry = String(entry);
      item.dataset.value = String(similarity[place]);
      return item;
    });
    part("neighbours", HTMLElement).replaceChildren(...items);
    const all = Array.from({ length: this.count }, (_, place) => this.array("similarity").number(place, 0));
    const low = Math.min(0.9, Math.floor(10 * Math.min(...all)) / 10);
    drawLine(this.chart, all, [low, 1], [low, (low + 1) / 2, 1], this.rank, `similarity by rank; ${this.name(this.rank)}`);
    this.changed();
  }

  /** Bring the chosen sample into sight within its strip, and leave the page where it is. */
  scrollStrip() {
    const label = this.strip.querySelectorAll("label")[this.rank];
    if (label) this.strip.scrollLeft = label.offsetLeft - this.strip.offsetLeft - (this.strip.clientWidth - label.clientWidth) / 2;
  }
}
