// Runs an exported file in the browser's ONNX Runtime, which is the same WebAssembly under Node:
//   node run.mjs MODEL INPUT TYPE SHAPE < numbers > probabilities      (raw, little-endian)
import { readFileSync, writeFileSync } from "node:fs";
import * as ort from "onnxruntime-web";

const [model, input, type, shape] = process.argv.slice(2);
ort.env.wasm.numThreads = 1; // as on pages without cross-origin isolation
const session = await ort.InferenceSession.create(readFileSync(model), { executionProviders: ["wasm"] });
const given = new Uint8Array(readFileSync(0)); // a copy, aligned
const numbers = type === "uint8" ? given : new Float32Array(given.buffer);
const tensor = new ort.Tensor(type, numbers, shape.split(",").map(Number));
const { probabilities } = await session.run({ [input]: tensor });
writeFileSync(1, new Uint8Array(probabilities.data.buffer, probabilities.data.byteOffset, probabilities.data.byteLength));
