"""`hkbench export`: a network of a run, picked or named, as verified files in one bundle."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hkbench.analysis.misclassification import MisclassificationCosts, parse_costs
from hkbench.analysis.predictions import add_predictions
from hkbench.errors import UsageError
from hkbench.export.onnx import RejectedError
from hkbench.export.session import OnnxClassifier
from hkbench.models.counts import check_precision
from hkbench.shipping.bundle import Bundle, refuse_other, write_bundle
from hkbench.shipping.float32 import (
    BOTH_PARTS,
    Shipped,
    kept_network,
    scored_parts,
    ship_float,
)
from hkbench.shipping.latency import with_latency
from hkbench.shipping.narrow import narrow_id, ship_narrow
from hkbench.shipping.parts import Parts, parts_of_run, scoring_threads
from hkbench.shipping.pick import Figures, figures_of, in_order, nothing_meets, rule_of
from hkbench.shipping.tune import tune
from hkbench.shipping.unshipped import CheckpointOf, unshipped
from hkbench.store.records import DataRecord, ModelRecord, RunRecord
from hkbench.store.rundir import RunDirectory
from hkbench.training.loop import EpochResult

log = logging.getLogger(__name__)


class ExportListener(Protocol):
    """Who is told how an export goes."""

    def phase(self, name: str) -> None:
        """A piece of work begins."""

    def advance(self, done: int, total: int) -> None:
        """It is so far."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to export: a trial by its number, or what a rule picks; in these precisions, into `out`.

    `read_test` scores the files on the test part too: the last step of a study, once the choice is made.
    `checkpoint_of` tells where a trial's checkpoint lies; None if it is in the run directory.
    """

    run: Path
    trial: int | None = None
    pick: tuple[str, str] | None = None
    precisions: tuple[str, ...] = ("fp32",)
    out: Path | None = None
    read_test: bool = False
    tuned: bool = True
    checkpoint_of: CheckpointOf | None = None

    def __post_init__(self) -> None:
        for precision in self.precisions:
            check_precision(precision)
        if not self.precisions or len(set(self.precisions)) < len(self.precisions):
            raise UsageError("Name each precision once, such as --precision fp32,int8.")
        if (self.trial is None) == (self.pick is None):
            raise UsageError("Name what to export: --trial NUMBER, or --pick RULE LIMIT; not both.")
        if self.pick is not None:
            rule_of(self.pick[0]).parse(self.pick[1])

    @property
    def how(self) -> str:
        """How the network is chosen, in words."""
        return f"trial {self.trial}" if self.pick is None else " ".join(self.pick)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was exported: a record for each file, and the bundle that holds them."""

    records: list[ModelRecord]
    bundle: Bundle


@dataclass(frozen=True, kw_only=True)
class _Export:
    """An export that is under way."""

    request: Request
    run: RunDirectory
    read: RunRecord
    listener: ExportListener
    opened: dict[int, Parts] = field(default_factory=dict)

    @property
    def data(self) -> DataRecord:
        """What the run says of its pictures; a run with trials or models says it."""
        assert self.read.data is not None
        return self.read.data

    @property
    def costs(self) -> MisclassificationCosts | None:
        """What wrong answers cost, where the run was told."""
        told = self.read.config.get("costs")
        return None if told is None else parse_costs(told, self.data.classes, str(self.run.run_file))

    def parts(self, size: int) -> Parts:
        """Return the pictures of a size, decoded if they aren't yet."""
        if size not in self.opened:
            self.listener.phase("pictures")
            self.opened.update(parts_of_run(self.read, [size], self.listener.advance))
        return self.opened[size]


def candidates(run: RunDirectory) -> list[ModelRecord]:
    """Return the float32 students of a run, of which one can be picked.

    Raises:
        UsageError: there is none.
    """
    found = [each for each in run.model_records() if each.precision == "fp32" and each.role != "teacher"]
    if not found:
        raise UsageError(
            f"{run.path} has no models to export: its search has not come to its end. Go on with it by "
            "'hkbench search --resume', or name one of its trials with --trial."
        )
    return found


def planned(request: Request) -> dict[str, Any]:
    """Return what an export would do, without doing it.

    Raises:
        UsageError: no such run, nothing to export in it, or a place for the bundle that is taken.
    """
    run = RunDirectory.open(request.run)
    if request.out is not None:
        refuse_other(request.out)
    if request.pick is not None:
        rule = rule_of(request.pick[0])
        tried = in_order(rule, rule.parse(request.pick[1]), candidates(run))
    else:
        tried = [each for each in run.model_records() if each.trial == request.trial]
    return {
        "run": str(run.path),
        "how": request.how,
        "precisions": list(request.precisions),
        "in_this_order": [each.id for each in tried if each.precision == "fp32"],
        "out": str(request.out) if request.out is not None else f"{run.path}/export/<name>",
    }


