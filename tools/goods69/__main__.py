"""Command line: `python -m tools.goods69 --models FOLDER --out FOLDER`."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
import time
from pathlib import Path

from .card import write_card
from .catalogue import find_archives, models_by_class, read_models, read_rotations, unpack
from .counts import SCALES, class_counts
from .errors import Goods69Error
from .overrides import corrected
from .pack import sha256, write_credits, write_pictures
from .render import Settings, render_all
from .shards import Look
from .sheet import write_sheet

logger = logging.getLogger("goods69")


def parser() -> argparse.ArgumentParser:
    """The options; see the README for what they do together."""
    options = argparse.ArgumentParser(prog="python -m tools.goods69", description=__doc__)
    options.add_argument("--models", type=Path, required=True, help="folder with the .sh3f files")
    options.add_argument("--out", type=Path, required=True, help="folder for the results")
    options.add_argument("--scale", choices=sorted(SCALES), default="shipped")
    options.add_argument("--views", type=int, help="views of every model, instead of --scale")
    options.add_argument("--size", type=int, default=128, help="picture side, px (default 128)")
    options.add_argument("--quality", type=int, default=85, help="WebP quality (default 85)")
    options.add_argument("--seed", type=int, default=69)
    options.add_argument("--jobs", type=int, default=2, help="models rendered at once")
    options.add_argument("--timeout", type=float, default=600, help="seconds for one model")
    options.add_argument("--sheet", type=Path, help="also write a contact sheet to this file")
    return options


def check_renderer() -> None:
    """Raise Goods69Error when VTK is not installed."""
    if importlib.util.find_spec("vtkmodules") is None:
        raise Goods69Error("VTK is not installed: run `pip install -r tools/goods69/requirements.txt`")


def wanted_counts(options: argparse.Namespace, models_per_class: dict[str, int]) -> dict[str, int]:
    """Pictures of each class, by `--views` or else by `--scale`."""
    if options.views is not None:
        if options.views < 1:
            raise Goods69Error("--views must be 1 or more")
        return {name: options.views * n for name, n in models_per_class.items()}
    return class_counts(models_per_class, SCALES[options.scale])


def run(options: argparse.Namespace) -> None:
    """Render, pack and report."""
    check_renderer()
    models = corrected(read_models())
    catalogues = {model.catalogue for model in models}
    archives = find_archives(options.models, catalogues)
    out = options.out.resolve()
    unpacked = out / "unpacked"
    unpacked.mkdir(parents=True, exist_ok=True)
    unpack(archives, unpacked)
    look = Look(seed=options.seed, size_px=options.size, quality=options.quality)
    settings = Settings(
        look=look,
        unpacked=unpacked,
        shards=out / "shards",
        jobs=options.jobs,
        timeout_s=options.timeout,
        rotations=read_rotations(unpacked, catalogues),
    )
    counts = wanted_counts(options, {n: len(ms) for n, ms in models_by_class(models).items()})
    views, lost = render_all(models, counts, settings)
    pictures = out / "pictures.parquet"
    total = write_pictures(pictures, models, views, settings.shards, look)
    write_credits(out / "credits.csv", models, views)
    write_card(out / "README.md", pictures, models)
    if options.sheet is not None:
        write_sheet(options.sheet, pictures)
    logger.info("%d pictures of %d models, %d left out", total, len(views), len(lost))
    logger.info("%s: %d bytes, SHA-256 %s", pictures, pictures.stat().st_size, sha256(pictures))


def main() -> int:
    """Run with the command line's options; errors the user can fix take one line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    began_s = time.perf_counter()
    try:
        run(parser().parse_args())
    except Goods69Error as error:
        logger.error("error: %s", error)
        return 2
    logger.info("done in %.0f s", time.perf_counter() - began_s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
