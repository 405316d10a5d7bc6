"""Commands on runs that a Prefect server recorded: what became of them, and once more."""

from collections.abc import Mapping, Sequence
from contextlib import chdir
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quickdraw_core.assignments import parse_assignments
from quickdraw_core.commands.options import Set
from quickdraw_core.commands.running import going_on_said, run_flow
from quickdraw_core.errors import ConfigError, first_line
from quickdraw_core.redaction import without_secrets
from quickdraw_core.system.durations import seconds_of
from quickdraw_core.terminal.console import errors, show_facts, show_lines, show_table

if TYPE_CHECKING:
    from flows.reruns.find import Run
    from quickdraw_core.stage import Outlook

_SINCE = "7d"

Plan = Annotated[
    bool,
    typer.Option(
        "--plan", help="Only say for each stage whether it is reused, continued or done anew."
    ),
]
RedoFrom = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="STAGE", help="Do this stage and all after it anew; keep those before."
    ),
]
Since = Annotated[
    str, typer.Option(metavar="TIME", help="How far back to look, as 12h, 1d or 2w.")
]
OneFlow = Annotated[
    str | None, typer.Option("--flow", metavar="FLOW", help="Only runs of this flow.")
]


def rerun(
    reference: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Id or name of a Prefect flow run.")
    ] = None,
    last_failed: Annotated[
        bool, typer.Option("--last-failed", help="The last run that did not complete.")
    ] = False,
    all_failed: Annotated[
        bool,
        typer.Option("--all-failed", help="All that failed or crashed and were not redone since."),
    ] = False,
    since: Since = _SINCE,
    flow: OneFlow = None,
    redo_from: RedoFrom = None,
    changes: Set = None,
    plan: Plan = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow a deployment's run to its end.")
    ] = False,
) -> None:
    """Run a flow run again: what is finished is skipped, the rest continues.

    With --from or --set it is a new run of the same deployment, or of the same flow.
    """
    if [reference is not None, last_failed, all_failed].count(True) != 1:
        raise ConfigError(
            "give a RUN, --last-failed for the last one that did not complete, or --all-failed; "
            "quickdraw status lists them"
        )
    if not all_failed and (flow is not None or since != _SINCE):
        raise ConfigError("--since and --flow choose among --all-failed; give that as well")
    asked = parse_assignments(changes or ())
    seconds = _seconds(since)
    if redo_from is not None:
        from quickdraw_core.pipeline import find_stage

        find_stage(redo_from)
    from quickdraw_core.stage import Opened

    def begin() -> None:
        from flows.reruns.find import find_failed, find_run

        if all_failed:
            _all_again(find_failed(seconds, flow), since, asked, redo_from, plan, watch)
        else:
            _again(find_run(reference), asked, redo_from, plan, watch)

    from flows.server import require_records

    require_records()
    with going_on_said():
        run_flow(begin, Opened())


def _all_again(
    runs: Sequence["Run"],
    since: str,
    changes: Mapping[str, Any],
    redo_from: str | None,
    plan: bool,
    watch: bool,
) -> None:
    """Each of the runs, whatever becomes of the others."""
    if not runs:
        show_lines([f"nothing to rerun: no run of the last {since} failed that was not redone"])
    require_for_one(runs, changes, redo_from)
    from flows.reruns.find import find_run, has_failed, require_ended

    failed = 0
    for run in runs:
        try:
            now = find_run(str(run.id))  # the runs before it may have taken hours
            require_ended(now)
            if not has_failed(now):
                state = now.state.name if now.state is not None else "unknown"
                show_facts({"run": f"{run.name} is {state} by now"})
                continue
            _again(now, changes, redo_from, plan, watch)
        except typer.Exit:
            failed += 1
        except Exception as error:  # noqa: BLE001 — the others are to be run all the same
            failed += 1
            why = without_secrets(first_line(error))
            errors.print(f"{run.name}: {why}", markup=False, soft_wrap=True)
    if failed:
        errors.print(f"{failed} of {len(runs)} runs did not complete, or cannot be rerun")
        raise typer.Exit(1)


