"""Named, complete training configurations: one function a recipe, one row of `RECIPES` each.

A recipe is the values that differ from `TrainConfig`'s defaults; its docstring says what it
reaches, in what time, on what. `--set` changes single values of it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from quickdraw_core.errors import ConfigError, nearest
from quickdraw_core.training.config import TrainConfig

Values = dict[str, Any]


def demo() -> Values:
    """The generated doodles of `quickdraw demo`: 24 words, 500 of each, in half a minute.

    Test MAP@3 0.97 on 100 held-out drawings a class.
    """
    return {"epochs": 8, "loss": {"label_smoothing": 0.05}}


def laptop() -> Values:
    """Some tens of classes with some hundreds of drawings each, on two CPU cores.

    The 35 richest real classes (20,093 train drawings of 412 to 4,534 a class): validation MAP@3
    0.972 on all 1,539 drawings (standard error 0.004; trained another time 0.970; 0.966 with 26
    epochs), 0.957 on 3,500 test drawings, after 11 min 35 s beside other work; 9 minutes
    undisturbed, by `--plan`.
    `docs/experiments.md` has what each of its choices gave.
    """
    return {
        "model": {"name": "sketch_fusion", "flip_tta": True},
        "image": {"encoding": "order_points"},
        "augment": {
            "stroke_rotation_degrees": 6,
            "stroke_stretch": 0.1,
            "stroke_shift": 4,
            "warp": 8,
        },
        "loss": {"label_smoothing": 0.1},
        "optimizer": {"name": "muon", "learning_rate": 0.01, "ema_decay": 0.998},
        "epochs": 30,
        "hardware": {"ranks": 1},
        "validation": {"every_epochs": 2},
    }


def laptop340() -> Values:
    """Many classes with few drawings each, on two CPU cores.

    All 340 classes of the public sample (35,536 train drawings, median 21 a class; ingested with
    `--set max_test_share=0.1 --set validation_share=0.1`): in three trainings validation MAP@3
    0.840 to 0.841 on all 4,280 drawings, 0.639 to 0.646 as the mean over classes (standard error
    about 0.015); 0.845 and 0.665 on 2,432 test drawings of 280 classes. Two of the trainings had
    nothing beside them: 19 and 20 minutes.
    """
    few = {"stroke_drop_share": 0.05, "point_noise": 1.5, "rotation_degrees": 15}
    return laptop() | {
        "model": laptop()["model"] | {"branch_drop_share": 0.15},
        "augment": laptop()["augment"] | few,
        "loss": {"name": "balanced_softmax", "tau": 0.7, "label_smoothing": 0.1},
        "epochs": 28,
        "validation": {"every_epochs": 3, "best_by": "map_at_3_class_mean"},
    }


def report() -> Values:
    """The original report's settings: ResNet-18 pretrained on ImageNet and squeezed to one
    channel, gray at 224 px, 4,000 drawings a class, cross entropy, SGD with momentum 0.9 and a
    learning rate of 0.0002 that is halved at steps 5,000, 12,000 and 18,000, batches of 128.

    The report gives 89 % of held-out drawings with the word among three guesses. Not run here:
    at 340 classes two epochs are 21,250 steps of ResNet-18 at 224 px, hours of the one GPU that
    it takes without `--nproc`. The other rows of its table are `--set model=resnet34`,
    `densenet121` or `vgg11`, `--set optimizer=adam`, `--set schedule=step`,
    `--set loss=softmax_reciprocal`. Without a network give the weights as a file,
    `--set model.pretrained=FILE`, or do without, `--set model.pretrained=none`.
    """
    return {
        "model": {"name": "resnet18", "pretrained": "imagenet"},
        "image": {"encoding": "gray", "side_px": 224},
        "select": {"per_class": 4_000},
        "augment": None,
        "loss": "cross_entropy",
        "optimizer": {"name": "sgd", "learning_rate": 0.0002},
        "schedule": "multistep",
        "epochs": 2,
        "global_batch_size": 128,
        "micro_batch_size": 32,
        "hardware": {"ranks": 1},
        "validation": {"every_steps": 1_000},
    }


def full() -> Values:
    """All 50 million drawings of 340 classes on one host of 8 GPUs: picture and points, ResNet-34
    with the stem for small images beside the network along the strokes, `order_points` at 64 px,
    12 epochs of global batches of 4,096. Not run here.

    Of what the small trainings showed (`docs/experiments.md`) it has both inputs, Muon, the
    running average and flip TTA. It does without what helps with few drawings (strokes changed
    one by one, a branch left out, teachers, pseudo-labels), since none comes more than 12 times.

    The arithmetic: 47 million train drawings. The network takes 4.65 G multiply-adds a drawing
    (`torch.utils.flop_counter`), 6 × 4.65 = 27.9 GFLOP with the backward pass. An epoch is
    1.3e18 FLOP. At 125 TFLOP/s a GPU (40 % of an A100's 312 in bf16) that is 1,310 s, 36,000
    images/s; 12 epochs are 4.4 hours. On 8 H100 at 40 % of 989 it is 1.4 hours. 40 % is what a
    network can reach: the rate at which NVIDIA trains ResNet-50 on 8 A100 (16,621 images/s of
    224 px in mixed precision, DeepLearningExamples) is 16 %, and makes it 11 hours. At 40 % each
    A100 asks for 4,500 images/s, which one core draws 40 times over (`benchmarks/RESULTS.md`).
    The 34,000 validation drawings take a third of a second, every quarter of an epoch. Muon's own
    step is 70 GFLOP in float32, which an A100 does in 4 ms at best, of 115 ms a step; every GPU
    does all of it, so for many hosts set `optimizer=adamw`.
    """
    return {
        "model": {"name": "sketch_fusion_resnet34", "flip_tta": True},
        "image": {"encoding": "order_points", "side_px": 64},
        "loss": {"label_smoothing": 0.05},
        "optimizer": {
            "name": "muon",
            "learning_rate": 0.003,
            "weight_decay": 0.05,
            "clip_norm": 1.0,
            "ema_decay": 0.9995,
        },
        "epochs": 12,
        "global_batch_size": 4_096,
        "micro_batch_size": 512,
        "hardware": {"ranks": 8},
        "validation": {"every_epochs": 0.25},
        "checkpoints": {"every_steps": 1_000},
        "tracking": {"log_every_steps": 50},
    }


def challenge() -> Values:
    """A network of the kind that did best in Kaggle's challenge, for its test set: ResNeXt-50 on
    `order` at 128 px, 16 epochs of all drawings on 8 GPUs. Not run here.

    Published for single networks of this kind on all drawings at 128 px (SE-ResNeXt-50, public
    leaderboard): 0.942 to 0.944. `docs/submission.md` has the sources and the other two networks
    of an ensemble. From random weights: those of ImageNet made little difference there. AdamW, not
    Muon, whose products in float32 would take half as long as this network (390 GFLOP a step).

    The arithmetic: 1.38 G multiply-adds a drawing (`torch.utils.flop_counter`), 8.3 GFLOP with the
    backward pass; an epoch of 47 million is 3.9e17 FLOP. At 40 % of 312 TFLOP/s, 8 A100 take
    390 s for it, 1.7 hours for all; 8 H100 at 40 % of 989 half an hour. Grouped convolutions are
    far from 40 %: at the rate of NVIDIA's ResNeXt-101 on 8 A100 (6,888 images/s of 224 px, 13 %,
    DeepLearningExamples) it is 5.2 hours. At 40 % an A100 asks for 15,000 images/s of 128 px; a
    core draws 93,000 (`benchmarks/RESULTS.md`).
    """
    return full() | {
        "model": {"name": "resnext50_32x4d", "flip_tta": True},
        "image": {"encoding": "order", "side_px": 128},
        "optimizer": full()["optimizer"] | {"name": "adamw", "learning_rate": 0.001},
        "epochs": 16,
    }


def audit() -> Values:
    """The models of `quickdraw audit`: one a fold, good enough to see what does not fit its word.

    1,000 drawings of a class at most, so that a store of any size takes the same time. On three
    quarters of the 35 richest real classes: validation MAP@3 0.930 to 0.939 after 2 min 30 s on
    one core.
    """
    return {
        "loss": {"label_smoothing": 0.05},
        "optimizer": {"name": "muon", "learning_rate": 0.01},
        "select": {"per_class": 1_000},
        "epochs": 8,
        "hardware": {"ranks": 1},
        "validation": {"every_epochs": 4},
    }


RECIPES: dict[str, Callable[[], Values]] = {
    "demo": demo,
    "laptop": laptop,
    "laptop340": laptop340,
    "report": report,
    "full": full,
    "challenge": challenge,
    "audit": audit,
}


def find_recipe(name: str) -> TrainConfig:
    """The configuration of a recipe. Raises `ConfigError` for an unknown name."""
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}: {nearest(name, RECIPES)}")
    return TrainConfig.parse(RECIPES[name]())


class RecipedConfig(TrainConfig):
    """A training as deployments name it: a recipe, and what differs from it."""

    recipe: str | None = Field(
        None, description="row of RECIPES that the other values are laid over; none: the defaults"
    )

    @model_validator(mode="before")
    @classmethod
    def _laid_over_recipe(cls, values: Any) -> Any:
        if isinstance(values, TrainConfig):
            return values.model_dump()
        if not isinstance(values, Mapping):
            return values
        if not isinstance(values.get("recipe"), str):
            return cls.layered(TrainConfig().model_dump(), values)
        try:
            recipe = find_recipe(values["recipe"])
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return cls.layered(recipe.model_dump(), values)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Without defaults, also of the groups: a form that is filled with them would lay them
        over the recipe.
        """
        schema = handler(core_schema)
        _drop_defaults(handler.resolve_ref_schema(schema), handler)
        return schema

    def whole(self) -> TrainConfig:
        """The training itself."""
        return TrainConfig.parse(self.model_dump(exclude={"recipe"}))


def _drop_defaults(schema: JsonSchemaValue, handler: GetJsonSchemaHandler) -> None:
    for field in schema.get("properties", {}).values():
        field.pop("default", None)
        for kind in (field, *field.get("anyOf", ())):
            if "$ref" in kind:
                _drop_defaults(handler.resolve_ref_schema(kind), handler)
