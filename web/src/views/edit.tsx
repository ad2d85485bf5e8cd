export function Edit() {
  return <p />;
}
