export function Learn() {
  return <p />;
}
