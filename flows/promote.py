"""A challenger + the champion + held-out drawings → who is champion from now on."""

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows.gpus import gpu_slots
from flows.policy import worth_retrying
from flows.telling import show, told
from quickdraw_core.evaluation.promote import PromoteConfig
from quickdraw_core.evaluation.promote import promote as run_promotion
from quickdraw_core.evaluation.promotion import PromoteResult, promotion_markdown
from quickdraw_core.training.gpus import gpus_locked


@task(
    name="promote",
    retries=1,
    retry_delay_seconds=10,
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,  # who is champion now is for the registry to say, each time
)
def promote_stage(config: PromoteConfig) -> PromoteResult:
    """Promotes a model where it is better by more than the noise, and shows why in Prefect's UI.

    A model that is no better is no failure: the result's `promoted` tells.
    """
    ranks = config.ranks or 1
    with told("promote"), gpu_slots(ranks), gpus_locked(ranks):
        result = run_promotion(config)
    show(lambda: create_markdown_artifact(promotion_markdown(result), key="promotion"))
    return result


@flow(name="promote", flow_run_name="promote {config.model} to {config.alias}")
def promote(config: PromoteConfig) -> PromoteResult:
    """Judges a model against the champion on the same drawings; the better one is champion."""
    return promote_stage(config)
