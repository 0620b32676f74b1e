"""What stands around the charts: chips, the table of trials, and where and how the run was made."""

import shlex
from typing import Any

import pandas as pd

from hkbench.report.figures.chart import Table
from hkbench.report.load import LoadedRun, rows_of
from hkbench.report.units import MISSING, counted, megabytes, milliseconds, number, percent

STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
CHIP_VERSIONS = ("hkbench", "torch", "ray", "optuna")


def chips(loaded: LoadedRun) -> list[str]:
    """Return the short facts under the headline: trials by state, devices, data, versions."""
    states = loaded.trials["state"].value_counts()
    counts = ", ".join(f"{states.get(state, 0)} {word}" for state, word in STATES.items())
    found = [f"{counted(len(loaded.trials), 'trial')}: {counts}"]
    hardware = loaded.run.hardware
    if "cpu_model" in hardware:
        found.append(f"{hardware['cpu_model']}, {counted(hardware.get('cores', 0), 'core')}")
    found += [f"trained on {device}" for device in loaded.trials["device"].dropna().unique()]
    if loaded.run.data:
        data = loaded.run.data
        found.append(f"{data.name}: {counted(data.pictures, 'picture')}, {len(data.classes)} classes")
    versions = loaded.run.versions
    found.append(" · ".join(f"{name} {versions[name]}" for name in CHIP_VERSIONS if name in versions))
    return [chip for chip in found if chip]


def trials_table(loaded: LoadedRun) -> Table:
    """Return every trial with its settings, its values and how it ended."""
    columns = [
        "trial", "state", "model", "loss", "T", "α", "optimizer", "learning rate", "px", "epochs",
        "error", "size", "latency", "frontier", "note",
    ]  # fmt: skip
    return Table(
        columns=columns,
        rows=[_trial_cells(row) for row in rows_of(loaded.trials)],
        numeric=frozenset({"T", "α", "learning rate", "px", "epochs", "error", "size", "latency"}),
    )


def _trial_cells(row: dict[str, Any]) -> list[str]:
    notes = [str(row[name]) for name in ("seed_point", "reason") if pd.notna(row[name])]
    if not row["feasible"]:
        notes.append("breaks a constraint")
    return [
        f"#{row['number']}",
        STATES[row["state"]],
        row["model"],
        row["loss"],
        number(row["temperature"]),
        number(row["weight_hard"]),
        str(row["optimizer"]) if pd.notna(row["optimizer"]) else MISSING,
        number(row["learning_rate"]),
        str(row["image_size"]),
        str(row["epochs"]),
        percent(row["error"]),
        megabytes(row["artifact_bytes"]),
        milliseconds(row["latency_ms"]),
        "yes" if row["frontier"] else "",
        "; ".join(notes),
    ]


def environment(loaded: LoadedRun) -> list[tuple[str, str]]:
    """Return what the run ran on and what it cost, as pairs of term and value."""
    run = loaded.run
    found = [("Created", run.created), ("Finished", run.finished or MISSING), ("Status", run.status)]
    if run.data:
        split = run.data.split
        found.append(
            (
                "Data",
                f"{run.data.name}, fingerprint {run.data.fingerprint}; "
                f"{counted(len(run.data.rejected), 'picture')} rejected",
            )
        )
        found.append(
            (
                "Split",
                f"{split.scheme}, seed {split.seed}: {split.train} train, {split.validation} validation, "
                f"{split.test} test; hash {split.hash}",
            )
        )
    found += [_hardware_fact(name, value) for name, value in run.hardware.items()]
    if run.git:
        found.append(("Code", run.git["commit"] + (", with changes" if run.git.get("dirty") else "")))
    found.append(("Versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())))
    found += [(f"Phase {name}", f"{number(seconds)} s") for name, seconds in run.phase_seconds.items()]
    return found + _cost(loaded.telemetry)


def rejected_table(loaded: LoadedRun) -> Table | None:
    """Return the pictures that could not be decoded, each with the reason; None where all could."""
    if loaded.run.data is None or not loaded.run.data.rejected:
        return None
    return Table(columns=["rejected picture", "reason"], rows=loaded.run.data.rejected)


def _hardware_fact(name: str, value: Any) -> tuple[str, str]:
    written = f"{number(value / 1e9)} GB" if name.endswith("_bytes") else str(value)
    words = name.removesuffix("_bytes").replace("_", " ")
    return words[0].upper() + words[1:], written


def _cost(telemetry: pd.DataFrame) -> list[tuple[str, str]]:
    """Return what the trials cost together: trials run beside each other, so this is more than wall time."""
    trials = telemetry[telemetry["source"] == "trial"]
    if trials.empty:
        return []
    measured = {"wall": "seconds", "cpu": "cpu_seconds", "gpu": "gpu_seconds"}
    parts = [
        f"{number(float(trials[column].sum()))} s {word}"
        for word, column in measured.items()
        if trials[column].notna().any()
    ]
    if trials["energy_j"].notna().any():
        parts.append(f"{number(float(trials['energy_j'].sum()) / 1000)} kJ")
    return [("All trials together", ", ".join(parts))]


def commands(loaded: LoadedRun) -> list[str]:
    """Return the commands that make the run again, measure it and write this page."""
    return [
        shlex.join(loaded.run.command),
        shlex.join(["hkbench", "benchmark", loaded.path]),
        shlex.join(["hkbench", "report", loaded.path]),
    ]
