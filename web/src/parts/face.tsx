/** What a model or a LoRA looks like: the last picture drawn with it, else its first letter. Its name stands beside it. */
export function Face({ name, url }: { name: string; url: string | undefined }) {
  return url ? <img class="face" src={url} alt="" loading="lazy" /> : <span class="face" aria-hidden="true">{[...name][0]?.toUpperCase()}</span>;
}
