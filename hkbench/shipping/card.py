"""The README.md beside shipped files: a model card in Markdown, every figure of it out of the records.

The sections are those that Mitchell et al. 2019 (https://arxiv.org/abs/1810.03993) ask for, in fewer words;
the front matter is that of the Hugging Face hub (https://huggingface.co/docs/hub/model-cards).
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import yaml

from hkbench.errors import UsageError
from hkbench.store.records import DataRecord, ModelRecord, PartMetrics, RunRecord

MISSING = "not measured"
UNRECORDED = "not recorded"
FLOAT = "fp32"
PARTS = ("validation", "test")
LICENCES = ("apache-2.0", "bsd-3-clause", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "mit")
"""Licences that go by their SPDX name, in small letters, on the hub too; all others are "other" here."""
ROLES = {
    "student": "A student: it learned from the answers of a larger network, its teacher.",
    "no-teacher": "It learned from the labels alone, without a teacher.",
    "teacher": "A teacher: the large network that students learned from. It had none itself.",
}
USE = (
    "Telling which of its classes a picture shows, where pictures are like those it was trained on and one "
    "object fills most of the square. Try it on pictures of your own before you rely on it, and don't let "
    "it decide alone where a wrong answer can harm somebody."
)
RENDERED = "goods69"
"""The data set that is made of renderings alone."""

SNIPPET = """\
import json
import numpy as np, onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession({file})
about = session.get_modelmeta().custom_metadata_map
labels, size = json.loads(about["labels"]), int(about["image_size"])
picture = Image.open("picture.jpg")
picture.draft(None, (2 * size, 2 * size))  # a JPEG is decoded no larger than needed, as for training
picture = ImageOps.exif_transpose(picture).convert("RGB")
side = min(picture.size)
left, top = ((edge - side) // 2 for edge in picture.size)
picture = picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
pictures = np.asarray(picture, dtype=np.float32).transpose(2, 0, 1)[None] / 255
(logits,) = session.run(["logits"], {{"pictures": pictures}})
print(labels[logits[0].argmax()])
"""


def model_card(
    records: Sequence[ModelRecord], run: RunRecord, *, picked: str | None, files: Mapping[str, str]
) -> str:
    """Return the card of one network's files.

    Args:
        records: of one network, one for each precision, in the order of the table.
        run: the run that it was trained in.
        picked: the precision that is recommended; None recommends float32, or the first without it.
        files: precision → the file's name in the folder.

    Raises:
        UsageError: no records, two of one precision, one without a file, or no record of `picked`.
    """
    precisions = [record.precision for record in records]
    _check(precisions, picked, files)
    usual = FLOAT if FLOAT in precisions else precisions[0]
    best = picked or usual
    main = records[precisions.index(usual)]
    sections = {
        "What it is": _what(main, run.data),
        "Figures": _figures(records, picked, files),
        "How it was trained": _training(records, main, run),
        "Intended use": [USE],
        "Limits": _limits(records, run),
        "Licences": _bullets(main.licences) or [f"Licences: {UNRECORDED}."],
        "How to run it": _how_to_run(main.image_size, files[best]),
    }
    title = f"# {_plain(main.model)}" + (f", trained on {_plain(run.data.name)}" if run.data else "")
    bodies = ["\n".join([f"## {name}", "", *lines]) for name, lines in sections.items()]
    return "\n\n".join([_front_matter(main), title, *bodies]) + "\n"


def _check(precisions: Sequence[str], picked: str | None, files: Mapping[str, str]) -> None:
    if not precisions or len(set(precisions)) < len(precisions):
        raise UsageError(
            "A model card takes one record for each precision of a network, "
            f"found: {', '.join(precisions) or 'none'}."
        )
    for precision in precisions:
        if precision not in files:
            raise UsageError(
                f"A model card needs a file's name for each precision, found none for {precision}."
            )
    if picked is not None and picked not in precisions:
        raise UsageError(f"'{picked}' can't be picked: there are records of {', '.join(precisions)}.")


def _front_matter(record: ModelRecord) -> str:
    found = {licence.lower() for licence in record.licences.values()}
    licence = {"license": "other", "license_name": "see-licences", "license_link": "README.md"}
    if not found:
        licence = {"license": "unknown"}
    elif len(found) == 1 and found <= set(LICENCES):
        licence = {"license": found.pop()}
    fields = {
        **licence,
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "onnx", "hkbench"],
        "metrics": ["accuracy"],
    }
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---"


def _what(record: ModelRecord, data: DataRecord | None) -> list[str]:
    classes = UNRECORDED if data is None else f"{len(data.classes)}: {', '.join(map(_plain, data.classes))}"
    return [
        "An image classifier in ONNX files that differ by their precision alone.",
        "",
        f"- Network: {_plain(record.model)}, {record.parameters:,} parameters.",
        f"- Pictures: {record.image_size} × {record.image_size} pixels, RGB.",
        f"- Classes: {classes}.",
    ]


def _figures(records: Sequence[ModelRecord], picked: str | None, files: Mapping[str, str]) -> list[str]:
    """Return a table with a row for each precision, and what its columns mean."""
    columns: dict[str, Callable[[ModelRecord], str]] = {
        "precision": lambda record: record.precision + (" (picked)" if record.precision == picked else ""),
        "file": lambda record: f"`{files[record.precision]}`",
        "bytes": lambda record: f"{record.size_bytes:,}",
        "bytes, unpacked": lambda record: f"{record.unpacked_bytes or record.size_bytes:,}",
        "accuracy, validation": lambda record: _accuracy(record, "validation"),
        "accuracy, test": lambda record: _accuracy(record, "test"),
        "accuracy lost against float32": _lost,
        "latency p50": _latency,
    }
    if not any(record.unpacked_bytes for record in records):
        del columns["bytes, unpacked"]
    if not any(record.part("test") for record in records):
        del columns["accuracy, test"]
    counts = {part.part: part.pictures for record in records for part in record.parts}
    pictures = ", ".join(f"{counts[part]:,} pictures of {part}" for part in PARTS if part in counts)
    return [
        _row(columns),
        _row(["---"] * len(columns)),
        *(_row(cell(record) for cell in columns.values()) for record in records),
        "",
        f"Accuracy is the share of right answers ({pictures or MISSING}); in brackets are intervals of 95 %. "
        "Losses are in percentage points, on the same pictures. Latency is at batch 1 with one thread.",
    ]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _accuracy(record: ModelRecord, name: str) -> str:
    part = record.part(name)
    if part is not None and "accuracy" in part.metrics:
        low, high = part.intervals.get("accuracy", (None, None))
        interval = "" if low is None else f" ({_percent(low)} to {_percent(high)})"
        return _percent(part.metrics["accuracy"]) + interval
    if name == "validation" and record.verified is not None:
        return _percent(record.verified.accuracy)
    return MISSING


def _lost(record: ModelRecord) -> str:
    if record.precision == FLOAT:
        return "is float32"
    lost = record.lost
    return f"{_points(lost.estimate)} ({_points(lost.low)} to {_points(lost.high)})" if lost else MISSING


def _latency(record: ModelRecord) -> str:
    found = record.verified
    if found is None or found.latency_ms is None:
        return MISSING
    return f"{found.latency_ms:.3g} ms on {found.latency_device or UNRECORDED}"


def _training(records: Sequence[ModelRecord], record: ModelRecord, run: RunRecord) -> list[str]:
    epochs = UNRECORDED if record.epochs is None else str(record.epochs)
    versions = [f"{name} {run.versions[name]}" for name in ("hkbench", "torch") if name in run.versions]
    return [
        ROLES[record.role],
        "",
        f"- Run: {_plain(run.name)} of {run.created}, {', '.join(versions) or UNRECORDED}.",
        *_data(run.data),
        f"- Epochs: {epochs}.",
        *_bullets({**record.params, **record.training}),
        *(line for each in records if (line := _quantized(each))),
    ]


def _quantized(record: ModelRecord) -> str | None:
    how = record.quantization
    if how is None:
        return None
    tuned = f", then {how.tuned_epochs} epochs with rounding simulated" if how.tuned_epochs else ""
    recipe = "; ".join(line.removeprefix("- ") for line in _bullets(how.recipe))
    return f"- {record.precision}: ranges from {how.pictures:,} training pictures{tuned}; {recipe}."


def _data(data: DataRecord | None) -> list[str]:
    if data is None:
        return [f"- Data: {UNRECORDED}."]
    split = data.split
    views = "" if data.views is None else f", {data.views} augmented views of each for training"
    return [
        f"- Data: {_plain(data.name)}, {data.pictures:,} pictures, {len(data.classes)} classes{views}.",
        f"- Split: {split.scheme}, seed {split.seed}: {split.train:,} for training, {split.validation:,} for "
        f"validation, {split.test:,} for test; its hash is `{split.hash}`.",
    ]


def _limits(records: Sequence[ModelRecord], run: RunRecord) -> list[str]:
    data = run.data
    labels = "labels" if data is None else f"{len(data.classes)} labels"
    lines = [
        f"- It always answers with one of its {labels}: what is of no class is forced into one of them.",
        "- It was measured on pictures of the data set above and on no others: other cameras, backgrounds, "
        "lighting and crops are not measured.",
    ]
    if data is not None and data.name == RENDERED:
        lines.append("- All pictures are renderings of 3D models: nothing was measured on photographs.")
    if data is not None and data.split.scheme == "random":
        lines.append(
            "- The split is random: where several pictures show one object, some were trained on and others "
            "measured on, so that accuracy on new objects may be lower."
        )
    if data is not None and data.rejected:
        lines.append(f"- {len(data.rejected):,} pictures of the data set couldn't be read and were left out.")
    parts = [(record.precision, part) for record in records for part in record.parts]
    lines += [_quality(precision, part) for precision, part in parts]
    lows = [
        (each.intervals["accuracy"][0], f"{of} on {each.part}")
        for of, each in parts
        if "accuracy" in each.intervals
    ]
    lines += [f"- Accuracy may be as low as {_percent(low)}: {where}." for low, where in sorted(lows)[:1]]
    if run.status != "finished":
        lines.append(f"- The run that it comes from is recorded as {run.status}, not finished.")
    return lines + [f"- The run warned: {_plain(warning)}" for warning in run.warnings]


def _quality(precision: str, part: PartMetrics) -> str:
    """Return how far confidences can be believed, and what accuracy doesn't show."""
    words = [f"calibration error {_percent(part.metrics.get('calibration_error'))}"]
    if part.temperature is not None:
        words.append(f"{_percent(part.calibrated_error)} at the temperature {part.temperature:.3g}")
    others = [name for name in ("balanced_accuracy", "macro_f1") if name in part.metrics]
    words += [f"{name.replace('_', ' ')} {_percent(part.metrics[name])}" for name in others]
    if part.cost_weighted_error is not None:
        words.append(f"mean cost of an answer {part.cost_weighted_error:.3g}")
    return f"- {precision} on {part.part}: {', '.join(words)}."


def _how_to_run(size: int, file: str) -> list[str]:
    snippet = SNIPPET.format(file=json.dumps(file, ensure_ascii=False))
    return [
        "With the packages onnxruntime, numpy and pillow:",
        "",
        f"```python\n{snippet}```",
        "",
        f"- Input `pictures`: float32 (batch, 3, {size}, {size}), RGB in [0, 1]; the file normalises them "
        "itself. Cut a picture to its largest centred square, then scale it by antialiased bicubic.",
        "- Output `logits`: float32 (batch, classes), in the order of the metadata's `labels`.",
        "- The contract is the same for every precision.",
    ]


def _bullets(found: Mapping[str, object]) -> list[str]:
    return [f"- {_plain(name.replace('_', ' '))}: {_written(value)}" for name, value in found.items()]


def _written(value: object) -> str:
    """Return a setting as text: a float with four digits, what has parts as JSON."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return _plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*\[\]<>|]|\b_|_\b)", r"\\\1", " ".join(text.split()))


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:.2f}".replace("-", "−")
