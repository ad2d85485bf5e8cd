/** The prompt with what the model reads of it: tokens counted and weighed, doubtful places marked where they stand. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { post, type Piece, type Tokens } from "../api";
import { form, set, styled } from "../form";
import { t } from "../i18n";

const read = signal<Tokens | null>(null);
const WAIT = 250; // milliseconds after the last key

async function ask(prompt: string, model: string, still: () => boolean): Promise<void> {
  try {
    const found = await post<Tokens>("/tokens", { prompt, model });
    if (still()) read.value = found;
  } catch {
    if (still()) read.value = null;
  }
}

export function Prompt({ submit }: { submit: () => void }) {
  const { prompt, model } = form.value, whole = styled();
  useEffect(() => {
    let current = true;
    const timer = setTimeout(() => void (whole && model ? ask(whole, model, () => current) : (read.value = null)), WAIT);
    return () => { current = false; clearTimeout(timer); };
  }, [whole, model]);
  const said = read.value?.prompt === whole ? read.value : null;
  return <div class="prompt">
    <label for="prompt">{t("prompt")}</label>
    <div class="over">
      <div class="marks" aria-hidden="true">{said ? marked(prompt, said) : prompt}{"\n"}</div>
      <textarea id="prompt" rows={3} value={prompt} placeholder={t("prompt_hint")} aria-describedby="read" spellcheck={false}
        onInput={(event) => set({ prompt: event.currentTarget.value })}
        onKeyDown={(event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); submit(); } }} />
    </div>
    <div id="read" class="read">{said && <Reading said={said} />}</div>
  </div>;
}

/** The text with a line under each doubtful place. */
function marked(prompt: string, said: Tokens) {
  const letters = [...prompt], parts: preact.ComponentChild[] = [];
  let at = 0;
  for (const note of said.notes) {
    if (note.start < at || note.start >= letters.length) continue;
    parts.push(letters.slice(at, note.start).join(""), <mark>{letters.slice(note.start, Math.max(note.end, note.start + 1)).join("")}</mark>);
    at = Math.max(note.end, note.start + 1);
  }
  return [...parts, letters.slice(at).join("")];
}

function Reading({ said }: { said: Tokens }) {
  const reading = said.parts[0]?.readings[0];
  if (!reading) return null;
  const pieces = reading.windows.flat(), weighed = runs(pieces).filter((run) => Math.abs(run.weight - 1) > 0.001);
  return <>
    <span class="tokens">{t("tokens", { n: pieces.length, of: said.window })}</span>
    {weighed.map((run) => <span class="weight">{run.text} <b>×{run.weight.toFixed(2)}</b></span>)}
    {said.adapters.map((one) => <span class="weight">{one}</span>)}
    {reading.cut > 0 && <p class="note">{t("too_long", { n: reading.cut })}</p>}
    {said.notes.map((note) => <p class="note">{note.text}</p>)}
  </>;
}

function runs(pieces: Piece[]): Piece[] {
  const found: Piece[] = [];
  for (const piece of pieces) {
    const last = found.at(-1);
    if (last && last.weight === piece.weight) last.text += " " + piece.text;
    else found.push({ ...piece });
  }
  return found;
}
