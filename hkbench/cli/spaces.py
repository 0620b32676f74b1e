"""`hkbench spaces`: which there are, what is in one, whether a file is one, points of it, and the schema."""

from typing import Annotated

import typer

from hkbench.cli.console import out, print_json, warn

app = typer.Typer(help="Look at spaces, check them and draw points.", no_args_is_help=True)

SpaceName = Annotated[str, typer.Argument(metavar="NAME_OR_FILE", help="A shipped space, or a YAML file.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the shipped spaces.

    Example: hkbench spaces list
    """
    from hkbench.spaces.file import load_space, shipped_spaces

    about = {name: load_space(name).about for name in shipped_spaces()}
    if as_json:
        print_json({"spaces": about})
        return
    for name, text in about.items():
        out.print(f"{name:<14}{text}", markup=False)


@app.command()
def show(space: SpaceName, as_json: Json = False) -> None:
    """Show a space: its file with all comments, or as it was understood.

    Example: hkbench spaces show distill
    """
    from hkbench.spaces.file import load_space, space_path

    loaded = load_space(space)
    if as_json:
        print_json(loaded.model_dump(mode="json"))
        return
    out.print(space_path(space).read_text(encoding="utf-8").rstrip(), markup=False)


@app.command()
def check(space: SpaceName, as_json: Json = False) -> None:
    """Check a space: keys, names, ranges, conditions and seed points. Nothing is trained.

    Example: hkbench spaces check mine.yaml
    """
    from hkbench.spaces.checks import warnings_of
    from hkbench.spaces.file import load_space

    loaded = load_space(space)
    warnings = warnings_of(loaded)
    found = {
        "name": loaded.name,
        "parameters": len(loaded.parameters),
        "seed_points": len(loaded.seed_points()),
        "architectures": None if (listed := loaded.architectures()) is None else len(listed),
        "warnings": warnings,
    }
    if as_json:
        print_json(found)
        return
    networks = "more architectures than are listed" if listed is None else f"{len(listed)} architectures"
    out.print(
        f"{loaded.name} is a valid space: {found['parameters']} parameters, {networks}, "
        f"{found['seed_points']} seed points.",
        markup=False,
    )
    for warning in warnings:
        warn(warning)


@app.command()
def sample(
    space: SpaceName,
    n: Annotated[int, typer.Option("-n", min=1, help="How many points.")] = 5,
    seed: Annotated[int, typer.Option(help="Another seed draws other points.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw points of a space at random, each checked as a search would; nothing is trained.

    Example: hkbench spaces sample distill -n 5
    """
    from hkbench.spaces.file import load_space
    from hkbench.study.points import random_points

    loaded = load_space(space)
    points = random_points(loaded, n, seed)
    for point in points:
        loaded.settings(point)
    if as_json:
        print_json({"space": loaded.name, "points": points})
        return
    for point in points:
        shown = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in point.values())
        out.print(", ".join(f"{name}={text}" for name, text in zip(point, shown, strict=True)), markup=False)


@app.command()
def schema(as_json: Json = False) -> None:
    """Print the JSON Schema of space files, by which an editor completes and checks them.

    Example: hkbench spaces schema > space.schema.json
    """
    from hkbench.spaces.schema import space_schema, written

    if as_json:
        print_json(space_schema())
        return
    print(written(space_schema()), end="")
