export function More() {
  return <p />;
}
