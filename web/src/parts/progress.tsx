/** A job on its way: its pictures as they come, how far it is, and how to stop it. */
import { useEffect } from "preact/hooks";
import { detail } from "../place";
import { duration, t } from "../i18n";
import { cancel, ended, retry, type Live } from "../jobs";
import { say } from "../toasts";
import { shownOf } from "./shown";

export function Pictures({ live }: { live: Live }) {
  const { job, previews } = live, asked = job.request.options;
  const open = !ended(job), n = open ? Math.max(Number(asked.n ?? 1), job.pictures.length) : job.pictures.length;
  const ratio = Number(asked.width ?? 1) / Number(asked.height ?? 1);
  const list = job.pictures.map((one) => shownOf(job, one));
  return <div class="pictures" data-n={n} style={{ "--n": Math.ceil(Math.sqrt(n)) }}>
    {Array.from({ length: n }, (_, k) => {
      const done = open ? job.pictures.find((one) => one.index === k) : job.pictures[k], alt = job.request.prompt || job.kind;
      if (done) return <button key={k} class="cell done" aria-haspopup="dialog" onClick={() => { detail.value = { shown: shownOf(job, done), list }; }}>
        <img src={done.url} alt={alt} width={done.width || undefined} height={done.height || undefined} /></button>;
      return <div key={k} class="cell" style={{ aspectRatio: String(ratio || 1) }}>
        <div class="smoke" aria-hidden="true"><i /><i /><i /></div>
        {previews[k] && <img class="preview" src={previews[k]} alt={t("preview_of", { prompt: alt })} />}</div>;
    })}
  </div>;
}

export function Progress({ live }: { live: Live }) {
  const { job, progress, secondsLeft } = live, quarter = Math.floor(4 * progress);
  useEffect(() => { if (job.state === "running" && quarter > 0 && quarter < 4) say(t("said_progress", { n: 25 * quarter })); }, [quarter, job.state]);
  if (job.state === "done") return null;
  if (ended(job)) return <div class="progress"><p class="note">{job.error ?? t("cancelled")}</p>
    <button type="button" onClick={() => void retry(job.id)}>{t("again")}</button></div>;
  const waits = job.state === "queued";
  const told = waits ? (job.position ? t("position", { n: job.position }) : t("starts_soon")) : secondsLeft !== null ? t("left", { time: duration(secondsLeft) }) : t("drawing");
  return <div class="progress">
    <progress max={1} value={waits ? undefined : progress} aria-label={t("progress")} />
    <span>{told}</span>
    <button type="button" class="cancel" onClick={() => void cancel(job.id)}>{t("cancel")}</button>
  </div>;
}
