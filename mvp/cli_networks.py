"""Commands on networks."""

from __future__ import annotations

from typing import Annotated

import typer

from mvp.cli_common import JsonOption, show


def add_network_commands(app: typer.Typer) -> None:
    """Mount the commands of this file."""
    app.command()(networks)


def networks(
    match: Annotated[
        str, typer.Option(help="Only names that hold this; timm:TEXT for timm's.")
    ] = "",
    layers: Annotated[
        str | None, typer.Option(help="Name of a network whose layers are wanted.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Side of its images in pixels (default: 224).")
    ] = None,
    sizes: Annotated[
        bool,
        typer.Option("--sizes", help="Features and parameters of each, in about 0.1 s each."),
    ] = False,
    timm: Annotated[bool, typer.Option("--timm", help="The networks of timm too.")] = False,
    json: JsonOption = False,
) -> None:
    """List what [network] can name: networks, published weights, layers.

    Example: mvp networks --layers densenet121 --match transition
    """
    from mvp import pipeline

    show(pipeline.list_networks(match, layers=layers, size=size, sizes=sizes, timm=timm), json)
