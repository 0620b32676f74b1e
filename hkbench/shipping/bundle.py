"""One folder or .zip with all that a server needs: files, labels, record, model card, weights for timm."""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hkbench.errors import UsageError
from hkbench.shipping.card import model_card
from hkbench.shipping.float32 import LABELS, kept_network
from hkbench.shipping.timm_folder import write_timm_folder
from hkbench.store.atomic import explaining_full_disk, replacing, write_text
from hkbench.store.digest import sha256_of
from hkbench.store.environment import now
from hkbench.store.records import SCHEMA, ModelRecord
from hkbench.store.rundir import RunDirectory

RECORD, CARD = "bundle.json", "README.md"
EARLIEST = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What was put together, and where."""

    path: Path
    files: list[str]


def refuse_other(out: Path) -> None:
    """Refuse a place that holds something that isn't a bundle.

    Raises:
        UsageError: says what is there.
    """
    zipped = out.suffix == ".zip"
    taken = out.exists() and (out.is_dir() if zipped else not out.is_dir())
    if taken or (out.is_dir() and any(out.iterdir()) and not (out / RECORD).is_file()):
        raise UsageError(f"{out} is there already and no bundle of hkbench's. Give --out another name.")


def write_bundle(run: RunDirectory, records: Sequence[ModelRecord], out: Path, *, picked: str) -> Bundle:
    """Put the files of one network, in one or several precisions, into a folder or a .zip.

    Args:
        run: where the files lie.
        records: of the files; the first is the one to serve.
        out: a folder, or a file whose name ends in .zip; a bundle that is there is replaced.
        picked: how the network was chosen, in words.

    Raises:
        UsageError: `out` holds something else, a file isn't the record's any more, or the disk is full.
    """
    refuse_other(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / "bundle"
        with explaining_full_disk(out):
            files = _fill(folder, run, records, picked)
            if out.suffix == ".zip":
                _zip(folder, files, out)
            else:
                if out.exists():
                    shutil.rmtree(out)
                folder.replace(out)
    return Bundle(path=out, files=files)


def _fill(folder: Path, run: RunDirectory, records: Sequence[ModelRecord], picked: str) -> list[str]:
    folder.mkdir()
    names = {record.precision: f"model.{record.precision}.onnx" for record in records}
    for record in records:
        source = run.onnx_file(record)
        shutil.copyfile(source, folder / names[record.precision])
        if sha256_of(folder / names[record.precision]) != record.sha256:
            raise UsageError(f"{source} is another file than its record's: export it again.")
    read = run.read_run()
    labels = read.data.classes if read.data is not None else []
    write_text(folder / LABELS, "\n".join(labels) + "\n")
    write_text(folder / CARD, model_card(records, read, picked=records[0].precision, files=names))
    told = {
        "schema_version": SCHEMA,
        "run": read.name,
        "picked": picked,
        "serve": names[records[0].precision],
        "made": now(),
        "files": {
            names[record.precision]: record.model_dump(mode="json", exclude={"files"}) for record in records
        },
    }
    write_text(folder / RECORD, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    return [*names.values(), LABELS, CARD, RECORD, *_weights(folder, run, records[0], labels)]


def _weights(folder: Path, run: RunDirectory, record: ModelRecord, labels: Sequence[str]) -> list[str]:
    """Write the float32 weights in timm's layout, if the run still holds them; return the files' names."""
    records = {each.id: each for each in run.model_records()}
    source = records.get(record.source or record.id)
    network = kept_network(run, source) if source is not None else None
    if network is None or source is None:
        return []
    return write_timm_folder(folder, network, source, labels)


def _zip(folder: Path, files: Sequence[str], out: Path) -> None:
    """Write a .zip in which equal files make equal bytes."""
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in files:
            entry = zipfile.ZipInfo(name, date_time=EARLIEST)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, (folder / name).read_bytes())
