/** Learn: how one picture came to be, from noise to the end, by the same previews that were seen while it was drawn. */
import { signal } from "@preact/signals";
import { form, request } from "../form";
import { t } from "../i18n";
import { ordered, submit } from "../jobs";
import { Progress } from "../parts/progress";

const chosen = signal<string | null>(null);
const at = signal(0);

export function Learn() {
  const list = ordered.value.filter((one) => one.frames.length > 0);
  const live = list.find((one) => one.job.id === chosen.value) ?? list[0];
  const frames = live?.frames ?? [], done = live?.job.pictures.find((one) => one.index === 0);
  const steps = [...frames.map((one) => ({ url: one.preview, name: t("after_step", { n: one.step }) })), ...(done ? [{ url: done.url, name: t("picture") }] : [])];
  const now = steps[Math.min(at.value, steps.length - 1)];
  return <div class="learn">
    <h2>{t("learn_title")}</h2>
    <p class="muted">{t("learn_hint")}</p>
    <button class="primary" disabled={!form.value.prompt} onClick={() => { chosen.value = null; at.value = 99; void submit({ ...request(), options: { ...request().options, n: 1, steps: Math.max(24, Number(request().options.steps ?? 0)) } }); }}>{t("draw_and_watch")}</button>
    {!form.value.prompt && <p class="muted">{t("learn_no_prompt")}</p>}
    {list.length > 1 && <label>{t("picture")}<select value={live?.job.id} onChange={(event) => { chosen.value = event.currentTarget.value; at.value = 0; }}>{list.map(({ job }) => <option key={job.id} value={job.id}>{job.request.prompt || job.kind}</option>)}</select></label>}
    {live && now && <>
      <Progress live={live} />
      <figure class="film"><img src={now.url} alt={`${live.job.request.prompt}, ${now.name}`} /><figcaption>{now.name}</figcaption></figure>
      <label>{t("step")}<input type="range" min={0} max={steps.length - 1} value={Math.min(at.value, steps.length - 1)} aria-valuetext={now.name} onInput={(event) => { at.value = event.currentTarget.valueAsNumber; }} /></label>
      <ol class="steps">{steps.map((one, k) => <li key={k}><button class="thumb" aria-pressed={k === at.value} onClick={() => { at.value = k; }}><img src={one.url} alt={one.name} /></button><span class="muted">{one.name}</span></li>)}</ol>
    </>}
    <ul class="told">{(["learn_noise", "learn_steps", "learn_guidance", "learn_seed"] as const).map((key) => <li key={key}>{t(key)}</li>)}</ul>
  </div>;
}
