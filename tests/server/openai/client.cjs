// What OpenAI's client for node gets from the server whose address is the first argument, as one JSON object.
// The second argument is a PNG file, the third a mask for it.
const fs = require("node:fs");
const OpenAI = require("openai");

const [address, picture, mask] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: "none", maxRetries: 0 });
const png = (path) => OpenAI.toFile(fs.createReadStream(path), "picture.png", { type: "image/png" });

async function main() {
  const generated = await client.images.generate({
    model: "gpt-image-1", prompt: "a red heart", n: 2, size: "64x128", quality: "low",
  });
  const edited = await client.images.edit({
    model: "gpt-image-1", image: await png(picture), mask: await png(mask), prompt: "a cat", quality: "low",
  });
  const varied = await client.images.createVariation({
    image: await png(picture), size: "256x256", response_format: "b64_json",
  });
  const events = [];
  const stream = await client.images.generate({
    model: "gpt-image-1", prompt: "a cat", size: "128x128", quality: "max", stream: true, partial_images: 2,
  });
  for await (const event of stream) events.push(event);
  const models = [];
  for await (const model of client.models.list()) models.push(model.id);
  const error = await client.images.generate({ model: "nowhere", prompt: "a cat" }).catch((refused) => refused);
  console.log(JSON.stringify({
    generated: generated.data.map((one) => one.b64_json), edited: edited.data[0].b64_json,
    varied: varied.data[0].b64_json, events, models, bad: error instanceof OpenAI.BadRequestError, said: error.message,
  }));
}

main();
