/** What the user is about to ask for. It outlives the tab. */
import { effect, signal } from "@preact/signals";
import { get, wholeNumber, type Model, type Option, type Options, type Request, type Shown } from "./api";
import { choiceName } from "./names";
import { toast } from "./toasts";

export interface Lora { name: string; weight: number }
export interface Form {
  model: string; prompt: string; negative: string; styles: string[]; seed: string; aspect: string; n: number;
  /** Options that differ from the model's own, by name. */
  options: Record<string, unknown>;
  loras: Lora[];
}

export const ASPECTS: Record<string, number> = { "1:1": 1, "4:3": 4 / 3, "3:4": 3 / 4, "16:9": 16 / 9, "9:16": 9 / 16 };
const START: Form = { model: "", prompt: "", negative: "", styles: [], seed: "", aspect: "1:1", n: 1, options: {}, loras: [] };
const KEY = "form", EMBEDDED = "emoji";

function remembered(): Form {
  try {
    return { ...START, ...JSON.parse(localStorage.getItem(KEY) ?? "{}") as Partial<Form> };
  } catch {
    return START;
  }
}

export const form = signal<Form>(remembered());
export const models = signal<Model[]>([]);
/** Small pictures by the names of models and LoRAs, each the last one that was drawn with it. */
export const faces = signal<{ models: Record<string, string>; loras: Record<string, string> }>({ models: {}, loras: {} });
export const options = signal<Options | null>(null);
effect(() => localStorage.setItem(KEY, JSON.stringify(form.value)));

export const set = (changed: Partial<Form>): void => { form.value = { ...form.value, ...changed }; };

/** Sets an option; undefined gives it back to the model. */
export function setOption(name: string, value: unknown): void {
  const next = { ...form.value.options };
  if (value === undefined) delete next[name];
  else next[name] = value;
  set({ options: next });
}

/** The list of models comes late where the server looks at them for the first time; the options do not wait for it. */
export async function loadModels(): Promise<void> {
  if (!form.value.model) set({ model: EMBEDDED });
  const known = loadOptions();
  void loadFaces().catch(() => undefined);
  models.value = await get<Model[]>("/models");
  const drawn = models.value.filter((one) => one.kind === "model");
  await known;
  if (drawn.some((one) => one.name === form.value.model)) return;
  set({ model: drawn[0]?.name ?? EMBEDDED });
  await loadOptions();
}

export async function loadFaces(): Promise<void> {
  faces.value = await get("/gallery/faces");
}

export async function loadOptions(): Promise<void> {
  try {
    options.value = await get<Options>(`/options?model=${encodeURIComponent(form.value.model)}`);
  } catch (error) {
    toast((error as Error).message, "error");
  }
}

export const option = (name: string): Option | undefined => options.value?.options.find((one) => one.name === name);

/** The value of an option in words, where it is one of several. */
export function valueName(name: string, value: string): string {
  const one = option(name), k = one?.choices.indexOf(value) ?? -1;
  return k < 0 ? value : choiceName(value, one!.labels[k]);
}

/** Width and height of an aspect, as many pixels as the model's own size has. */
export function sizeOf(aspect: string): [number, number] {
  const [w, h] = ["width", "height"].map((name) => Number(option(name)?.default ?? 256)) as [number, number];
  const step = option("width")?.step ?? 64, ratio = ASPECTS[aspect] ?? 1;
  if (ratio === 1) return [w, h];
  const fit = (value: number): number => Math.max(step, Math.round(value / step) * step);
  return [fit(Math.sqrt(w * h * ratio)), fit(Math.sqrt((w * h) / ratio))];
}

export const emoji = (): boolean => (options.value?.family ?? "emoji").includes("emoji") || form.value.model.startsWith("emoji");

/** The prompt with the style chips that are on. */
export const styled = (): string => [form.value.prompt.trim(), ...form.value.styles].filter(Boolean).join(", ");

/** Has the next picture drawn with a file of some kind; an embedding is a word of the prompt. */
export function drawWith(kind: string, name: string): void {
  const { loras, prompt, options } = form.value;
  if (kind === "model") { set({ model: name }); void loadOptions(); }
  else if (kind === "lora") set({ loras: [...loras.filter((one) => one.name !== name), { name, weight: 1 }] });
  else if (kind === "embedding") { if (!prompt.includes(name)) set({ prompt: `${prompt} ${name}`.trim() }); }
  else if (kind === "hypernetwork") setOption(kind, [...new Set([...(options[kind] as string[] | undefined ?? []), `${name}:1`])]);
}

/** The request that the form describes. */
export function request(): Request {
  const one = form.value, [width, height] = sizeOf(one.aspect);
  const asked: Record<string, unknown> = { ...one.options, width, height, n: one.n };
  if (one.seed) asked.seed = wholeNumber(one.seed);
  if (one.loras.length) asked.lora = one.loras.map((lora) => `${lora.name}:${lora.weight}`);
  return { kind: "txt2img", model: one.model, prompt: styled(), negative: one.negative, options: asked, how: {}, pictures: {} };
}

/** Takes the settings of a picture, or of a file, into the form. */
export function take(from: { prompt: string; negative?: string; seed: string | null; model?: string | null;
  options?: Record<string, unknown> }): void {
  const { seed: _seed, width, height, n: _n, lora: _lora, ...rest } = from.options ?? {};
  const wanted = Number(width) / Number(height);
  const aspect = Object.entries(ASPECTS).sort((a, b) => Math.abs(a[1] - wanted) - Math.abs(b[1] - wanted))[0]![0];
  const known = models.value.some((one) => one.name === from.model);
  set({ prompt: from.prompt, negative: from.negative ?? "", seed: from.seed ?? "", styles: [], n: 1, options: rest,
    aspect: Number.isFinite(wanted) ? aspect : "1:1", ...(known ? { model: from.model! } : {}) });
  void loadOptions();
}

export const takeShown = async (one: Shown): Promise<void> => {
  const job = await get<{ request: Request }>(`/jobs/${one.job}`);
  take({ prompt: job.request.prompt, negative: job.request.negative, seed: one.seed, model: one.model,
    options: job.request.options });
};
