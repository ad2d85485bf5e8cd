/** Two to four prompts side by side, from the same noise. */
import { signal } from "@preact/signals";
import { request } from "../../form";
import { t } from "../../i18n";
import { jobs, submit } from "../../jobs";
import { Pictures, Progress } from "../../parts/progress";

const prompts = signal(["", ""]);
const drawn = signal<string[]>([]);

async function go(): Promise<void> {
  drawn.value = [];
  const seed = Math.floor(Math.random() * 2 ** 32);
  for (const prompt of prompts.value.filter((one) => one.trim())) {
    const asked = request(), job = await submit({ ...asked, prompt, options: { seed, ...asked.options } }, false);
    if (job) drawn.value = [...drawn.value, job.id];
  }
}

export function Compare() {
  const list = prompts.value;
  return <div class="fields-column">
    <p class="muted">{t("compare_hint")}</p>
    {list.map((text, k) => <label key={k}>{t("prompt_n", { n: k + 1 })}
      <input value={text} onInput={(event) => { prompts.value = list.map((old, j) => j === k ? event.currentTarget.value : old); }} /></label>)}
    <div class="row">
      <button type="button" class="primary" onClick={() => void go()}>{t("draw")}</button>
      {list.length < 4 && <button type="button" onClick={() => { prompts.value = [...list, ""]; }}>{t("one_more")}</button>}
      {list.length > 2 && <button type="button" onClick={() => { prompts.value = list.slice(0, -1); }}>{t("one_less")}</button>}
    </div>
    <div class="side">{drawn.value.map((id) => jobs.value[id]).map((live) => live && <figure key={live.job.id}><Pictures live={live} /><Progress live={live} /><figcaption>{live.job.request.prompt}</figcaption></figure>)}</div>
  </div>;
}
