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
const shown = signal(0), playing = signal(true);

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
    const timer = setInterval(() => { shown.value += 1; }, 200);
    return () => clearInterval(timer);
  }, [pictures.length, playing.value]);
  const there = pictures.length ? shown.value % (2 * pictures.length - 2) : 0; // there and back
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
    {live && <><Progress live={live} /><Pictures live={live} /></>}
  </div>;
}
