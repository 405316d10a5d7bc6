// What all parts of the page use: its elements, notices, and the model's voice.

export const $ = (id) => document.getElementById(id);

/** An element. Properties `class`, `text` and those of the element; then its children. */
export function make(tag, { class: name, text, ...rest } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), rest);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  element.append(...children);
  return element;
}

export function notice(text) {
  $("notice").textContent = text.charAt(0).toUpperCase() + text.slice(1);
  delete $("notice").dataset.fault;
}

/** Shows that a call got no answer, until one does (null). */
export function trouble(fault) {
  if (!fault && !$("notice").dataset.fault) return;
  notice(fault?.message ?? "");
  if (fault) $("notice").dataset.fault = "yes";
}

/** Runs what a button asks for; what is wrong becomes a notice. */
export async function attempt(action) {
  try {
    await action();
  } catch (error) {
    notice(error.message);
  }
}

const canSpeak = "speechSynthesis" in window;
const isVoiceOn = () => $("voice").getAttribute("aria-pressed") === "true";

/** Says a sentence: written, to a screen reader, and aloud if the voice is on. */
export function speak(text) {
  $("speech").textContent = text;
  if (!isVoiceOn() || !text) return;
  speechSynthesis.cancel();
  speechSynthesis.speak(Object.assign(new SpeechSynthesisUtterance(text), { lang: "en" }));
}

$("voice").hidden = !canSpeak;
$("voice").addEventListener("click", () => {
  $("voice").setAttribute("aria-pressed", !isVoiceOn());
  if (isVoiceOn()) speak($("speech").textContent);
  else speechSynthesis.cancel();
});
