import json
import re
from pathlib import Path

import pytest
from pydantic import Field

from quickdraw_core.assignments import flattened, nested, parse_assignments
from quickdraw_core.config import Config
from quickdraw_core.errors import ConfigError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.modeling.models import MODELS
from quickdraw_core.recipes import RecipedConfig, find_recipe
from quickdraw_core.training.config import DECISIVE, TrainConfig
from quickdraw_core.training.former_keys import FORMER_KEYS, regrouped

FORMER = json.loads(
    (Path(__file__).with_name("kept") / "config-ungrouped.json").read_text("utf-8")
)
"""The configuration of a training as it was stored before its options were grouped: recipe
`laptop340` with some values of its own.
"""


class Inner(Config):
    shear: float = Field(0.1, ge=0, description="slant")


class Outer(Config):
    epochs: int = Field(3, ge=1, description="passes")
    name: str = "cat"
    inner: Inner = Inner()


def test_assignments_nest_and_read_json() -> None:
    changes = parse_assignments(["inner.shear=0.5", "epochs=7", "name=hot dog"])
    assert changes == {"inner": {"shear": 0.5}, "epochs": 7, "name": "hot dog"}
    changed = Outer().updated(changes)
    assert (changed.epochs, changed.name, changed.inner.shear) == (7, "hot dog", 0.5)
    assert Outer().epochs == 3


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epoch=3", r"unknown option 'epoch': did you mean 'epochs'\?"),
        ("inner.shaer=1", r"unknown option 'inner\.shaer': did you mean 'inner\.shear'\?"),
        ("epochs=0", r"option 'epochs': .*greater than or equal to 1, found 0"),
        ("epochs=many", r"option 'epochs': .*valid integer.*found 'many'"),
        ("epochs", r"--set takes key=value, found 'epochs'"),
    ],
)
def test_a_wrong_option_is_one_line_that_helps(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Outer().updated(parse_assignments([assignment]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs=true", "option 'epochs': must be a number, found True"),
        ("epochs=Infinity", "option 'epochs': Input should be a finite number"),
        ("optimizer.learning_rate=NaN", "option 'optimizer.learning_rate': Input should be"),
        ("epochs=1e400", "option 'epochs': Input should be a finite number"),
        ("seed=9223372036854775808", "option 'seed': Input should be less than"),
        ("seed=-1", "option 'seed': Input should be greater than or equal to 0"),
        ("seed=1.5", "option 'seed': Input should be a valid integer"),
        ("epochs=1,5", "option 'epochs': Input should be a valid number"),
        ("model.flip_tta=2", "option 'model.flip_tta': Input should be a valid boolean"),
        (
            "validation.patience=0",
            "option 'validation.patience': Input should be greater than or equal to 1",
        ),
        (
            "hardware.timeout_seconds=5m",
            "option 'hardware.timeout_seconds': Input should be a valid integer",
        ),
    ],
)
def test_what_would_mean_something_else_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.parse({"store": "s"}).updated(parse_assignments([assignment]))


@pytest.mark.parametrize("none", ["none", "None", "NULL", "null"])
def test_none_is_no_value_where_there_may_be_none(none: str) -> None:
    names = ("run_dir", "augment", "validation.patience", "model.pretrained")
    changes = parse_assignments(f"{name}={none}" for name in names)
    values = {"store": "s", "run_dir": "r", "validation": {"patience": 3}}
    config = TrainConfig.parse(values).updated(changes)
    assert all(flattened(config.model_dump())[name] is None for name in names)
    asked = TrainConfig.parse({"store": "s", "tracking": {"uri": none}})
    assert asked.tracking.uri == "none"
    assert TrainConfig.parse({"store": "s", "run_dir": "./none/x"}).run_dir == Path("none/x")


@pytest.mark.parametrize("key", FORMER_KEYS)
def test_a_former_key_is_refused_with_its_new_one_or_is_a_short_form(key: str) -> None:
    config = find_recipe("report").updated({"model": {"pretrained": None}})
    value = FORMER[key]
    if key in TrainConfig.model_fields:
        changed = config.updated({key: value})
        assert flattened(changed.model_dump())[FORMER_KEYS[key]] == value
        before, after = config.model_dump()[key], changed.model_dump()[key]
        assert before | {"name": value} == after
        return
    with pytest.raises(ConfigError, match=f"^option '{key}' is now {FORMER_KEYS[key]}$"):
        config.updated({key: value})
    with pytest.raises(ConfigError, match=f"is now {FORMER_KEYS[key]}$"):
        RecipedConfig.model_validate({"recipe": "laptop", key: value})


@pytest.mark.parametrize("order", [1, -1])
def test_a_short_form_goes_with_other_values_of_its_group(order: int) -> None:
    given = ["model=resnet34", "model.small_stem=true"][::order]
    model = find_recipe("report").updated(parse_assignments(given)).model
    assert (model.name, model.small_stem, model.pretrained) == ("resnet34", True, "imagenet")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("recipe", ["laptop", "full"])
def test_another_model_brings_what_it_reads_unless_an_encoding_is_named(
    recipe: str, model: str
) -> None:
    before = find_recipe(recipe)
    reads = MODELS[model].reads
    changed = before.updated(parse_assignments([f"model={model}"]))
    assert changed.image.holds == reads
    assert changed.image.side_px == before.image.side_px
    if before.image.holds == reads:
        assert changed.image == before.image
    laid = RecipedConfig.parse({"recipe": recipe, "model": {"name": model}}).whole()
    assert laid.image == changed.image
    assert RecipedConfig.parse({"model": model}).whole().image.holds == reads
    given = parse_assignments([f"model.name={model}", "image.encoding=gray"])
    if reads == "picture":
        assert before.updated(given).image.encoding == "gray"
    else:
        with pytest.raises(ConfigError, match=f"{model} reads a drawing's {reads}, the encoding"):
            before.updated(given)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("lerning_rate=1", "'lerning_rate': did you mean 'optimizer.learning_rate'"),
        ("optimizer.lr=1", "'optimizer.lr': known: optimizer.clip_norm, optimizer.ema_decay"),
        ("augment.sheer=1", "'augment.sheer': did you mean 'augment.shear'"),
        ("model.small_stem=3", "option 'model.small_stem': Input should be a valid boolean"),
        ("optimizer.clip_norm=true", "option 'optimizer.clip_norm': must be a number"),
        ("model=resnet", "option 'model.name': unknown name; did you mean 'resnet34'"),
        ("model.name=[1]", "option 'model.name': Input should be a valid string"),
    ],
)
def test_a_fault_in_a_group_names_the_whole_key(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        TrainConfig().updated(parse_assignments([assignment]))


def test_what_decides_a_run_is_said_of_every_group() -> None:
    others = {"store", "run_dir", "fresh", "checkpoints", "hardware", "hosts", "tracking"}
    assert set(TrainConfig.model_fields) == DECISIVE | others
    assert not DECISIVE & others


def test_a_stored_configuration_of_before_is_regrouped_whole() -> None:
    found = TrainConfig.parse(regrouped(FORMER))
    assert regrouped(found.model_dump(mode="json")) == found.model_dump(mode="json")
    assert found.validation.per_class is None  # there was no limit then
    grouped = found.model_dump(mode="json")
    del grouped["validation"]["per_class"]
    assert regrouped(grouped) == found.model_dump(mode="json")
    flat = flattened(found.model_dump(mode="json"))
    expected = {FORMER_KEYS.get(key, key): value for key, value in FORMER.items()}
    later = {"max_steps": None, "max_minutes": None, "validation.per_class": None}
    later |= dict.fromkeys(("select.exclude", "select.exclude_sha256", "select.fold"))
    later |= dict.fromkeys(("select.also", "select.also_fingerprint"))
    later |= {"model.branch_drop_share": 0.0, "model.dropout": None, "distill": None}
    later |= {"hosts.dask": None, "hosts.tls": None, "hosts.require": None, "hosts.min_nodes": 1}
    later |= {"loss.tau": 1.0, "validation.logit_adjustment": None, "augment.warp": 0.0}
    later |= {"augment.partial_share": 0.0, "augment.stroke_rotation_degrees": 0.0}
    later |= {"augment.stroke_stretch": 0.0, "augment.stroke_shift": 0.0}
    assert flat == flattened(nested(expected)) | later


@pytest.mark.parametrize(
    "rows", ["head:\u0663", "head:1_000", "head:1e3", "head:-5", "spread:2X5"]
)
def test_rows_in_other_spellings_are_refused(rows: str) -> None:
    with pytest.raises(ConfigError, match="rows must be all"):
        IngestConfig.parse({"source": "x", "rows": rows})
