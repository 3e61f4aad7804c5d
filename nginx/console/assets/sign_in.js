// The form that stands before everything else.
import { signIn } from "./api.js";
import { onSubmit } from "./forms.js";
import { stamp } from "./templates.js";

export function signInView(root, { report, done }) {
  root.append(stamp("sign-in-view"));
  const form = root.querySelector("form");
  onSubmit(form, report, async ({ username, password }) => {
    await signIn(username, password);
    await done();
  });
  form.username.focus();
}
