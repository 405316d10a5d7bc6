"""The alert of a promotion. A module of its own: ingest, which alerts too, loads none of this."""

from prefect.runtime import flow_run

from flows.alerts.events import TAG, send
from flows.alerts.messages import Alert
from quickdraw_core.promotion.decision import PromoteResult


def report_promotion(result: PromoteResult) -> None:
    """Sends an event if a promotion in a deployment's run changed the champion, or found the new
    model worse by more than the noise.
    """
    alert = promotion_alert(result)
    if alert is not None and TAG in (flow_run.tags or ()):
        run_id = str(flow_run.id)
        once = f"{run_id}/{flow_run.run_count}/{alert.kind}"
        send(alert, run_id, str(flow_run.name), once)


def promotion_alert(result: PromoteResult) -> Alert | None:
    """Of a promotion that changed the champion, or found the new model worse than it by more than
    the noise; None if there is nothing to say.
    """
    if result.dry_run:
        return None
    page = [f"MLflow: {result.mlflow_page}"] if result.mlflow_page else []
    head = "\n".join([result.reason, *page])
    if result.promoted:
        return Alert("champion", f"quickdraw: the {result.alias} of {result.name} changed", head)
    comparison = result.comparison
    difference = comparison.differences["map_at_3"] if comparison else None
    if difference is None or not difference.significant or difference.gain >= 0:
        return None
    subject = f"quickdraw: accuracy fell below that of the {result.alias} of {result.name}"
    return Alert("accuracy", subject, head)
