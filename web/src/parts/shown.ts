import type { Job, JobPicture, Shown } from "../api";

/** A picture of a job as the gallery has it. */
export function shownOf(job: Job, one: JobPicture): Shown {
  return { job: job.id, index: one.index, url: one.url, small: one.url + "/small", infotext: one.infotext, width: one.width,
    height: one.height, seed: /\bSeed: (\d+)/.exec(one.infotext)?.[1] ?? "", kind: job.kind, created: job.created,
    prompt: job.request.prompt, model: job.request.model, favourite: false, folder: "" };
}
