"""Commands that guess for others: the API and its page."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from quickdraw_core.commands.options import Set, StoreOption, Tracking, config_of, configured_by
from quickdraw_core.terminal.console import show_facts

if TYPE_CHECKING:
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

    Raises `ConfigError` if the port is taken, before the model is loaded, and what opening the
    model and the store raises.
    """
    from quickdraw_core.serving.web.server import address_of, listen

    with listen(config.host, config.port) as listener:
        from quickdraw_core.exporting.open_recognizer import open_recognizer
        from quickdraw_core.serving.slot import ModelSlot
        from quickdraw_core.serving.web.app import create_app
        from quickdraw_core.serving.web.server import run
        from quickdraw_core.stage import Opened
        from quickdraw_core.store.store import open_store

        store = open_store(config.store, Opened()) if config.store else None
        recognizer = open_recognizer(model, tracking_uri, config.batch_threads)
        slot = ModelSlot()
        slot.swap(recognizer)
        address = address_of(listener)
        show_facts(
            {
                "model": f"{recognizer.name}, version {recognizer.version}, "
                f"{len(recognizer.label_map)} words",
                "serving": f"{address} (API: {address}/docs; Ctrl-C ends it)",
            }
        )
        when_ready(address)
        run(create_app(slot, config, store), listener)
