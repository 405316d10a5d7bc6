"""The time that a case may take: `make test` stays short because a slow case fails it.

Processor seconds, not seconds on the clock: those depend on what else the machine does. They are
those of this worker, of the processes that it waited for, and of those that were forked for it.
What is done once, by whichever case comes first, does not count: compiling by numba, and making
what all cases share. Where a processor is slower than the one that the limits were set on, or does
less because its other half is busy, the limits are as much higher (`slowness`).
"""

import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from compiling import COMPILING
from forkserver import LEDGER

SECONDS = 5.0
"""Of set-up, call and tear-down each."""
REFERENCE = 0.016
"""Seconds that `_work` takes on the processor that the limits were set on, an AMD EPYC, quiet."""
_NOTED = 1.0
"""Seconds of a part of a case after which it is measured how slow the processor is."""

LONGER = {
    "test_bundle_parity.py": (20.0, "a thousand drawings, by two runtimes"),
    "test_bundle.py": (12.0, "torch's first export in a process takes seconds"),
    "test_bundle.py::test_a_network_in_integers_of_8_bits_is_smaller_and_guesses_nearly_alike": (
        12.0,
        "quantizes a network, and guesses by it",
    ),
    "test_compiled.py::test_what_is_compiled_into_a_function_may_not_be_older_than_its_source": (
        15.0,
        "interpreters of their own compile",
    ),
    "test_loading.py::test_memory_does_not_grow_with_the_number_of_batches": (
        12.0,
        "4,000 batches",
    ),
    "test_export.py": (20.0, "a training, an evaluation with its report, and exports"),
    "test_imports.py::test_a_bundle_guesses_without_torch_mlflow_and_dask": (
        15.0,
        "an export, and an interpreter of its own",
    ),
    "test_pipeline.py": (90.0, "the pipeline from end to end, once for the file"),
    "test_sweep.py": (60.0, "a sweep of three rows by the command, twice"),
    "test_submission.py": (15.0, "a training of 34 classes, once for the file"),
    "test_precision.py": (60.0, "evaluations in both arithmetics, once for the file"),
    "test_training.py": (15.0, "a training of two ranks, once for the file"),
    "test_store_objects.py": (30.0, "a training and its judgement in an object store"),
    "test_tracking_mlflow.py": (15.0, "MLflow's database, and the end of its server"),
    "test_imports.py": (60.0, "fifteen commands of four interpreters, once for the file"),
    "test_imports.py::test_each_process_of_a_training_loads_what_it_uses": (
        40.0,
        "a training of interpreters of their own",
    ),
    "test_imports.py::test_a_launcher_that_forks_its_ranks_does_not_begin_cuda": (
        15.0,
        "an interpreter of its own loads torch and its compiler",
    ),
    "test_either_way.py": (60.0, "nine commands, each directly and as a flow, once for the file"),
    "test_flows.py": (60.0, "Prefect's server, once for the file"),
    "test_output_files.py::test_pipes_are_written_to_and_symlinks_followed": (
        20.0,
        "one of them is an evaluation with its report",
    ),
    "test_bench_input.py": (20.0, "60,000 rows of all classes, once for the file"),
    "test_bench_input.py::test_drawings_are_as_long_as_the_real_ones": (
        12.0,
        "statistics of 60,000 drawings",
    ),
    "test_ingest.py::test_ingest_needs_neither_torch_nor_mlflow": (
        12.0,
        "an interpreter of its own ingests",
    ),
    "test_store_objects.py::test_a_killed_ingest_is_continued_and_keeps_its_holdout_rule": (
        20.0,
        "three ingests through an object store",
    ),
    "test_ingest_faults.py::test_a_run_killed_at_random_moments_comes_to_the_same_store": (
        20.0,
        "an ingest is killed twelve times",
    ),
    "test_ingest_faults.py::test_a_full_disk_is_said_and_more_room_is_all_it_takes": (
        20.0,
        "two interpreters of their own ingest, in a namespace",
    ),
    "test_pipeline.py::test_evaluate_by_run_id_agrees_with_the_pipeline": (
        20.0,
        "an evaluation with its report",
    ),
    "test_pipeline.py::test_an_evaluation_that_mlflow_does_not_take_is_still_made_and_says_so": (
        20.0,
        "an evaluation with its report, and the time that MLflow is waited for",
    ),
    "test_store_objects.py::test_workers_elsewhere_write_to_the_bucket_themselves": (
        30.0,
        "Dask's scheduler and worker, interpreters of their own",
    ),
    "test_store_objects.py::test_the_pack_is_built_once_on_each_machine": (
        30.0,
        "two processes build a pack, and compile the readers anew",
    ),
    "test_models.py::test_gradients_reach_all_of_it_the_loss_falls_and_the_state_dict_tells_all": (
        12.0,
        "vgg11 has 61 million weights, and each of them gets a gradient and a step",
    ),
    "test_models.py::test_a_network_is_exported_for_batches_of_any_size": (
        12.0,
        "torch's first export in a process takes seconds",
    ),
    "test_models.py::test_the_tables_are_read_without_torchvision_and_no_global_figure_is_made": (
        15.0,
        "an interpreter of its own imports torch and matplotlib",
    ),
    "test_ingest_inputs.py::test_real_raw_drawings_become_their_simplified_twins": (
        30.0,
        "8,000 real drawings from the raw file to the store, and their twins",
    ),
    "test_scan.py::test_it_computes_on_threads_and_on_processes": (
        15.0,
        "worker processes load the compiled readers anew",
    ),
    "test_judging.py::test_mlflow_gets_the_numbers_files_and_intervals_of_every_use_of_a_model": (
        20.0,
        "four evaluations with their reports, delivered to MLflow",
    ),
    "test_judging.py::test_a_lost_process_is_an_error_and_takes_the_others_along": (
        15.0,
        "three processes load a model, and one is killed",
    ),
    "test_tracking_mlflow.py::"
    "test_a_server_away_at_start_in_the_middle_and_at_the_end_gets_every_point_once": (
        20.0,
        "MLflow's server starts three times",
    ),
    "test_secrets.py::test_a_training_writes_no_password": (
        15.0,
        "a training whose MLflow refuses it, with all that it writes",
    ),
    "test_store_objects.py::test_a_model_is_trained_and_judged_with_everything_in_a_bucket": (
        30.0,
        "the chain from ingest to judgement in an object store",
    ),
    "test_store_objects.py::test_a_line_that_is_cut_for_a_while_costs_nothing": (
        30.0,
        "an ingest by worker processes through a line that is cut",
    ),
    "test_store_objects.py::test_the_same_again_does_nothing_and_growing_reads_what_is_new": (
        15.0,
        "three ingests through an object store",
    ),
    "test_store_objects.py::"
    "test_a_store_that_cannot_be_reached_is_neither_damaged_nor_made_anew": (
        15.0,
        "two ingests through an object store",
    ),
    "test_store_objects.py::test_the_commands_take_an_address": (
        15.0,
        "an ingest and four commands, with an object store",
    ),
    "test_store_objects.py::test_damage_is_found_and_mended_by_ingesting_again": (
        30.0,
        "two ingests through an object store",
    ),
    "test_temporary_server.py::test_it_answers_and_ends_with_the_command": (
        60.0,
        "interpreters of its own import Prefect and its server",
    ),
    "test_training.py::test_the_switches_train": (
        12.0,
        "one of them is a transformer over 576 points",
    ),
}
"""`file::test` of those that may take longer, or `file` where its set-up may, which falls to
whichever case comes first: how many seconds, and why."""