def require_for_one(
    runs: Sequence["Run"], changes: Mapping[str, Any], redo_from: str | None
) -> None:
    """Raises what the first of the runs says of the changes if none of them can take them."""
    from flows.reruns.again import flow_of_run
    from flows.reruns.changes import changed

    refused: list[ConfigError] = []
    for run in runs if changes or redo_from else ():
        try:
            changed(flow_of_run(run), run.parameters, changes, redo_from)
        except ConfigError as error:
            refused.append(error)
        else:
            return
    if refused:
        raise refused[0]


def _again(
    run: "Run",
    changes: Mapping[str, Any],
    redo_from: str | None,
    plan: bool,
    watch: bool,
) -> None:
    from flows.reruns.again import flow_of_run, folder_of
    from flows.reruns.changes import changed
    from flows.reruns.changes import plan as plan_of
    from flows.reruns.find import require_ended
    from quickdraw_core.stage import Opened

    if not (changes or redo_from or plan):
        require_ended(run)
        _once_more(run, watch)
        return
    flow, parameters = flow_of_run(run), run.parameters
    begun = run.start_time.timestamp() if run.start_time is not None else None
    if changes or redo_from:
        new = changed(flow, run.parameters, changes, redo_from)
        parameters, begun = new.parameters, None
        for key, before, now in new.differences:
            show_facts({"changed": f"{key} = {now} (was {before})"})
    if plan:
        folder = folder_of(run)
        show_facts({"run": f"{run.name} ({run.id}), in {folder}"})
        with chdir(folder):
            show_plan(plan_of(flow, parameters, Opened(), begun))
        return
    _instead(run, parameters, watch)


def _once_more(run: "Run", watch: bool) -> None:
    """The run itself, with its own parameters."""
    from flows.reruns.again import folder_of, run_again, schedule_again

    if run.deployment_id is None:
        show_facts({"run": f"{run.name} ({run.id}), in this process, in {folder_of(run)}"})
        run_again(run)
        show_facts({"done": "completed"})
        return
    schedule_again(run)
    show_facts({"run": f"{run.name} ({run.id}) is scheduled again; a worker takes it up"})
    _follow(run, watch)


def _instead(run: "Run", parameters: dict[str, Any], watch: bool) -> None:
    """A new run that stands for another one."""
    from flows.reruns.again import folder_of, run_instead, schedule_instead

    if run.deployment_id is None:
        show_facts({"run": f"instead of {run.name}, in this process, in {folder_of(run)}"})
        run_instead(run, parameters)
        show_facts({"done": "completed"})
        return
    new = schedule_instead(run, parameters)
    show_facts({"run": f"{new.name} ({new.id}) is scheduled instead of {run.name}"})
    _follow(new, watch)


def _follow(run: "Run", watch: bool) -> None:
    from flows.reruns.again import follow

    if watch:
        state = follow(run)
        show_facts({"done": state})
        if state != "Completed":
            raise typer.Exit(1)


def show_plan(plan: Mapping[str, "Outlook"]) -> None:
    """Prints what each stage would do, and why."""
    lines = [f"{stage:<10} {action:<9} {why}" for stage, (action, why) in plan.items()]
    show_lines([*lines, "only a plan: nothing was done"])


def status(since: Since = _SINCE, flow: OneFlow = None) -> None:
    """Show which runs failed and were not redone since, which are late, wait or are at work."""
    seconds = _seconds(since)
    from flows.server import require_records
    from quickdraw_core.stage import Opened

    require_records()
    with going_on_said():
        run_flow(lambda: _status(seconds, since, flow), Opened())


def _status(seconds: float, since: str, flow: str | None) -> None:
    from flows.reruns.find import find_runs
    from flows.reruns.status import sections

    runs = find_runs(seconds, flow)
    if not runs:
        show_lines([f"no runs in the last {since}, and none planned: quickdraw deploy plans them"])
        return
    for title, section in sections(runs).items():
        if section.rows:
            show_lines([f"{title} ({section.total})" if section.total else title])
            show_table([*section.heads], [[*row] for row in section.rows], numbers=False)
            show_lines(["", *section.after, *[""] * bool(section.after)])


def _seconds(since: str) -> float:
    try:
        return seconds_of(since)
    except ValueError as error:
        raise ConfigError(f"--since {since!r} {error}") from error
