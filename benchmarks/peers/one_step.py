"""Trials of one step in Ray Tune as its documentation shows it: the median time between their ends.

Run as `python -m benchmarks.peers.one_step QUESTION ANSWER`, see `apart`.
"""

import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path


def train(config: dict[str, float]) -> None:
    """Build a small network and train one step."""
    import torch
    from ray import tune
    from torchvision.models import squeezenet1_1

    network = squeezenet1_1(num_classes=2)
    optimizer = torch.optim.SGD(network.parameters(), lr=config["lr"])
    loss = torch.nn.functional.cross_entropy(
        network(torch.rand(8, 3, 56, 56)), torch.zeros(8, dtype=torch.long)
    )
    loss.backward()
    optimizer.step()
    tune.report({"loss": loss.item(), "ended": time.time()})


def main(question: Path, answer: Path) -> None:
    """Run the trials one after the other, in a Ray of their own."""
    trials = json.loads(question.read_text())["trials"]
    import ray
    from ray import tune

    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 1024**2)
        tuner = tune.Tuner(
            train,
            param_space={"lr": tune.uniform(0.001, 0.1)},
            tune_config=tune.TuneConfig(num_samples=trials),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        ends = sorted(result.metrics["ended"] for result in tuner.fit())
        ray.shutdown()
    answer.write_text(json.dumps(statistics.median(b - a for a, b in itertools.pairwise(ends))))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
