"""``python -m experiments.collect``: every method, DPO on the pairs it made, the tables and the figure."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from align.errors import AlignError, ConfigError
from align.files import write_json
from align.run import git_state, versions
from experiments import page
from experiments.collect.draw import draw
from experiments.collect.methods import METHODS, TRAINED_ON, collected, echoes
from experiments.collect.runs import CONTROLS, Place, Size, real_outputs, results_of
from experiments.collect.table import Found, merged, rows, tables

HERE = Path(__file__).resolve().parent


def main(argv: Sequence[str] | None = None, size: Size | None = None) -> int:
    """Runs the experiment; returns an exit code."""
    options = _parser().parse_args(argv)
    out = Path(options.out)
    try:
        if options.work:
            found = _found(options, Place(_same_size(Path(options.work), size or Size()), size or Size()))
        else:
            with tempfile.TemporaryDirectory(prefix="align-collect-") as folder:
                found = _found(options, Place(Path(folder), size or Size()))
        whole = options.only is None
        results = out / "results.json"
        before = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
        if before and whole:  # only what needs other people's data is not run by the command alone
            before = {"size": found["size"], "outputs": before["outputs"]}
        found = merged(before, found)
    except AlignError as error:
        print(f"collect: {error}", file=sys.stderr)
        return error.exit_code
    _publish(found, out)
    return 0


def _found(options: argparse.Namespace, place: Place) -> Found:
    """Everything that was asked for, method by method."""
    found: Found = {"circumstances": _circumstances(), "size": asdict(place.size)}
    found |= {"methods": {}, "policies": {}, "outputs": {}}
    for name in METHODS if options.only is None else options.only:
        made = collected(place, name)
        found["methods"][name] = {"results": rows(made.results), "by_construction": made.by_construction}
        if name in TRAINED_ON and made.pairs:
            evaluation = place.improved(name, made.run)
            said = echoes(evaluation) if name == "critique" else []
            found["policies"][name] = {"results": rows([*results_of(evaluation), *said])}
    if options.data:
        for how in CONTROLS:
            found["outputs"][how] = {"results": rows(real_outputs(place, Path(options.data).resolve(), how))}
    return found


def _same_size(work: Path, size: Size) -> Path:
    """The folder of earlier runs, which have to be of the size that is asked for now."""
    work = work.resolve()
    path = work / "size.json"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(size))
    elif json.loads(path.read_text(encoding="utf-8")) != asdict(size):
        raise ConfigError(f"{work} holds runs of another size: give another --work")
    return work


def _publish(found: Found, out: Path) -> None:
    """Prints the tables; writes results.json, the figure, and the README's tables where it stands there."""
    text = tables(found)
    print(text)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", found)
    draw(found, out / "collect.png")
    page.publish(out, "collect", text)


def _circumstances() -> dict[str, Any]:
    """When, where, and with which versions; a commit with changes on top is marked with a plus."""
    git = git_state()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "torch": versions().get("torch", "absent"),
        "commit": "none" if git is None else git["commit"][:12] + ("+" if git["dirty"] else ""),
    }


def _methods(text: str) -> list[str]:
    named = [name for name in text.split(",") if name]
    unknown = sorted(set(named) - set(METHODS))
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no method named {', '.join(unknown)}; there are {', '.join(METHODS)}"
        )
    return named


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.collect", description=__doc__)
    add = parser.add_argument
    add(
        "--only",
        type=_methods,
        help=f"methods to run, the others stay as they are: {','.join(METHODS)}",
    )
    add(
        "--data",
        metavar="FOLDER",
        help="AlpacaEval's outputs, a folder a model: for the last table",
    )
    add("--out", default=str(HERE), help="the folder of results.json, collect.png and README.md")
    add("--work", help="keeps the runs in this folder, and makes those only that it lacks")
    return parser


if __name__ == "__main__":
    sys.exit(main())
