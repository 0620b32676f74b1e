"""Renders the views of one model, in a process of its own: a crash of VTK loses one model only.

Run as `python -m tools.goods69.worker JOB.json`; the last line on stderr says what went wrong.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .errors import RefusedModelError
from .overrides import allowed_views
from .picture import SUPERSAMPLING, brighten, compose, encode, reduce, refusal
from .shards import Look, Shot, read_shard, write_shard
from .views import draw_view
from .wavefront import read_mesh

EXIT_REFUSED = 3


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker is asked for: the first `count` views of a model that can be seen."""

    class_name: str
    group: str
    obj_path: str
    rotation: list[list[float]]
    count: int
    seed: int
    size_px: int
    quality: int
    shard_path: str

    @property
    def look(self) -> Look:
        """What the pixels depend on besides the model."""
        return Look(seed=self.seed, size_px=self.size_px, quality=self.quality)

    def to_json(self) -> str:
        """The text of a job file."""
        return json.dumps(asdict(self))


def tries_allowed(count: int) -> int:
    """How many views may be drawn to find `count` that can be seen."""
    return 2 * count + 10


def render(job: Job) -> None:
    """Write the job's shard, keeping what an earlier run drew.

    Raises RefusedModelError when too few of the views show anything.
    """
    from vtkmodules.vtkCommonCore import vtkVersion

    from .scene import Scene

    scene = Scene(read_mesh(Path(job.obj_path)), np.asarray(job.rotation), job.size_px * SUPERSAMPLING)
    allowed = allowed_views(job.class_name, job.group, scene.extents)
    shots = read_shard(Path(job.shard_path), job.look)
    first = shots[-1].view_index + 1 if shots else 0
    reason = ""
    for view_index in range(first, tries_allowed(job.count)):
        if len(shots) >= job.count:
            break
        view = draw_view(job.seed, job.group, view_index, allowed)
        drawn = brighten(reduce(scene.draw(view)))
        why = refusal(drawn, view)
        if why is None:
            webp = encode(compose(drawn, view), job.quality)
            shots.append(Shot(view_index=view_index, webp=webp))
        else:
            reason = why
    if len(shots) < job.count:
        raise RefusedModelError(f"{len(shots)} of {job.count} views can be seen; last: {reason}")
    write_shard(Path(job.shard_path), job.look, shots, f"VTK {vtkVersion.GetVTKVersion()}")


def main() -> int:
    """Read the job file named on the command line and render it."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    try:
        render(job)
    except RefusedModelError as error:
        sys.stderr.write(f"\n{error}\n")
        return EXIT_REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
