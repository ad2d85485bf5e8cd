export function Models() {
  return <p />;
}
