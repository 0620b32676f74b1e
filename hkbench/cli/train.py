"""`hkbench train`: one network, trained by the engine that searches use; leaves a run directory."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hkbench.cli.search import run_plan, set_keys

if TYPE_CHECKING:
    from hkbench.spaces.space import Space

DATA_PANEL, NETWORK_PANEL, RECIPE_PANEL = "Data", "Network", "Recipe"


def train(
    model: Annotated[
        str,
        typer.Option(
            help="A name from 'hkbench models list', timm/NAME or torchvision/NAME.",
            rich_help_panel=NETWORK_PANEL,
        ),
    ],
    weights: Annotated[
        str,
        typer.Option(
            help="What it starts from: auto (ImageNet's where they are on this machine), imagenet, none, a "
            "file, or hf-hub:owner/repository.",
            rich_help_panel=NETWORK_PANEL,
        ),
    ] = "auto",
    image_size: Annotated[
        int | None,
        typer.Option(
            help="Picture edge in pixels; 64, or the least that it takes.", rich_help_panel=NETWORK_PANEL
        ),
    ] = None,
    unfreeze: Annotated[
        str,
        typer.Option(
            help="What of the body is trained: all, none, last-stage, last-3, or from a layer on.",
            rich_help_panel=NETWORK_PANEL,
        ),
    ] = "all",
    loss: Annotated[
        str | None,
        typer.Option(
            help="hard, kd, dkd, dist or lskd; kd where a teacher is named, else hard.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="A network to train as the teacher first, or the folder of one: models/<id> of a run.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="How many; 20 by default.", min=1, rich_help_panel=RECIPE_PANEL)
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="As many epochs as fit in this time, such as 10m, by timing some steps first.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None,
    optimizer: Annotated[
        str, typer.Option(help="sgd, adamw, lion, muon, …", rich_help_panel=RECIPE_PANEL)
    ] = "adamw",
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Its peak; by default the optimiser's own.", rich_help_panel=RECIPE_PANEL),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any other setting of a trial, as spaces name them: --set layer_decay=0.8.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None,
    data: Annotated[
        str, typer.Option(help="goods69, or a folder of class folders.", rich_help_panel=DATA_PANEL)
    ] = "goods69",
    group_by: Annotated[
        str | None, typer.Option(help="As for 'hkbench search'.", rich_help_panel=DATA_PANEL)
    ] = None,
    split: Annotated[str, typer.Option(help="random or by-group.", rich_help_panel=DATA_PANEL)] = "random",
    views: Annotated[
        int | None, typer.Option(help="Augmented views of each picture.", min=1, rich_help_panel=DATA_PANEL)
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option(help="A YAML file of what wrong answers cost: {default: 1, cup: {mug: 0.2}}."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds the network and the order of pictures.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(help="Threads of the training on a CPU; all cores by default.", min=1)
    ] = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="The run directory; a new results/<model> by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training in --out.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train one network, export it, and measure the file.

    The run directory is one that 'hkbench report' and 'hkbench benchmark' take.

    Example: hkbench train --model squeezenet1_1 --teacher efficientnet_lite0 --budget 10m
    """
    from hkbench.config import usable_cores
    from hkbench.driver import plan as plans
    from hkbench.driver.budget import parse_duration
    from hkbench.runs.one import one_network
    from hkbench.spaces.file import parse_yaml

    given = {
        "weights": weights,
        "image_size": image_size,
        "unfreeze": unfreeze,
        "loss": loss,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        **{
            name: parse_yaml(value.encode(), f"--set {name}")
            for name, value in set_keys(settings or []).items()
        },
    }
    plans.check_device(device)
    space, teacher_folder = one_network(model, _given(given), teacher=teacher, epochs=epochs)
    plan = plans.SearchPlan(
        kind="train",
        space=space,
        teacher_folder=teacher_folder,
        costs=costs,
        fitted_s=parse_duration(budget) if budget is not None and epochs is None else None,
        out=out_folder or plans.default_run(_folder_name(space), resume=resume),
        data=data,
        group_by=group_by,
        split=split,
        seed=seed,
        views=views,
        concurrency=1,
        threads=threads or (usable_cores() if device == "cpu" else 1),
        device=device,
        gpu_share=1.0 if device == "cuda" else 0.0,
        resume=resume,
        command=("hkbench", *sys.argv[1:]),
    )
    run_plan(plan, dry_run=dry_run, json_=json_)


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _folder_name(space: "Space") -> str:
    return space.name.replace("/", "-")
