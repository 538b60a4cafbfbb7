// Asks a security key or a passkey, and sends the form with what it says. Without this script the form goes on as it is.
"use strict";

for (const button of document.querySelectorAll("button[data-options]")) {
  if (!window.PublicKeyCredential?.parseRequestOptionsFromJSON) {
    break;
  }
  button.hidden = false;
  button.addEventListener("click", async () => {
    const form = button.form;
    // A passkey takes the place of what else is to be filled in.
    if (button.name === "key" && !form.reportValidity()) {
      return;
    }
    try {
      const options = JSON.parse(button.dataset.options);
      const credential = button.name === "register"
        ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
        : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
      form.elements.assertion.value = JSON.stringify(credential.toJSON());
      form.elements.passkey_used.value = button.name === "passkey" ? "yes" : "";
      form.noValidate = true;
      form.requestSubmit(form.querySelector("button:not([type=button])"));
    } catch (fault) {
      document.getElementById("key-said").textContent = `The security key gave no answer: ${fault.name}.`;
    }
  });
}