_uncounted = 0.0


def spent() -> float:
    """Processor seconds that count, up to now."""
    try:
        forked = sum(map(float, Path(os.environ[LEDGER]).read_text().split()))
    except FileNotFoundError:
        forked = 0.0
    return sum(os.times()[:4]) + forked - COMPILING.seconds - _uncounted


@contextmanager
def uncounted() -> Iterator[None]:
    """A block whose time counts for no case: it makes what all of them share."""
    global _uncounted
    begun = spent()
    try:
        yield
    finally:
        _uncounted += spent() - begun


def slowness() -> float:
    """How many times longer this processor takes now than the one of the limits: 1 or more."""
    # Where more waits than the cores have halves, each process has but half of a core's power.
    crowded = 2.0 if os.getloadavg()[0] > 2 * len(os.sched_getaffinity(0)) else 1.0
    return crowded * max(1.0, min(_work() for _ in range(5)) / REFERENCE)


def _work() -> float:
    """Processor seconds of a fixed piece of work, of the kind that tests do."""
    begun = time.thread_time()
    words: dict[str, list[int]] = {}
    for number in range(40_000):
        words.setdefault(str(number % 997), []).append(number)
    np.sort(np.arange(200_000)[::-1] * 0.5 % 997)
    return time.thread_time() - begun


class Budget:
    """A plugin of one worker: fails each part of a case that took too long.

    limits: whether it does. Where a few cases run alone, in the first process, each of them may be
    the one that imports and compiles what the others use, too; then it only counts.
    """

    def __init__(self, limits: bool) -> None:
        self._limits, self._before, self._slowness = limits, 0.0, 1.0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        """Leaves out what was spent between two cases, such as the imports before the first."""
        self._before = spent()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Fails a part that took too long, and keeps its time for reports."""
        report = yield
        before, self._before = self._before, spent()
        # What ends now but was forked for an earlier case did not compute in this one's time.
        seconds = min(self._before - before, report.duration * len(os.sched_getaffinity(0)))
        report.user_properties.append((f"cpu_{report.when}", round(seconds, 2)))
        name = f"{item.path.name}::{getattr(item, 'originalname', item.name)}"
        limit = LONGER.get(name, (SECONDS, ""))[0]
        if report.when != "call":
            limit = max(limit, LONGER.get(item.path.name, (SECONDS, ""))[0])
        is_limited = not any(map(item.get_closest_marker, ("services", "soak", "stack")))
        is_limited &= self._limits and report.passed
        if seconds < _NOTED:
            return report
        # It may have been slow then, and not now: what it was after the long case before counts.
        slowness_before, self._slowness = self._slowness, slowness()
        if is_limited and seconds > limit * max(slowness_before, self._slowness):
            report.outcome = "failed"
            report.longrepr = (
                f"the {report.when} of {name} took {seconds:.1f} processor seconds, and "
                f"{limit:.0f} are allowed: make it smaller, move it to another suite, or give the "
                "reason in LONGER of tests/budget.py"
            )
        return report
