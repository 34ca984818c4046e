// The blob of weights: int8 in blocks of 32 with a scale each, read into float32 once.

const BLOCK = 32;

/** The bytes of a base64 text. */
function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Tensors by name, {data, rows, columns} each, from where `places` says that they lie. */
export function readTensors(places, base64) {
  const blob = bytesOf(base64).buffer;
  const tensors = {};
  for (const [name, { shape, at, scales }] of Object.entries(places)) {
    const rows = shape.length > 1 ? shape[0] : 1;
    const columns = shape[shape.length - 1];
    if (scales === undefined) {
      tensors[name] = { data: new Float32Array(blob, at, columns), rows, columns };
      continue;
    }
    const padded = Math.ceil(columns / BLOCK) * BLOCK;
    const stored = new Int8Array(blob, at, rows * padded);
    const scale = new Float32Array(blob, scales, (rows * padded) / BLOCK);
    const data = new Float32Array(rows * columns);
    for (let row = 0, to = 0; row < rows; row++) {
      for (let column = 0, from = row * padded; column < columns; column++, from++) {
        data[to++] = stored[from] * scale[from >> 5];
      }
    }
    tensors[name] = { data, rows, columns };
  }
  return tensors;
}
