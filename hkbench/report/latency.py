"""The latency of the exported models, all measured in one way, so that they may be ranked."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from hkbench.report.load import LoadedRun, rows_of
from hkbench.report.units import counted

SETTING = ["device_model", "runtime", "threads"]


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Rows by model id (`p50_ms`, `p90_ms`, `status`, `reason`) and the one setting that they share."""

    rows: pd.DataFrame
    setting: str


def cpu_latency(loaded: LoadedRun) -> Latency:
    """Return the batch-1 latency on the processor of each model, matched by the file's SHA-256.

    Of several settings (processor, runtime, threads) the one that covers most models counts, the latest
    of equals; of several rows of a model the last.
    """
    wanted = loaded.benchmark.query("device == 'cpu' and batch == 1")
    files = loaded.models[["id", "sha256"]].rename(columns={"id": "model"})
    rows = files.merge(wanted, on="sha256").sort_values("measured", kind="stable")
    if rows.empty:
        return Latency(rows=rows.set_index("model"), setting="cpu, batch 1")
    settings = rows.groupby(SETTING, dropna=False, sort=False)
    _, chosen = max(settings, key=lambda one: (one[1]["model"].nunique(), one[1]["measured"].max()))
    return Latency(
        rows=chosen.drop_duplicates("model", keep="last").set_index("model"),
        setting=_words(rows_of(chosen)[-1]),
    )


def _words(row: dict[str, Any]) -> str:
    words = ["cpu", "batch 1", str(row["runtime"])]
    if pd.notna(row["threads"]):
        words.append(counted(int(row["threads"]), "thread"))
    if pd.notna(row["device_model"]):
        words.append(str(row["device_model"]))
    return ", ".join(words)
