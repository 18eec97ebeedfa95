"""Small notebooks and grids for the tests of batches."""

import json
from pathlib import Path

from lt_lib.batch.place import Place, manifest_of
from lt_lib.batch.plan import Plan, Run, plan_text

PARAMETERS = """x: float = 1.0  # some number, >= 0
seed: int = 0  # of everything random
label: str = "a"  # some text
flag: bool = False  # some switch
profile: str = "quick"  # quick, small or paper
out_dir: str = ""  # where results go
checkpoint: str = ""  # file of the state so far
"""
RESULT = """import json, os
json.dump({"row": {"x": x, "accuracy_last": x / 10, "recall_0": 0.5}}, open(os.path.join(out_dir, "result.json"), "w"))
"""


def write_notebook(path: Path, *cells: str, parameters: str = PARAMETERS) -> Path:
    """A notebook with a parameters cell and these code cells."""
    sources = [(parameters, ["parameters"]), *((cell, []) for cell in cells)]
    content = {
        "cells": [{"cell_type": "markdown", "id": "text", "metadata": {}, "source": "# Test"}]
        + [
            {
                "cell_type": "code",
                "execution_count": None,
                "id": f"cell{index}",
                "metadata": {"tags": tags} if tags else {},
                "outputs": [],
                "source": source.splitlines(keepends=True),
            }
            for index, (source, tags) in enumerate(sources)
        ],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_grid(folder: Path, text: str, *cells: str, parameters: str = PARAMETERS) -> Path:
    """A grid file beside a notebook `n.ipynb` of these cells; `name` and `notebook` are put before the text."""
    write_notebook(folder / "n.ipynb", *(cells or (RESULT,)), parameters=parameters)
    path = folder / "g.yaml"
    path.write_text(f"name: g\nnotebook: n.ipynb\n{text}", encoding="utf-8")
    return path


def publish(place: Place, plan: Plan, run: Run, result: dict | None = None, **fields: object) -> Path:
    """Publish a made-up run, as an attempt does."""
    folder = place.new_attempt(run.id)
    (folder / "notebook.ipynb").write_text('{"cells": []}')
    (folder / "out" / "result.json").write_text(json.dumps(result or {}))
    manifest = manifest_of(
        folder,
        **{
            "run": run.id,
            "digest": run.digest,
            "notebook": "n.ipynb",
            "notebook_digest": plan.notebook_digest,
            "sources_digest": plan.sources_digest,
            "parameters": dict(run.parameters),
            "seconds": 2.0,
            "peak_memory_mb": 50.0,
            "provenance": {"host": "here", "environment_digest": "e" * 64},
            **fields,
        },
    )
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert place.publish(run.id, folder)
    place.drop_attempts(run.id)
    return place.run_folder(run.id)


def fail(place: Place, run: Run, kind: str, message: str = "why", **fields: object) -> Path:
    """Note a made-up attempt that ended so."""
    folder = place.new_attempt(run.id)
    place.note_outcome(folder, {"kind": kind, "message": message, **fields})
    return folder


def keep_plan(place: Place, plan: Plan) -> None:
    """Save a plan as a batch does."""
    place.save_plan(plan.grid.name, plan.grid.text, plan_text(plan))
