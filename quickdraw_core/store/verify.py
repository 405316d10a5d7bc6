"""Checks a store by reading all of it again.

Manifest, files, drawings, quarantine, receipts, holdout, duplicates, pack: a fault of one does
not keep the others from being checked. Memory holds a file a thread, and the filter of the search
for duplicates, whatever the store's size.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pyarrow as pa

from quickdraw_core.errors import QuickdrawError, and_more, first_few
from quickdraw_core.progress import Bar, progress
from quickdraw_core.stage import Opened
from quickdraw_core.storage.factory import storage_of
from quickdraw_core.storage.location import Location
from quickdraw_core.store.duplicates import DuplicateSearch, find_duplicates
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.manifest import (
    CROISSANT_NAME,
    MANIFEST_NAME,
    PREVIOUS_NAME,
    README_NAME,
    UNFINISHED,
    Manifest,
    card_fault,
    readme_fault,
)
from quickdraw_core.store.store import Store
from quickdraw_core.store.verify_manifest import manifest_faults
from quickdraw_core.store.verify_pack import find_pack, packed_parts
from quickdraw_core.store.verify_part import Part, PartCheck, check_part
from quickdraw_core.system.prefetch import on_threads

_SHOWN = 3
_TOP_FILES = (MANIFEST_NAME, README_NAME, CROISSANT_NAME)
_SIGMAS = 6
"""A share so many standard deviations off is the result of chance in one of 30 million stores."""


@dataclass(frozen=True)
class VerifyResult:
    """The result of a check.

    problems: faults, a line each that names the file and what to do; notes: what needs no repair;
    files, rows: read and parsed; bytes_read: of drawings and quarantine; rejected: rows in the
    quarantine by the manifest.
    """

    store: Location
    fingerprint: str | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    files: int
    rows: int
    rejected: int
    bytes_read: int


def verify_store(store: Location) -> VerifyResult:
    """Reads a whole store and compares it with its manifest.

    Raises `StoreError` if there is no finished store, or it cannot be reached; all other faults
    are problems of the result.
    """
    storage = storage_of(store)
    path = storage.address(MANIFEST_NAME)
    try:
        manifest = Manifest.read(store)
    except (QuickdrawError, TypeError, ValueError) as error:
        if not storage.is_file(MANIFEST_NAME):
            raise
        known = isinstance(error, QuickdrawError) and path in str(error)
        text = str(error) if known else f"{path} is damaged: {error}; ingest again with --fresh"
        return VerifyResult(store, None, (text,), (), 0, 0, 0, 0)
    return _Verification(store, manifest).run()


class _Verification:
    """The state of one check: its problems and notes so far."""

    def __init__(self, store: Location, manifest: Manifest) -> None:
        self.store, self.manifest = store, manifest
        self.storage = storage_of(store)
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.checks: list[PartCheck] = []

    def run(self) -> VerifyResult:
        """All checks, one after the other."""
        path = self.storage.address(MANIFEST_NAME)
        self.problems += [
            f"{path}: {fault}; ingest again with --fresh"
            for fault in manifest_faults(self.manifest)
        ]
        self._check_names()
        self._check_card()
        files = self.manifest.files
        with progress("verify", sum(file.size_bytes for file in files), "bytes") as bar:
            self._check_parts(bar)
            bar.note("looking for duplicates")
            self._check_duplicates()
            bar.note("")
        self._check_holdout()
        return VerifyResult(
            store=self.store,
            fingerprint=self.manifest.fingerprint,
            problems=tuple(self.problems),
            notes=tuple(self.notes),
            files=sum(check.readable for check in self.checks),
            rows=sum(check.rows for check in self.checks),
            rejected=sum(self.manifest.rejected.values()),
            bytes_read=sum(check.bytes_read for check in self.checks),
        )

    def _check_names(self) -> None:
        """Notes files that the manifest does not name. Those in `drawings/` and `quarantine/` are
        problems: DuckDB and Polars open all of them.
        """
        named = {path for file in self.manifest.files for path in file.window_paths}
        names = sorted(self.storage.names())
        if any(name.startswith(f"{UNFINISHED}/") for name in names):
            self.notes.append(
                f"{self.storage.address(UNFINISHED)} holds windows of an ingest that did not "
                "finish, or of classes that were left out; the next ingest uses or deletes them"
            )
        for relative in names:
            path, top = self.storage.address(relative), relative.split("/")[0]
            if top == UNFINISHED:
                continue
            name = relative.rsplit("/", 1)[-1]
            if name.startswith(".") and name.endswith(".tmp"):
                self.problems.append(
                    f"{path} was left by an ingest that did not finish; delete it"
                )
            elif top in ("drawings", "quarantine") and relative not in named:
                self.problems.append(
                    f"{path} is not named by the manifest, but is read with the folder; delete it"
                )
            elif top == "receipts" and relative not in named:
                self.notes.append(f"{path} is the receipt of a window that is not in the store")
            elif relative == PREVIOUS_NAME:
                self.notes.append(
                    f"{path} was left by an ingest that was killed; nothing reads it"
                )
            elif top == relative and top not in _TOP_FILES and not top.startswith("."):
                self.notes.append(
                    f"{path} is not a file of a store: move it away, or no ingest runs here"
                )

    def _check_card(self) -> None:
        """A store of an earlier version has no card, and can be used all the same."""
        if fault := card_fault(self.storage, self.manifest):
            self.notes.append(f"{fault}: no dataset card; the next ingest writes it")
        if fault := readme_fault(self.storage):
            self.notes.append(fault)

    def _check_parts(self, bar: Bar) -> None:
        """Drawings, quarantine, receipt and pack of each window."""
        pack, problems, notes = find_pack(Store(self.store, self.manifest), Opened())
        self.problems += problems
        self.notes += notes
        packed = packed_parts(pack, self.manifest) if pack is not None else {}
        forms = {source.word: source.form for source in self.manifest.sources}
        parts = [
            Part(self.storage, self.manifest, f, forms.get(f.word, ""), packed.get(f.path))
            for f in self.manifest.files
        ]
        for check in on_threads(check_part, parts, self.storage.threads):
            self.checks.append(check)
            self.problems += check.problems
            bar.advance(check.file.size_bytes)
        unlike = [check for check in self.checks if check.unlike_pack is not None]
        if pack is not None and unlike:
            self.problems.append(
                f"the pack {pack.path} has other values than the store in {unlike[0].unlike_pack} "
                f"of {unlike[0].file.path}{and_more(len(unlike) - 1, 'files')}; delete that "
                "folder, it is made again when it is needed"
            )
        without = sum(check.lacks_receipt for check in self.checks)
        if without:
            self.notes.append(
                f"{without:,} of {len(parts):,} windows have no receipt: an ingest that changes "
                "the store will read them again"
            )

    def _check_duplicates(self) -> None:
        """Finds drawings whose key_id an earlier one has, in the files that could be read."""
        readable = [check for check in self.checks if check.readable]
        paths = tuple(check.file.path for check in readable)
        search = DuplicateSearch(self.store, paths, sum(check.rows for check in readable))
        try:
            rows = find_duplicates(search)
            count = sum(len(positions) for positions in rows.values())
            if count:
                shown = ", ".join(self._named(rows))
                self.problems.append(
                    f"{count:,} drawings have the key_id of an earlier one: {shown}"
                    f"{and_more(count - _SHOWN)}; delete {self.storage.address('receipts')}, "
                    "then ingest again with --fresh"
                )
        except (pa.ArrowException, OSError) as error:
            self.problems.append(
                f"{self.store} changed while it was read: {error}; verify it again"
            )

    def _named(self, rows: dict[str, list[int]]) -> Iterator[str]:
        """The first few duplicates, by their key_id and position."""
        positions = ((path, row) for path in sorted(rows) for row in sorted(rows[path]))
        for (path, row), _ in zip(positions, range(_SHOWN), strict=False):
            key_ids = self.storage.read_table(path, ["key_id"])["key_id"]
            yield f"{key_ids[row]} in row {row:,} of {path}"

    def _check_holdout(self) -> None:
        """Checks the sizes of the splits by the holdout rule, and the test rows of each class."""
        rule, splits = self.manifest.holdout, np.zeros(len(Split), np.int64)
        test: Counter[str | None] = Counter()
        for check in self.checks:
            splits += check.splits
            test[check.file.word] += int(check.splits[Split.TEST])
        shares = {Split.TEST: rule.test_share, Split.VALIDATION: rule.validation_share}
        for side, share in shares.items():
            if not is_plausible(int(splits[side]), int(splits.sum()), share):
                self.problems.append(
                    f"{self.storage.address(MANIFEST_NAME)}: the holdout rule makes {share:.2%} "
                    f"of the drawings {side.name.lower()}, found are "
                    f"{splits[side] / splits.sum():.2%}: "
                    "the drawings were chosen by their key_id, or have made-up ones; ingest whole "
                    "files, with --fresh"
                )
        self._note_short_classes(test)

    def _note_short_classes(self, test: Counter[str | None]) -> None:
        """Names the classes with fewer test drawings than asked for, if they could be read."""
        wanted = self.manifest.options.get("test_per_class")
        if self.manifest.label_map is None or not isinstance(wanted, int):
            return
        unread = {check.file.word for check in self.checks if not check.readable}
        words = self.manifest.label_map.words
        short = [f"{w} ({test[w]})" for w in words if w not in unread and test[w] < wanted]
        if short:
            self.notes.append(
                f"{len(short):,} of {len(words):,} classes have fewer than {wanted:,} test "
                f"drawings: {first_few(short, _SHOWN)}"
            )


def is_plausible(count: int, rows: int, share: float) -> bool:
    """Whether `count` of `rows` drawings is a plausible result of chance, each at odds of `share`.

    Six standard deviations for many rows; wider for counts that are too small to be normal, by
    Bernstein's inequality: P(|count - mean| >= t) <= 2 exp(-t² / (2 (var + t / 3))).
    """
    allowed = _SIGMAS**2 / 6
    allowed += sqrt(allowed**2 + _SIGMAS**2 * rows * share * (1 - share))
    return abs(count - rows * share) <= allowed
