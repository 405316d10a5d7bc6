"""The options of commands: help and default are those of the configuration's fields."""

import pytest
from typer.main import get_group

from quickdraw_core.cli import app
from quickdraw_core.commands.options import config_of
from quickdraw_core.errors import ConfigError
from quickdraw_core.evaluation.config import EvaluateConfig

COMMANDS = get_group(app).commands


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_says_what_it_is(name: str) -> None:
    command = COMMANDS[name]
    with command.make_context(name, [], resilient_parsing=True) as context:
        shown = " ".join(command.get_help(context).split())
    for param in command.params:
        if not getattr(param, "hidden", False):
            text = str(param.help)
            assert " ".join(text.split()) in shown
            assert text.endswith(".")
    assert "[default: {}]" not in shown
    assert "[default: ()]" not in shown


def test_the_help_shows_the_defaults_of_the_configuration() -> None:
    command = COMMANDS["evaluate"]
    with command.make_context("evaluate", [], resilient_parsing=True) as context:
        shown = " ".join(command.get_help(context).split())
    assert "Held-out drawings a class. [default: 100]" in shown
    assert "[default: fp32]" in shown


def test_an_option_that_was_not_given_has_the_default_of_its_field() -> None:
    assert config_of(EvaluateConfig, {"per_class": None, "fresh": True}) == EvaluateConfig()
    config = config_of(EvaluateConfig, {"per_class": 5, "tta": "flip"}, ["per_class=6"])
    assert (config.per_class, config.tta) == (6, "flip")
    with pytest.raises(ConfigError, match="per_class"):
        config_of(EvaluateConfig, {"per_class": 0})
