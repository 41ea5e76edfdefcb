// The start: arrays are unpacked, the three parts shown, and the address keeps what a reader looks at.

/** What the address says, as numbers by name. */
function fromAddress() {
  const pairs = [...new URLSearchParams(location.hash.slice(1))].map(([name, value]) => [name, Number(value)]);
  return Object.fromEntries(pairs.filter(([, value]) => Number.isFinite(value)));
}

async function begin() {
  const arrays = await allArrays();
  const words = /** @type {Words} */ (JSON.parse(part("words", HTMLScriptElement).textContent ?? ""));
  const array = (/** @type {string} */ name) => {
    const found = arrays.get(name);
    if (!found) throw new Error(`the page lacks the array ${name}`);
    return found;
  };
  let waiting = 0;
  const changed = () => {
    clearTimeout(waiting);
    waiting = window.setTimeout(keep, 300);
  };
  const images = new ImageBench(words, array, changed);
  const samples = array("samples").shape[0] ? new SampleBench(words, array, changed) : null;
  const directions = words.spectrum_sigmas.length ? new DirectionBench(words, array, changed) : null;

  /** Note in the address what is looked at, so that it can be sent to somebody, or come back to. */
  function keep() {
    const { image, level, pixel } = images;
    const seen = { image, level, pixel, ...(samples && { rank: samples.rank }), ...(directions && { turned: directions.image, at: directions.level, k: directions.k }) };
    const text = new URLSearchParams(Object.entries(seen).map(([name, value]) => [name, String(value)]));
    try {
      history.replaceState(null, "", `#${text}`);
    } catch {
      // a page within a page has no address of its own
    }
  }

  const { image, level, pixel, rank, turned, at, k } = fromAddress();
  images.show({ image, level, pixel });
  samples?.show({ rank });
  directions?.show({ image: turned, level: at, k });
  clearTimeout(waiting);
  document.documentElement.dataset.ready = "true";
}

begin().catch(error => {
  const trouble = part("trouble", HTMLElement);
  trouble.hidden = false;
  trouble.textContent = `The explorer cannot be shown: ${error instanceof Error ? error.message : error}.`;
});
