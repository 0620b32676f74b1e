"""Train the teacher that ships for goods69's random split: `python -m tools.train_goods69_teacher`.

Takes about half an hour on two cores. It writes model.safetensors (float16) and teacher.json with the
recipe, the hashes of data and split, every epoch and the validation metrics, to
hkbench/training/shipped/<key>/, where `find_teacher` looks. Searches on other data or another split train
a teacher of their own.
"""

import argparse
import shutil
from pathlib import Path

import torch

from hkbench.config import usable_cores
from hkbench.data.build import build_store
from hkbench.data.sources import open_source
from hkbench.data.splits import load_split
from hkbench.spaces.file import load_space
from hkbench.training.loop import EpochResult
from hkbench.training.teacher import teacher_key
from hkbench.training.teaching import train_teacher

SHIPPED = Path(__file__).parents[1] / "hkbench" / "training" / "shipped"


def main() -> None:
    """Train, and put the result where the package looks for it, alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=usable_cores())
    torch.set_num_threads(parser.parse_args().threads)
    recipe = load_space("distill").teacher
    store = build_store(open_source("goods69"), recipe.image_size)
    split = load_split(store, "random")
    key = teacher_key(recipe, store.fingerprint, split.hash)
    shutil.rmtree(SHIPPED, ignore_errors=True)
    teacher = train_teacher(
        recipe, store, split, device=torch.device("cpu"), folder=SHIPPED / key, on_epoch=_print_epoch
    )
    print(f"{teacher.weights}: {teacher.weights.stat().st_size:,} bytes, {teacher.record.validation}")


def _print_epoch(result: EpochResult) -> None:
    accuracy = f"{result.metrics['accuracy']:.2%}"
    loss, seconds = f"{result.train_loss:.3f}", f"{result.seconds:.0f}"
    print(f"epoch {result.epoch}: {accuracy}, loss {loss}, {seconds} s", flush=True)


if __name__ == "__main__":
    main()
