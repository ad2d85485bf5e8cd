/** From one prompt to another, picture by picture. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { request } from "../../form";
import { t } from "../../i18n";
import { jobs, submit } from "../../jobs";
import { Pictures, Progress } from "../../parts/progress";

const ends = signal({ from: "", to: "" });
const frames = signal(8);
const job = signal<string | null>(null);
const shown = signal(0), playing = signal(true), format = signal("webp"), fps = signal(5), back = signal(true);
const FORMATS = { webp: "WebP", gif: "GIF", png: "APNG" };

async function go(): Promise<void> {
  const { options, model, negative } = request();
  const { n: _n, ...rest } = options;
  const made = await submit({ kind: "interpolate", model, negative, options: rest, how: { prompts: [ends.value.from, ends.value.to], frames: frames.value } }, false);
  if (made) job.value = made.id;
}

export function Interpolate() {
  const live = jobs.value[job.value ?? ""], pictures = live?.job.state === "done" ? live.job.pictures : [];
  useEffect(() => {
    if (!playing.value || pictures.length < 2) return;
    const timer = setInterval(() => { shown.value += 1; }, 1000 / fps.value);
    return () => clearInterval(timer);
  }, [pictures.length, playing.value, fps.value]);
  const length = back.value ? 2 * pictures.length - 2 : pictures.length, there = pictures.length ? shown.value % length : 0;
  const one = pictures[there < pictures.length ? there : 2 * pictures.length - 2 - there];
  return <div class="fields-column">
    <p class="muted">{t("interpolate_hint")}</p>
    <label>{t("from_prompt")}<input value={ends.value.from} onInput={(event) => { ends.value = { ...ends.value, from: event.currentTarget.value }; }} /></label>
    <label>{t("to_prompt")}<input value={ends.value.to} onInput={(event) => { ends.value = { ...ends.value, to: event.currentTarget.value }; }} /></label>
    <div class="row">
      <label class="small">{t("frames")}<input type="number" min={2} max={60} value={frames.value} onInput={(event) => { frames.value = event.currentTarget.valueAsNumber || 8; }} /></label>
      <button type="button" class="primary" disabled={!ends.value.from || !ends.value.to} onClick={() => void go()}>{t("draw")}</button>
    </div>
    {one && <figure class="film"><img src={one.url} alt={t("between", { ...ends.value })} />
      <button type="button" onClick={() => { playing.value = !playing.value; }}>{t(playing.value ? "pause" : "play")}</button></figure>}
    {one && pictures.length > 1 && <div class="row">
      <label class="small">{t("per_second")}<input type="number" min={1} max={50} value={fps.value} onInput={(event) => { fps.value = Math.min(50, Math.max(1, event.currentTarget.valueAsNumber || 5)); }} /></label>
      <label>{t("animation")}<select value={format.value} onChange={(event) => { format.value = event.currentTarget.value; }}>{Object.entries(FORMATS).map(([id, name]) => <option key={id} value={id}>{name}</option>)}</select></label>
      <label class="check"><input type="checkbox" checked={back.value} onChange={(event) => { back.value = event.currentTarget.checked; }} />{t("back_again")}</label>
      <a class="button" download href={`/api/jobs/${live!.job.id}/animation?format=${format.value}&fps=${fps.value}&back=${back.value}`}>{t("save_animation")}</a>
    </div>}
    {live && <><Progress live={live} /><Pictures live={live} /></>}
  </div>;
}
