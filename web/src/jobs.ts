/** Jobs as they are drawn: what the server tells of them, kept so that views only have to show it. */
import { computed, signal } from "@preact/signals";
import { ApiError, get, post, type Job, type JobPicture, type Request } from "./api";
import { t } from "./i18n";
import { say, toast } from "./toasts";

/** Where a picture attended to which word at a step: the mean share, and the map of each word, a byte a place in base64. */
export interface Attention { picture: number; step: number; words: string[]; shares: number[]; height: number; width: number; maps: string[] }
export interface Frame { step: number; preview: string; attention?: Attention | null | undefined }
export interface Live {
  job: Job;
  progress: number;
  secondsLeft: number | null;
  previews: Record<number, string>;
  /** The first picture's previews, step by step. */
  frames: Frame[];
  /** What was told last of the first picture. */
  attention?: Attention | undefined;
}
interface Said {
  event: string; job: string; preview?: string; picture?: number; step?: number; progress?: number;
  seconds_left?: number | null; index?: number; infotext?: string; width?: number; height?: number;
  attention?: Attention;
}

const KEPT = 40; // jobs that are remembered
export const jobs = signal<Record<string, Live>>({});
export const connected = signal(true);
/** Grows whenever the gallery has something new. */
export const news = signal(0);
/** The job that the page shows large. */
export const current = signal<string | null>(null);

const newestFirst = (): Live[] => Object.values(jobs.value).sort((a, b) => b.job.number - a.job.number);
export const ordered = computed(newestFirst);
export const active = computed(() => ordered.value.filter((one) => !ended(one.job)));
export const ended = (job: Job): boolean => ["done", "failed", "cancelled"].includes(job.state);

export async function submit(request: Partial<Request>, show = true): Promise<Job | null> {
  try {
    const job = await post<Job>("/jobs", request);
    keep(job);
    if (show) current.value = job.id;
    say(t("said_queued"));
    return job;
  } catch (error) {
    toast((error as Error).message, "error");
    return null;
  }
}

/** The job when it is ended. */
export function finished(id: string): Promise<Job> {
  return new Promise((resolve) => {
    const stop = jobs.subscribe((all) => {
      const job = all[id]?.job;
      if (job && ended(job)) queueMicrotask(() => { stop(); resolve(job); });
    });
  });
}

export const cancel = (id: string): Promise<void> => told(id, "cancel");
export const retry = (id: string): Promise<void> => told(id, "retry");

async function told(id: string, what: "cancel" | "retry"): Promise<void> {
  try {
    keep(await post<Job>(`/jobs/${id}/${what}`));
  } catch (error) {
    toast((error as Error).message, "error");
  }
}

function keep(job: Job): void {
  const old = jobs.value[job.id];
  const all = { ...jobs.value, [job.id]: {
    previews: {}, frames: [], ...old, job, progress: job.progress, secondsLeft: job.seconds_left } };
  for (const one of Object.values(all).sort((a, b) => b.job.number - a.job.number).slice(KEPT))
    if (ended(one.job) && !one.job.request.how.attention) delete all[one.job.id];
  jobs.value = all;
}

/** The jobs whose steps the server has kept. */
export async function loadFilms(): Promise<void> {
  for (const job of await get<Job[]>("/films")) if (!jobs.value[job.id]) keep(job);
}

/** The steps of a job that ended before the page was opened. */
export async function loadFrames(id: string): Promise<void> {
  const frames = await get<Frame[]>(`/jobs/${id}/frames`);
  change(id, () => ({ frames }));
}

function change(id: string, changed: (one: Live) => Partial<Live>): void {
  const one = jobs.value[id];
  if (one) jobs.value = { ...jobs.value, [id]: { ...one, ...changed(one) } };
}

async function refresh(id: string): Promise<void> {
  try {
    keep(await get<Job>(`/jobs/${id}`));
  } catch (error) {
    if (!(error instanceof ApiError)) connected.value = false;
  }
}

/** All that waits or runs, and the latest that ended. */
async function catchUp(): Promise<void> {
  const here = await get<Job[]>("/jobs?count=20");
  const more = await get<Job[]>("/jobs?count=100&state=queued&state=running");
  for (const job of [...here, ...more]) keep(job);
  const open = Object.values(jobs.value).filter((one) => !ended(one.job)).map((one) => one.job.id);
  for (const id of open.filter((id) => !more.some((job) => job.id === id))) await refresh(id);
  if (current.value === null) current.value = (active.value.at(-1) ?? ordered.value.find((one) => one.job.pictures.length))?.job.id ?? null;
  news.value++;
}

function hear(said: Said): void {
  const id = said.job;
  switch (said.event) {
    case "progress":
      change(id, (one) => {
        const preview = said.preview;
        const first = preview && said.picture === 0 ? [...one.frames, { step: said.step!, preview, attention: one.attention?.step === said.step ? one.attention : undefined }] : one.frames;
        return { progress: said.progress!, secondsLeft: said.seconds_left ?? null, frames: first,
          job: { ...one.job, state: "running", position: null },
          previews: preview ? { ...one.previews, [said.picture!]: preview } : one.previews };
      });
      break;
    case "report":
      if (said.attention?.picture === 0) change(id, () => ({ attention: said.attention }));
      break;
    case "picture": {
      const picture: JobPicture = { index: said.index!, url: `/api/jobs/${id}/pictures/${said.index}`,
        infotext: said.infotext ?? "", width: said.width ?? 0, height: said.height ?? 0 };
      change(id, (one) => ({ job: { ...one.job,
        pictures: [...one.job.pictures.filter((old) => old.index !== picture.index), picture] } }));
      news.value++;
      break;
    }
    case "done": case "failed": case "cancelled":
      void refresh(id).then(() => {
        const job = jobs.value[id]?.job;
        if (said.event === "failed" && job?.error) toast(job.error, "error");
        else say(t(said.event === "done" ? "said_done" : "said_cancelled"));
      });
      break;
    case "queued": case "started":
      void refresh(id);
  }
}

let pause = 500;

/** Listens to the server for as long as the page is open. */
export function follow(): void {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/ws`);
  socket.onopen = () => {
    pause = 500;
    connected.value = true;
    catchUp().catch(() => undefined);
  };
  socket.onmessage = (message) => hear(JSON.parse(message.data as string) as Said);
  socket.onclose = () => {
    connected.value = false;
    setTimeout(follow, pause);
    pause = Math.min(2 * pause, 8000);
  };
}
