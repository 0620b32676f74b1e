"""The models of a search that was extended: those of trials that are no longer on the frontier go."""

import shutil
from collections.abc import Collection

from hkbench.store.rundir import RunDirectory


def retire(run: RunDirectory, shipped: Collection[int]) -> list[str]:
    """Remove the models of trials that were not shipped this time, narrower files too; return their ids.

    What a run holds is its frontier, with predictions for each of its models. A trial's checkpoint stays, its
    records too, and bundles that were exported lie elsewhere.
    """
    gone = [
        record.id
        for record in run.model_records()
        if record.trial is not None and record.trial not in shipped
    ]
    for name in gone:
        shutil.rmtree(run.models / name)
    return gone
