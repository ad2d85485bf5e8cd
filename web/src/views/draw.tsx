/** Draw: what is asked for on one side, what becomes of it on the other. */
import { useEffect, useRef } from "preact/hooks";
import { t } from "../i18n";
import { active, cancel, current, jobs, ordered, type Live } from "../jobs";
import { Composer } from "../parts/composer";
import { Latest } from "../parts/latest";
import { Pictures, Progress } from "../parts/progress";
import { detail } from "../place";

export function Draw() {
  const stage = useRef<HTMLElement>(null), before = useRef(current.value);
  // What is drawn is seen, also by those who asked for it far below.
  useEffect(() => { if (before.current !== current.value) stage.current?.scrollIntoView({ block: "nearest" }); before.current = current.value; }, [current.value]);
  const live = current.value ? jobs.value[current.value] : undefined;
  return <div class="draw">
    <h2 class="hidden">{t("view_draw")}</h2>
    <Composer />
    <section ref={stage} class="stage" aria-label={t("result")}><div class="held">
      {live ? <><Pictures live={live} /><Progress live={live} /></> : <Welcome />}
      {active.value.length > (live && active.value.includes(live) ? 1 : 0) && <Waiting shown={live} />}
    </div></section>
    <Latest dialog choose={(one, list) => { detail.value = { shown: one, list }; }} />
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
