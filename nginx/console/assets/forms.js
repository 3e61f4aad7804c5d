// What all forms have in common: one submission at a time, and its failure is shown where all failures are.

export function onSubmit(form, report, action) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button:not([type])");
    if (button.disabled) return;
    button.disabled = true;
    try {
      await action(Object.fromEntries(new FormData(form)));
    } catch (error) {
      report(error);
    } finally {
      button.disabled = false;
    }
  });
}

// The same input again after a failure keeps its key, so that the service does it once.
export function onceEach(command) {
  let attempt = { input: null, key: null };
  return async (input) => {
    if (attempt.input !== input) attempt = { input, key: crypto.randomUUID() };
    const answer = await command(input, { "Idempotency-Key": attempt.key });
    attempt = { input: null, key: null };
    return answer;
  };
}
