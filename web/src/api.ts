/** The server's API, typed. Seeds have up to 64 bits, so they are text here and become numbers only on their way out. */
import { signal } from "@preact/signals";

export type State = "queued" | "running" | "done" | "failed" | "cancelled";
export interface JobPicture { index: number; url: string; infotext: string; width: number; height: number }
export interface Request {
  kind: string; model: string; prompt: string; negative: string;
  options: Record<string, unknown>; how: Record<string, unknown>; pictures: Record<string, string>;
}
export interface Job {
  id: string; number: number; state: State; kind: string; request: Request; created: number; error: string | null;
  position: number | null; progress: number; seconds_left: number | null; pictures: JobPicture[];
  report: Record<string, unknown>;
}
export interface Shown {
  job: string; index: number; url: string; small: string; seed: string; infotext: string; width: number; height: number;
  kind: string; created: number; prompt: string; model: string; favourite: boolean; folder: string;
}
export interface Found { total: number; pictures: Shown[] }
export interface Option {
  name: string; type: "whole" | "number" | "switch" | "choice" | "names" | "pair" | "text"; help: string; panel: string;
  default: unknown; infotext: string | null; low: number | null; high: number | null; step: number | null; choices: string[]; labels: string[];
}
export interface Options {
  model: string; title: string; family: string; inpaints: boolean; options: Option[]; tasks: Record<string, Option[]>;
}
export interface Model {
  name: string; what: string; family: string | null; kind: string; licence: string | null; size: number | null;
  loaded: boolean;
}
export interface Memory { dtype: string; weights: Record<string, number>; width: number; height: number; loading: number; drawing: number }
export interface Training {
  id: string; name: string; method: string; result: string; hint: string; kind: string; model: string; word: string; state: "running" | "stopped" | "done" | "failed";
  step: number; steps: number; pictures: number; created: number; curves: Record<string, [number, number][]>; says: string;
  samples: Record<string, string>; report: string | null; file: string | null;
}
export interface Method { name: string; result: string; steps: number; required: string[]; optional: string[]; misfit: string }
export interface Piece { text: string; weight: number }
export interface Tokens {
  prompt: string; window: number; adapters: string[]; notes: { text: string; start: number; end: number }[];
  parts: { weight: number; readings: { first: number; last: number; windows: Piece[][]; cut: number }[] }[];
}
export interface Recipe {
  program: string; kind: string; model: string | null; prompt: string; negative: string;
  options: Record<string, unknown>; seed: string | null; strength: number | null; rules: string[]; lost: string[];
}

export class ApiError extends Error {
  constructor(readonly status: number, message: string) { super(message); }
}

/** Whether the server wants to know who asks. */
export const locked = signal(false);

const MARK = "@seed:";
export const wholeNumber = (digits: string): string => MARK + digits;

function written(body: unknown): string {
  return JSON.stringify(body).replace(new RegExp(`"${MARK}(-?\\d+)"`, "g"), "$1");
}

async function reply(path: string, body?: unknown, method = "GET"): Promise<Response> {
  const init: RequestInit = body === undefined ? { method }
    : { method: "POST", headers: { "Content-Type": "application/json" }, body: written(body) };
  const found = await fetch("/api" + path, init);
  if (found.status === 401) locked.value = true;
  if (!found.ok) {
    const said = await found.json().catch(() => ({})) as { error?: string };
    throw new ApiError(found.status, said.error ?? found.statusText);
  }
  return found;
}

export const get = async <T>(path: string): Promise<T> => (await reply(path)).json() as Promise<T>;
export const post = async <T>(path: string, body: unknown = {}): Promise<T> =>
  (await reply(path, body)).json() as Promise<T>;
export const remove = async (path: string): Promise<void> => void await reply(path, undefined, "DELETE");
export const postForFile = async (path: string, body: unknown): Promise<Blob> => (await reply(path, body)).blob();

/** The name under which the server keeps a picture that is sent. */
export async function sendPicture(blob: Blob): Promise<string> {
  return (await post<{ name: string }>("/pictures", { picture: await dataUrl(blob) })).name;
}

export function dataUrl(blob: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result as string);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

export const pictureFile = async (url: string): Promise<Blob> => (await fetch(url)).blob();
