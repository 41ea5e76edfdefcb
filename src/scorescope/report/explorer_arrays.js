// The arrays of the page: base64 of compressed bytes, unpacked once, read in place.

/**
 * An array with its shape; the last axis is the fastest.
 * @typedef {Uint8Array | Int32Array | Float32Array} Values
 */
class Stored {
  /**
   * @param {string} name
   * @param {number[]} shape
   * @param {Values} values
   */
  constructor(name, shape, values) {
    this.name = name;
    this.shape = shape;
    this.values = values;
  }

  /**
   * What stands at the given leading indices, as a view.
   * @param {...number} index
   * @returns {Values}
   */
  at(...index) {
    const size = this.shape.slice(index.length).reduce((product, length) => product * length, 1);
    const place = index.reduce((offset, one, axis) => offset * (this.shape[axis] ?? 0) + one, 0);
    return this.values.subarray(place * size, (place + 1) * size);
  }

  /**
   * The single number at a full index.
   * @param {...number} index
   * @returns {number}
   */
  number(...index) {
    return this.at(...index)[0] ?? NaN;
  }
}

/**
 * Bytes of base64.
 * @param {string} text
 * @returns {Uint8Array<ArrayBuffer>}
 */
function fromBase64(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let place = 0; place < letters.length; place++) bytes[place] = letters.charCodeAt(place);
  return bytes;
}

/**
 * @param {Uint8Array<ArrayBuffer>} packed
 * @returns {Promise<ArrayBuffer>}
 */
async function inflated(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/**
 * Undo differences between neighbours of a row, which pack better than the bytes themselves.
 * @param {Uint8Array} bytes changed in place
 * @param {number} width of a row
 */
function summed(bytes, width) {
  for (let start = 0; start < bytes.length; start += width) {
    for (let place = start + 1; place < start + width; place++) {
      bytes[place] = (bytes[place] ?? 0) + (bytes[place - 1] ?? 0);
    }
  }
}

/**
 * One array of the page.
 * @param {HTMLScriptElement} block
 * @returns {Promise<Stored>}
 */
async function unpacked(block) {
  const { name = "", type = "", shape: sides = "", delta = "" } = block.dataset;
  const shape = sides.split(",").map(Number);
  const buffer = await inflated(fromBase64(block.textContent ?? ""));
  block.textContent = ""; // the text is not needed again
  if (type === "float32") return new Stored(name, shape, new Float32Array(buffer));
  if (type === "int32") return new Stored(name, shape, new Int32Array(buffer));
  const bytes = new Uint8Array(buffer);
  if (delta === "1") summed(bytes, shape[shape.length - 1] ?? 1);
  return new Stored(name, shape, bytes);
}

/**
 * All arrays of the page, by name.
 * @returns {Promise<Map<string, Stored>>}
 */
async function allArrays() {
  const blocks = /** @type {NodeListOf<HTMLScriptElement>} */ (document.querySelectorAll("script[data-name]"));
  const arrays = await Promise.all([...blocks].map(unpacked));
  return new Map(arrays.map(array => [array.name, array]));
}
