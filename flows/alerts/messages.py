"""What an alert says: pure functions from what happened to words."""

from collections.abc import Sequence
from dataclasses import dataclass

from quickdraw_core.redaction import without_secrets

_LINES = 20
_LINE_LENGTH = 300


@dataclass(frozen=True)
class Alert:
    """A message. kind: of event: `failed`, `crashed`, `champion`, `accuracy`. head: the reason
    and what to do; tail: what may be cut off at the end.
    """

    kind: str
    subject: str
    head: str
    tail: str = ""


def ended_alert(
    name: str, run_id: str, state: str, why: str, page: str | None, log: Sequence[str]
) -> Alert:
    """Of a run that failed or crashed. page: of its MLflow run. log: its messages, in order."""
    head = [f"why: {without_secrets(why) or 'not known'}", f"again: quickdraw rerun {run_id}"]
    head += [f"MLflow: {page}"] if page else []
    lines = [line for message in log for line in message.splitlines() if line.strip()][-_LINES:]
    shown = [f"    {without_secrets(line)[:_LINE_LENGTH]}" for line in lines]
    tail = "\n".join(["last lines of its log:", *shown]) if shown else ""
    return Alert(state.lower(), f"quickdraw: {name} {state.lower()}", "\n".join(head), tail)
