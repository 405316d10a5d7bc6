"""The game against a model, in the browser."""

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quickdraw_core.commands.options import StoreOption, Tracking, configured_by, given
from quickdraw_core.commands.serving import Host, serve_model
from quickdraw_core.errors import ConfigError, QuickdrawError
from quickdraw_core.terminal.console import show_facts

if TYPE_CHECKING:
    from quickdraw_core.storage.location import Location


@configured_by("quickdraw_core.serving.web.config:ServeConfig")
def play(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Bundle, run folder, checkpoint, MLflow run id or models:/NAME@ALIAS; default: "
            "the newest run in the folder runs.",
            show_default=False,
        ),
    ] = None,
    host: Host = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="Port to listen on, 0: any free one; default: 8000, and if that is taken any "
            "free one.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
    tracking_uri: Tracking = None,
) -> None:
    """Draw in the browser, and a model guesses, until Ctrl-C.

    Drawings of others come from the store that the model was trained on, if it is still there.
    """
    from quickdraw_core.serving.web.config import ServeConfig

    model = model or _newest()
    config = ServeConfig.parse(given(locals(), "host", "port", "store"))
    if store is None:
        config = config.updated({"store": _store_of(model)})
    if port is None and _is_taken(config.host, config.port):
        show_facts(
            {"port": f"{config.port} is taken, so any free one; My drawings are kept apart there"}
        )
        config = config.updated({"port": 0})
    serve_model(model, config, tracking_uri, _open if browser else lambda address: None)


def _newest() -> str:
    from quickdraw_core.training.run_folder import RUNS, newest_run

    newest = newest_run()
    if newest is None:
        raise ConfigError(
            f"there is no trained model in {RUNS.absolute()}; name one (quickdraw play MODEL), or "
            "train one: quickdraw demo takes two minutes"
        )
    show_facts({"newest run": str(newest)})
    return str(newest)


def _is_taken(host: str, port: int) -> bool:
    """Whether another program listens there."""
    from quickdraw_core.serving.web.server import listen

    try:
        listen(host, port).close()
    except ConfigError as error:
        return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
    return False


def _store_of(model: str) -> "Location | None":
    """The store that a model was trained on, if it is there and can be read."""
    from quickdraw_core.stage import Opened
    from quickdraw_core.store.store import open_store
    from quickdraw_core.training.run_folder import store_of_model

    try:
        store = store_of_model(Path(model))
        if store is not None:
            open_store(store, Opened())
    except QuickdrawError as error:
        show_facts({"store": f"not used for drawings of others: {error}"})
        return None
    return store


def _open(address: str) -> None:
    """Opens a page, unless only a browser in this terminal could."""
    import webbrowser

    wanted = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform != "linux" or any(os.environ.get(name) for name in wanted):
        webbrowser.open(address)
