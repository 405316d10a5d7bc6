"""Commands that guess for others: the API and its page."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from quickdraw_core.commands.options import Set, StoreOption, Tracking, config_of, configured_by
from quickdraw_core.terminal.console import show_facts, show_lines

if TYPE_CHECKING:
    from quickdraw_core.serving.slot import ModelSlot
    from quickdraw_core.serving.web.config import ServeConfig

ServedModel = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Bundle, run folder, checkpoint, MLflow run id or models:/NAME@ALIAS.",
    ),
]
Host = Annotated[str | None, typer.Option("--host")]
Port = Annotated[int | None, typer.Option("--port")]
Threads = Annotated[int | None, typer.Option("--threads")]


@configured_by("quickdraw_core.serving.web.config:ServeConfig")
def serve(
    model: ServedModel,
    host: Host = None,
    port: Port = None,
    store: StoreOption = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            metavar="ORIGIN",
            help="Origin, such as https://example.org, whose pages may call the API; repeatable.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="Name, such as play.example.org, that requests may call this server; repeatable.",
        ),
    ] = None,
    threads: Threads = None,
    tracking_uri: Tracking = None,
    changes: Set = None,
) -> None:
    """Serve a model: the API and the game, until Ctrl-C."""
    from quickdraw_core.serving.web.config import ServeConfig

    config = config_of(ServeConfig, locals(), changes)
    serve_model(model, config, tracking_uri, lambda address: None)


def serve_model(
    model: str,
    config: "ServeConfig",
    tracking_uri: str | None,
    when_ready: Callable[[str], None],
) -> None:
    """Serves a model until Ctrl-C or SIGTERM. when_ready: called with the address, as in
    `http://127.0.0.1:8000`, once it takes connections.

    A registered model that is named by an alias may come later, and another one takes its place
    once the alias moves. The store may come later, too. Raises `ConfigError` if the port is taken,
    before the model is loaded, and what opening the model raises.
    """
    from quickdraw_core.serving.web.server import address_of, listen

    with listen(config.host, config.port) as listener, ExitStack() as ending:
        from quickdraw_core.serving.slot import ModelSlot
        from quickdraw_core.serving.web.app import create_app
        from quickdraw_core.serving.web.server import run

        slot = ModelSlot()
        served = _fill(slot, model, tracking_uri, config.batch_threads, ending)
        address = address_of(listener)
        facts = {"model": served, "serving": f"{address} (API: {address}/docs; Ctrl-C ends it)"}
        show_facts(facts | _problem_of_store(config))
        when_ready(address)
        run(create_app(slot, config), listener)


def _problem_of_store(config: "ServeConfig") -> dict[str, str]:
    """What keeps the store from being read, which need not be there yet; empty if nothing does."""
    from quickdraw_core.errors import StoreError
    from quickdraw_core.stage import Opened
    from quickdraw_core.store.store import open_store

    if config.store is None:
        return {}
    try:
        open_store(config.store, Opened())
    except StoreError as error:
        return {"store": f"not read yet, looked at again when drawings are asked for: {error}"}
    return {}


def _fill(
    slot: "ModelSlot", model: str, tracking_uri: str | None, threads: int, ending: ExitStack
) -> str:
    """Puts a model in a slot, or begins to watch a registered one of an alias, which ends with
    `ending`; returns what is served.
    """
    from quickdraw_core.exporting.open_recognizer import export_version, open_recognizer
    from quickdraw_core.tracking.address import resolve_tracking_uri
    from quickdraw_core.tracking.registry import is_by_alias, is_registered

    if is_registered(model) and is_by_alias(model):
        from quickdraw_core.serving.champion import CHECK_SECONDS, ChampionWatch

        uri = resolve_tracking_uri(tracking_uri)
        watch = ChampionWatch(model, uri, slot, export_version, _say, threads)
        watch.start()
        ending.callback(watch.stop)
        return f"{model}, looked up every {CHECK_SECONDS:.0f} seconds"
    recognizer = open_recognizer(model, tracking_uri, threads)
    slot.swap(recognizer)
    return f"{recognizer.name}, version {recognizer.version}, {len(recognizer.label_map)} words"


def _say(line: str) -> None:
    show_lines([line])
