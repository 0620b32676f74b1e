"""The data card, written from the finished file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template

import pyarrow.parquet as pq

from .catalogue import Model
from .overrides import EXCLUDED_MODELS, MOVED_MODELS
from .pack import sha256

TEMPLATE = Path(__file__).with_name("card.md.in")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is counted for the card."""

    class_names: list[str]
    groups: list[str]


def read_contents(pictures: Path) -> Contents:
    """The class and the group of every picture."""
    table = pq.read_table(pictures, columns=["class_name", "group"])
    return Contents(class_names=table["class_name"].to_pylist(), groups=table["group"].to_pylist())


def class_table(contents: Contents) -> str:
    """A Markdown table: class, its models and its pictures."""
    pictures = Counter(contents.class_names)
    groups = Counter(dict(set(zip(contents.groups, contents.class_names, strict=True))).values())
    lines = ["| label | class | models | pictures |", "|---:|---|---:|---:|"]
    for label, name in enumerate(sorted(pictures)):
        lines.append(f"| {label} | {name} | {groups[name]} | {pictures[name]} |")
    return "\n".join(lines)


def creator_list(models: Iterable[Model]) -> str:
    """Every creator by catalogue and licence, with the number of models."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for model in models:
        counts.setdefault((model.catalogue, model.license), Counter())[model.creator] += 1
    lines = []
    for (catalogue, license_name), creators in sorted(counts.items()):
        names = ", ".join(f"{name} ({n})" for name, n in sorted(creators.items()))
        total = sum(creators.values())
        lines.append(f"- **{catalogue}**, {license_name}, {total} models: {names}")
    return "\n".join(lines)


def corrections() -> str:
    """The models filed elsewhere than in `models.csv`, or left out, with the reasons."""
    moved = [f"- `{g}` is {why}: class {name}" for g, (name, why) in sorted(MOVED_MODELS.items())]
    gone = [f"- `{g}` is left out: {why}" for g, why in sorted(EXCLUDED_MODELS.items())]
    return "\n".join(moved + gone)


def write_card(path: Path, pictures: Path, models: list[Model], template: Path = TEMPLATE) -> None:
    """Write the card of the Parquet file `pictures`, rendered from `models`."""
    contents = read_contents(pictures)
    rendered = set(contents.groups)
    shown = [model for model in models if model.group in rendered]
    per_class = Counter(contents.class_names)
    metadata = {
        key.decode(): value.decode() for key, value in (pq.read_schema(pictures).metadata or {}).items()
    }
    licences = Counter(model.license for model in shown)
    card = Template(template.read_text(encoding="utf-8")).substitute(
        pictures=f"{len(contents.groups):,}",
        models=len(rendered),
        classes=len(per_class),
        smallest=min(per_class.values()),
        largest=max(per_class.values()),
        size_bytes=f"{pictures.stat().st_size:,}",
        size_px=metadata["goods69.size_px"],
        seed=metadata["goods69.seed"],
        quality=metadata["goods69.webp_quality"],
        renderer=metadata["goods69.renderer"],
        tool_version=metadata["goods69.tool_version"],
        class_table=class_table(contents),
        licences=", ".join(f"{name}: {n}" for name, n in sorted(licences.items())),
        creators=creator_list(shown),
        corrections=corrections(),
        sha256=sha256(pictures),
    )
    path.write_text(card, encoding="utf-8")
