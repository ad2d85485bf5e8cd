/** Draw: what is asked for on one side, what becomes of it on the other. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get, type Found, type Shown } from "../api";
import { t } from "../i18n";
import { active, cancel, current, jobs, news, ordered, type Live } from "../jobs";
import { Composer } from "../parts/composer";
import { Pictures, Progress } from "../parts/progress";
import { detail, open } from "../place";

const LATEST = 18;
const latest = signal<Shown[]>([]);

export function Draw() {
  useEffect(() => void get<Found>(`/gallery?count=${LATEST}`).then((found) => { latest.value = found.pictures; }).catch(() => undefined), [news.value]);
  const live = current.value ? jobs.value[current.value] : undefined;
  return <div class="draw">
    <h2 class="hidden">{t("view_draw")}</h2>
    <Composer />
    <section class="stage" aria-label={t("result")}>
      {live ? <><Pictures live={live} /><Progress live={live} /></> : <Welcome />}
      {active.value.length > (live && active.value.includes(live) ? 1 : 0) && <Waiting shown={live} />}
    </section>
    {latest.value.length > 0 && <section class="latest" aria-label={t("latest")}>
      <h3>{t("latest")} <button class="link" onClick={() => open("gallery")}>{t("all")}</button></h3>
      <div class="strip">{latest.value.map((one) => <button key={one.url} class="thumb" aria-haspopup="dialog" onClick={() => { detail.value = { shown: one, list: latest.value }; }}>
        <img src={one.small} alt={one.prompt || one.kind} loading="lazy" /></button>)}</div>
    </section>}
  </div>;
}

function Welcome() {
  return <div class="welcome">
    <div class="smoke big" aria-hidden="true"><i /><i /><i /></div>
    <p class="lead">{t("welcome")}</p>
    <p class="muted">{t("welcome_hint")}</p>
  </div>;
}

/** The other jobs that wait or run. */
function Waiting({ shown }: { shown: Live | undefined }) {
  return <ul class="waiting" aria-label={t("queue")}>
    {ordered.value.filter((one) => active.value.includes(one) && one !== shown).slice(0, 8).map(({ job, progress }) => <li key={job.id}>
      <button class="link" onClick={() => { current.value = job.id; }}>{job.request.prompt || job.kind}</button>
      <span class="muted">{job.state === "queued" ? t("position", { n: job.position ?? 0 }) : `${Math.round(100 * progress)}%`}</span>
      <button class="icon" aria-label={t("cancel_of", { prompt: job.request.prompt || job.kind })} onClick={() => void cancel(job.id)}>×</button>
    </li>)}
  </ul>;
}
