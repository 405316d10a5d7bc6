"""The training loop, read from top to bottom. Every rank runs it; rank 0 writes.

In: a run folder (`run.json`: config, MLflow run) and a store with its pack. Out: a journal of
numbers and checkpoints in the run folder, and both in MLflow. The loop's place is the global
step alone: order, augmentation, dropout and learning rate are functions of it.
"""

from quickdraw_core.errors import StoreError
from quickdraw_core.loading.joined import TrainPack, opened_train_pack
from quickdraw_core.loading.loader import Feed, drawn_rows
from quickdraw_core.stage import Opened
from quickdraw_core.store.store import open_store
from quickdraw_core.tracking.journal import Journal, NoJournal
from quickdraw_core.tracking.samples import recorded
from quickdraw_core.tracking.system_metrics import system_metrics
from quickdraw_core.training.checkpoint import BEST_ARTIFACT, save_checkpoint
from quickdraw_core.training.distributed import Ranks
from quickdraw_core.training.hardware import choose_loader_threads
from quickdraw_core.training.meter import Meter, require_finite
from quickdraw_core.training.network import with_flip
from quickdraw_core.training.plan import Plan, Rows
from quickdraw_core.training.run_folder import RunFolder
from quickdraw_core.training.state import checkpoint_of, open_state
from quickdraw_core.training.step import VALIDATION_BATCH
from quickdraw_core.training.validation import Adjusting


def due(step: int, every: int, last: int) -> bool:
    """Is it time? Every so many steps, and after the last one."""
    return step % every == 0 or step == last


def train_loop(run: RunFolder, ranks: Ranks) -> None:
    """Trains from the latest checkpoint, or from nothing, to the end of the plan."""
    config = run.config
    pack = _open_pack(run)
    plan = Plan.of(config, Rows.read(config, pack, run.path), run.steps)
    threads = choose_loader_threads(config.hardware, ranks.device.type)
    feed = Feed(threads, max(config.hardware.prefetch_batches, threads), ranks.device)
    state = open_state(run, plan, pack, ranks, feed)
    trainer, loader, validations = state.trainer, state.loader, state.validations
    validation_rows = plan.rows.validation[ranks.rank :: ranks.world_size]
    adjusting = Adjusting.of(config, plan.rows.train_counts, ranks.device)
    parts, patience = config.shape.micro_batches_a_rank, config.validation.patience
    batches = iter(loader)
    if config.tracking.record_samples:
        batches = recorded(batches, run.path, ranks.rank, loader.start_step, parts)
    meter = Meter(ranks, config.global_batch_size)
    trainer.network.train()
    with (
        Journal(run.path) if ranks.is_first else NoJournal() as journal,
        system_metrics(journal, config.tracking.system_metrics_seconds),
    ):
        for step in range(loader.start_step, plan.steps):
            done, learning_rate = step + 1, config.optimizer.learning_rate * plan.factor(step)
            meter.add(done, learning_rate, trainer.step(step, batches, parts, learning_rate))

            validating = due(done, plan.every.validate, plan.steps)
            saving = validating or due(done, plan.every.save, plan.steps)
            if saving or due(done, config.tracking.log_every_steps, plan.steps):
                numbers = meter.close() | {"epoch": done / plan.rows.steps_an_epoch}
                journal.write(done, {f"train/{key}": value for key, value in numbers.items()})
            if not saving:
                continue

            with meter.paused():
                trainer.synchronize()
                require_finite("norm of the weights", trainer.weights_norm(), done, learning_rate)
                if validating:
                    held_out = drawn_rows(
                        pack, validation_rows, config.image, VALIDATION_BATCH, feed
                    )
                    judged = with_flip(trainer.evaluated, config)
                    metrics = trainer.validate(judged, held_out, adjusting)
                    require_finite("validation loss", metrics["loss"], done, learning_rate)
                    validations.add(metrics, config.validation.best_by)
                    memory = {"train/memory_megabytes": meter.memory_megabytes()}
                    validated = {f"validation/{k}": v for k, v in metrics.items()}
                    journal.write(done, validated | memory)
                patient = patience is None or validations.since_best < patience
                finished = done == plan.steps or not patient
                if ranks.is_first:
                    checkpoint = checkpoint_of(run, plan, pack, state, done, finished)
                    is_best = validating and validations.is_best
                    path = save_checkpoint(run.path, checkpoint, is_best, config.checkpoints.keep)
                    if is_best:
                        journal.write_file(path, BEST_ARTIFACT)
                ranks.barrier()
            if finished:
                break


def _open_pack(run: RunFolder) -> TrainPack:
    opened = Opened()
    store = open_store(run.config.store, opened)
    pack = opened_train_pack(store, run.config.select, opened)
    if pack.fingerprint != run.store_fingerprint:
        raise StoreError(
            f"the store {run.config.store} changed since the run {run.path} began; "
            "start it over with --fresh"
        )
    return pack
