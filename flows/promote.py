"""A challenger + the champion + held-out drawings → who is champion from now on."""

from prefect import flow

from flows.alerts.events import alerting
from flows.alerts.promotions import report_promotion
from flows.artifacts import add_artifact, add_page
from flows.gpus import gpu_slots
from flows.stages import StageTask
from quickdraw_core.promotion.config import PromoteConfig
from quickdraw_core.promotion.decision import PromoteResult
from quickdraw_core.promotion.promote import PROMOTE_STAGE
from quickdraw_core.promotion.summary import promotion_markdown


def _show(result: PromoteResult) -> None:
    add_page("promotion", promotion_markdown, result)
    add_artifact(lambda: report_promotion(result))


promote_stage = StageTask(
    PROMOTE_STAGE,
    "Promotes a model if it is better by more than the noise, and shows why in Prefect's UI.",
    show=_show,
    slots=lambda config: gpu_slots(config.ranks or 1),
)


@flow(
    name="promote",
    flow_run_name="promote {config.model} to {config.alias}",
    on_failure=alerting(),
    on_crashed=alerting(),
)
def promote(config: PromoteConfig) -> PromoteResult:
    """Judges a model against the champion on the same drawings; the better one is champion. A
    model that is no better is no failure: the result's `promoted` tells.
    """
    return promote_stage(config)