def export(request: Request, listener: ExportListener) -> Exported:
    """Make the files, check them, and put them together.

    Raises:
        UsageError: no such run, trial or model, nothing that the rule picks, other pictures than the run's,
            too few to calibrate with, or a full disk.
        CollapsedError: a narrower file would lose too much accuracy; says which layers are to blame.
        RejectedError: a file isn't what it was made from.
    """
    run = RunDirectory.open(request.run)
    work = _Export(request=request, run=run, read=run.read_run(), listener=listener)
    if request.out is not None:
        refuse_other(request.out)
    if request.trial is not None:
        source = _of_trial(work, request.trial)
        records = [_file(work, source, precision) for precision in request.precisions]
    else:
        records = _picked(work)
    records = [_with_test(work, record) for record in records] if request.read_test else records
    out = request.out or run.path / "export" / narrow_id(
        records[0].source or records[0].id, "-".join(request.precisions)
    )
    listener.phase("bundle")
    return Exported(records=records, bundle=write_bundle(run, records, out, picked=request.how))


def _of_trial(work: _Export, number: int) -> ModelRecord:
    """Return the float32 model of a trial; one that isn't exported yet is, from its checkpoint."""
    found = next(
        (each for each in work.run.model_records() if each.trial == number and each.precision == "fp32"),
        None,
    )
    if found is not None:
        return found
    work.listener.phase("export")
    finalist = unshipped(work.run, number, work.data, work.request.checkpoint_of)
    parts = work.parts(finalist.architecture.image_size)
    return _kept(work, ship_float(finalist, parts, work.run, read=("validation",), costs=work.costs))


def _kept(work: _Export, shipped: Shipped) -> ModelRecord:
    add_predictions(work.run.predictions, shipped.blocks)
    work.listener.phase("latency")
    return with_latency(work.run, shipped.record)


def _file(work: _Export, source: ModelRecord, precision: str) -> ModelRecord:
    """Return the file of a model in a precision: the one that is there, or a new one."""
    if precision == "fp32":
        return with_latency(work.run, source)
    there = {each.id: each for each in work.run.model_records()}.get(narrow_id(source.id, precision))
    if there is not None and there.source_sha256 == source.sha256 and work.run.holds(there):
        return with_latency(work.run, there)
    parts = work.parts(source.image_size)
    work.listener.phase(f"{source.id} in {precision}")
    can_tune = work.request.tuned and bool(source.architecture) and kept_network(work.run, source) is not None
    shipped = ship_narrow(
        source,
        precision,
        parts,
        work.run,
        tune=(lambda: tune(work.run, source, parts, on_epoch=_told(work.listener))) if can_tune else None,
        costs=work.costs,
        advance=work.listener.advance,
    )
    return _kept(work, shipped)


def _picked(work: _Export) -> list[ModelRecord]:
    """Return the files of the first network, in the rule's order, of which the first file keeps the limit."""
    assert work.request.pick is not None
    name, text = work.request.pick
    rule = rule_of(name)
    limit = rule.parse(text)
    students = candidates(work.run)
    found: list[Figures] = []
    refused: RejectedError | None = None
    for source in in_order(rule, limit, [with_latency(work.run, each) for each in students]):
        try:
            record = _file(work, source, work.request.precisions[0])
            found.append(figures_of(record))
            if rule.misses_by(found[-1], limit) <= 0:
                others = [_file(work, source, precision) for precision in work.request.precisions[1:]]
                return [record, *others]
        except RejectedError as error:  # another network may do
            log.warning("%s", error)
            refused = error
    if refused is not None and (not found or rule.misses_by(found[-1], limit) <= 0):
        raise refused
    raise nothing_meets(rule, text, limit, found or [figures_of(each) for each in students])


def _with_test(work: _Export, record: ModelRecord) -> ModelRecord:
    """Return the record scored on the test part too."""
    if record.part("test") is not None:
        return record
    work.listener.phase("test part")
    parts = work.parts(record.image_size)
    classifier = OnnxClassifier(work.run.onnx_file(record), threads=scoring_threads())
    blocks = list(parts.scored(record.id, classifier, BOTH_PARTS))
    add_predictions(work.run.predictions, blocks)
    scored = record.model_copy(update={"parts": scored_parts(blocks, work.costs)})
    work.run.write_model(scored)
    return scored


def _told(listener: ExportListener) -> Callable[[EpochResult, int], None]:
    def tell(result: EpochResult, epochs: int) -> None:
        listener.phase(
            f"training on with the rounding simulated, epoch {result.epoch} of {epochs}: "
            f"{result.metrics['accuracy']:.1%}"
        )

    return tell
