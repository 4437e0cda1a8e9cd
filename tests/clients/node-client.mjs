// A client of llama.cpp that is a Node program: node-llama-cpp, of whichever
// release, with the libraries it ships.
//
// usage: node node-client.mjs ENGINE_NODE_DIR MODEL.gguf PROMPT N_TOKENS
//
// Evaluates the prompt, then generates N_TOKENS greedily. Every generated
// token but the last is evaluated too. Prints one line of JSON:
//   {"prompt": [token, ...], "generated": [token, ...]}

import path from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";

const [engineDir, modelPath, prompt, count] = process.argv.slice(2);
const nTokens = Number(count);

if (!engineDir || !modelPath || !prompt || !Number.isInteger(nTokens) || nTokens < 1) {
    console.error("usage: node-client.mjs ENGINE_NODE_DIR MODEL.gguf PROMPT N_TOKENS");
    process.exit(2);
}

const packageEntry = path.resolve(engineDir, "node_modules/node-llama-cpp/dist/index.js");
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(packageEntry).href);

const llama = await getLlama({
    gpu: false,
    build: "never",
    usePrebuiltBinaries: true,
    skipDownload: true,
    progressLogs: false,
    logLevel: LlamaLogLevel.warn,
    logger: (level, message) => process.stderr.write(`[${level}] ${message.trimEnd()}\n`),
});
const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
const promptTokens = model.tokenize(prompt);
const context = await model.createContext({
    contextSize: promptTokens.length + nTokens,
    sequences: 1,
    threads: 1,     // threads that wait for each other crawl on a busy machine
});
const sequence = context.getSequence();

const generated = [];
for await (const token of sequence.evaluate(promptTokens, { temperature: 0, yieldEogToken: true })) {
    generated.push(token);
    if (generated.length === nTokens)
        break;
}
console.log(JSON.stringify({ prompt: promptTokens, generated }));

sequence.dispose();
await context.dispose();
await model.dispose();
await llama.dispose();
