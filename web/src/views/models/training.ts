/** Trainings on the server, and the pictures that are gathered for the next one. */
import { signal } from "@preact/signals";
import { get, post, remove, sendPicture, type Method, type Training } from "../../api";
import { form, loadModels } from "../../form";
import { t } from "../../i18n";
import { say, toast } from "../../toasts";

export const KINDS = ["lora", "dora", "loha", "lokr"] as const;
export const HINTS = ["canny", "gradient", "scribble", "lineart"] as const;
export interface Given { id: number; file: File; url: string; caption: string }
const WAIT = 2000; // milliseconds between looks at a training that runs

export const trainings = signal<Training[]>([]);
export const given = signal<Given[]>([]);
/** The methods by which the form's model can be trained. */
export const methods = signal<Method[]>([]);
const EMPTY = { name: "", method: "lora", kind: "lora" as (typeof KINDS)[number], hint: "canny" as (typeof HINTS)[number],
  steps: null as number | null, caption: "", word: "", like: "" };
/** What is to be learnt; where `steps` is null, as many as the method proposes. */
export const plan = signal(EMPTY);
export const chosen = (): Method | undefined => methods.value.find((one) => one.name === plan.value.method);
export const starting = signal(false);
let last = 0, timer = 0;

/** Takes pictures, and texts of the same names as their captions. */
export async function take(files: Iterable<File>): Promise<void> {
  const all = [...files], stem = (name: string): string => name.replace(/\.[^.]*$/, "");
  const texts = new Map<string, string>();
  for (const one of all) if (one.name.endsWith(".txt")) texts.set(stem(one.name), (await one.text()).trim());
  const added = all.filter((one) => one.type.startsWith("image/"))
    .map((file) => ({ id: ++last, file, url: URL.createObjectURL(file), caption: texts.get(stem(file.name)) ?? "" }));
  if (!added.length && !texts.size) toast(t("no_picture"), "error");
  given.value = [...given.value, ...added].map((one) => one.caption ? one : { ...one, caption: texts.get(stem(one.file.name)) ?? "" });
}

export function drop(id: number): void {
  given.value = given.value.filter((one) => one.id !== id || URL.revokeObjectURL(one.url));
}

/** Looks at the trainings now, and again while one runs. */
export async function look(): Promise<void> {
  clearTimeout(timer);
  const before = trainings.value.filter((one) => one.state === "running").map((one) => one.id);
  trainings.value = await get<Training[]>("/trainings");
  for (const one of trainings.value) {
    if (one.state === "running" || !before.includes(one.id)) continue;
    say(`${one.name}: ${t(`training_${one.state}` as "training_done")}`);
    if (one.file) void loadModels();
  }
  if (trainings.value.some((one) => one.state === "running")) timer = window.setTimeout(() => void look().catch(() => undefined), WAIT);
}

export async function loadMethods(): Promise<void> {
  methods.value = await get<Method[]>(`/trainings/methods?model=${encodeURIComponent(form.value.model)}`);
  if (chosen()?.misfit) plan.value = { ...plan.value, method: "lora" };
}

export const lookNoMore = (): void => clearTimeout(timer);

export async function begin(): Promise<void> {
  const { caption, name, method, steps, ...rest } = plan.value, asks = [...chosen()?.required ?? [], ...chosen()?.optional ?? []];
  const answers = Object.entries(rest).filter(([key]) => asks.includes(key));
  starting.value = true;
  try {
    const pictures = [];
    for (const one of given.value) pictures.push({ picture: await sendPicture(one.file), caption: one.caption || caption || rest.word });
    await post("/trainings", { name, method, steps, ...Object.fromEntries(answers), model: form.value.model, pictures });
    given.value.forEach((one) => URL.revokeObjectURL(one.url));
    given.value = [];
    plan.value = { ...plan.value, name: "" };
    await look();
  } catch (error) {
    toast((error as Error).message, "error");
  }
  starting.value = false;
}

export async function tell(one: Training, what: "stop" | "resume" | "forget"): Promise<void> {
  try {
    await (what === "forget" ? remove(`/trainings/${one.id}`) : post(`/trainings/${one.id}/${what}`));
  } catch (error) {
    toast((error as Error).message, "error");
  }
  await look();
}
