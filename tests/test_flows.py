"""The policy around the stages; that flows run is tested with the command line."""

import pytest
from prefect.states import Completed, Failed

from flows.policy import worth_retrying
from quickdraw_core.errors import (
    CheckpointError,
    ConfigError,
    DivergedError,
    InputError,
    TrainingError,
    UnreachableError,
)


@pytest.mark.parametrize(
    "error", [InputError("x"), ConfigError("x"), CheckpointError("x"), DivergedError("x")]
)
def test_what_would_come_to_the_same_end_is_not_tried_again(error: Exception) -> None:
    assert not worth_retrying(None, None, Failed(data=error))


@pytest.mark.parametrize(
    "error", [TrainingError("x"), UnreachableError("x"), OSError("x"), RuntimeError("x")]
)
def test_what_broke_is_tried_again(error: Exception) -> None:
    assert worth_retrying(None, None, Failed(data=error))


def test_what_went_well_is_not() -> None:
    assert not worth_retrying(None, None, Completed(data=1))
