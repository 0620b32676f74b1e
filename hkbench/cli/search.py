"""`hkbench search`: parse, run the search, show how it goes and what it found."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hkbench.cli.console import err, out, print_json, warn
from hkbench.cli.tables import confirmed_table, final_table, study_table
from hkbench.errors import IncompleteError, UsageError

if TYPE_CHECKING:
    from hkbench.driver.plan import SearchPlan


def search(
    space: Annotated[str, typer.Option(help="A shipped space by name, or a YAML file.")] = "distill",
    data: Annotated[
        str, typer.Option(help="goods69, or a folder with one folder for each class.")
    ] = "goods69",
    group_by: Annotated[
        str | None, typer.Option(help="What makes a product: 'subfolder', or a pattern with one group.")
    ] = None,
    split: Annotated[str, typer.Option(help="random, or by-group to hold out whole products.")] = "random",
    trials: Annotated[
        str | None,
        typer.Option(help="How many trials at most; with --resume also +N, so many more.", metavar="N"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="How many epochs a trial trains at most.", min=1)] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="What the trials may take in all: 10m, '200 epochs' or '600 gpu-s'; with --resume also "
            "+10m, so much more. The export comes on top."
        ),
    ] = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="The run directory; a new results/<space> by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds the sampler, the networks and the order of pictures.")] = 0,
    views: Annotated[
        int | None,
        typer.Option(
            help="Augmented views of each picture; by default as many as a trial has epochs, at most 20, and "
            "fewer where the teacher takes long over them.",
            min=1,
        ),
    ] = None,
    confirm: Annotated[
        int,
        typer.Option(
            help="Train so many of the frontier again from fresh seeds, to see who was lucky.", min=0
        ),
    ] = 0,
    confirm_seeds: Annotated[int, typer.Option(help="How many seeds each of these gets.", min=2)] = 3,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="What proposes points: frontier (hkbench's own; by default, where the space suits it), tpe "
            "(by default elsewhere), gp, nsga2, qmc, random or grid."
        ),
    ] = None,
    train_pictures: Annotated[
        int | None, typer.Option(help="Train on so many pictures, evenly drawn; all by default.", min=2)
    ] = None,
    device: Annotated[str, typer.Option(help="Where trials train: cpu or cuda.")] = "cpu",
    teacher: Annotated[
        str | None,
        typer.Option(help="A network to train as the teacher, or the folder of one: models/<id> of a run."),
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option(help="A YAML file of what wrong answers cost: {default: 1, cup: {mug: 0.2}}."),
    ] = None,
    set_key: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key of the space: schedule.reduction=2.")
    ] = None,
    max_concurrent: Annotated[
        int | None,
        typer.Option(help="Trials at once; by default what this machine trains fastest with.", min=1),
    ] = None,
    max_failures: Annotated[
        int,
        typer.Option(
            help="How often a trial whose worker is lost or hangs goes on from its checkpoint.", min=0
        ),
    ] = 2,
    epoch_limit: Annotated[
        str | None,
        typer.Option(
            help="Time after which an epoch counts as hung, such as 10m; by default 20 times the median of "
            "its network, and 2 minutes at least."
        ),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Join the Ray cluster at this address.", envvar="RAY_ADDRESS")
    ] = None,
    storage: Annotated[
        list[str] | None,
        typer.Option(
            help="Keep checkpoints in a shared folder or s3://BUCKET/PREFIX, or the study in journal:FILE, "
            "postgresql://… or redis://…; may be given twice."
        ),
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(help="Log trials elsewhere too: tensorboard or mlflow; may be given twice."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A first look in under two minutes.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in --out.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Search for the smallest, fastest student that learns most from its teacher.

    Example: hkbench search --space distill --data pictures/ --budget 30m --out results/shop
    """
    # What trains is imported when it is needed: torch and Ray take seconds, and --help has none to give.
    from hkbench.runs.planning import planned
    from hkbench.study.storage import command_without_passwords

    plan = planned(
        space,
        data,
        out=out_folder,
        overrides=set_keys(set_key or []),
        trials=trials,
        epochs=epochs,
        budget=budget,
        sampler=sampler,
        group_by=group_by,
        split=split,
        seed=seed,
        views=views,
        train_pictures=train_pictures,
        confirm=confirm,
        confirm_seeds=confirm_seeds,
        device=device,
        teacher=teacher,
        costs=costs,
        max_concurrent=max_concurrent,
        max_failures=max_failures,
        epoch_limit=epoch_limit,
        address=address,
        storage=storage or (),
        logs=log or (),
        quick=quick,
        resume=resume,
        command=("hkbench", *command_without_passwords(sys.argv[1:])),
    )
    run_plan(plan, dry_run=dry_run, json_=json_)


def run_plan(plan: "SearchPlan", *, dry_run: bool, json_: bool) -> None:
    """Warn of what is known beforehand, then carry a plan out and show what it found, or only say it."""
    if dry_run:
        print_json({"out": str(plan.out), **plan.described()})
        return
    from hkbench.spaces.checks import warnings_of

    for warning in warnings_of(plan.space):
        warn(warning)
    _run(plan, json_)


def _run(plan: "SearchPlan", json_: bool) -> None:
    from hkbench.cli.live import LiveTable, PlainLines, minutes
    from hkbench.report.page import build_report
    from hkbench.runs.search import run_search

    view = LiveTable(plan) if err.is_terminal else PlainLines(plan)
    with view:
        result = run_search(plan, view)
    if result.nothing_to_do:
        how = " Extend it by --resume with --trials +N or --budget +10m." if plan.kind == "search" else ""
        err.print(f"{result.run.path} is finished: nothing was left to do.{how}", markup=False)
    report = build_report(result.run)
    if json_:
        print_json(
            {
                "run": str(result.run.path),
                "report": str(report),
                "seconds": result.seconds,
                "models": [model.model_dump(mode="json") for model in result.models],
            }
        )
        return
    out.print(final_table(result.run))
    confirmed = confirmed_table(result.run)
    if confirmed is not None:
        out.print(confirmed)
    if plan.data == "goods69":
        out.print(study_table())
    for warning in result.run.read_run().warnings:
        warn(warning)
    out.print(f"Took {minutes(result.seconds)}. Report: {report}", markup=False)
    if result.unmeasured:
        first = result.unmeasured[0]
        raise IncompleteError(f"{len(result.unmeasured)} rows could not be measured: {first.reason}.")


def set_keys(texts: list[str]) -> dict[str, str]:
    """Return the keys and values of `--set key=value` flags.

    Raises:
        UsageError: a flag without key or equals sign.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--set takes key=value, such as schedule.reduction=2; found '{text}'.")
        found[key] = value
    return found
