"""The page of a training: curves, speed, previews, settings, what it was made from."""

import json
from datetime import timedelta
from typing import Any

import numpy as np

from painter_core.files.storage import filesystem, join, read_json, redact
from painter_core.images.embed import embed
from painter_core.stages.report.curves import all_curves
from painter_core.stages.report.page import NOT_ENDED, Fact, Page, Picture, Section
from painter_core.stages.report.settings import facts, origins
from painter_core.text.escape import visible
from painter_core.training.metrics import FILE as METRICS
from painter_core.training.preview_sheet import PREVIEWS

MOST_SHEETS = 6  # of previews: the first, the last, and some between
LOSSES = ("valid_loss", "valid_rec")  # of a GPT, of a VQGAN; the smaller, the better
SPEED = "samples_per_s"
INPUTS = {"tables": "tables", "pretrained_model_name_or_path": "started from", "vocab": "vocabulary"}
NO_SETTINGS = (*INPUTS, "stage", "run", "checkpoint_dir", "dry_run", "overwrite")


def training_page(run_dir: str, plan: dict[str, Any], page: str) -> Page:
    """The page of a training run.

    Args:
        run_dir: path or URL.
        plan: its plan.json.
        page: where the page will be, for links.
    """
    fs, root = filesystem(run_dir)
    metrics = _metrics(run_dir)
    summary = _json(run_dir, "summary.json")
    is_whole = fs.exists(join(root, "_SUCCESS"))
    curves = all_curves(metrics)
    speed = tuple(c for c in curves if c.measures[0].endswith("_per_s"))
    sections = (
        Section(title="Curves", curves=tuple(c for c in curves if c not in speed)),
        Section(title="Speed", facts=_speed(metrics), curves=speed),
        Section(title="Previews", pictures=_previews(run_dir), are_sheets=True),
        Section(title="Settings", facts=facts(_settings(plan))),
        Section(title="Made from", facts=_made_from(plan, page)),
    )
    return Page(
        title=visible(f"Training: {root.rstrip('/').rpartition('/')[2]}"),
        subtitle=visible(f"{redact(run_dir)}, {plan['stage']}, fingerprint {plan['fingerprint'][:16]}"),
        state="complete" if is_whole else "not finished",
        is_good=is_whole,
        remark="" if is_whole else visible(redact(str(summary.get("message") or NOT_ENDED))),
        tiles=_tiles(metrics, summary),
        sections=tuple(s for s in sections if s.facts or s.curves or s.pictures),
    )


def _settings(plan: dict[str, Any]) -> dict[str, Any]:
    """Geometry and flags: of a GPT's training as given, of a VQGAN's as far as they make the result."""
    identity, config = plan["identity"], plan.get("config", {})
    given = {**config, **config.get("run", {}), "gpt": identity.get("gpt")} if config else identity
    return {name: v for name, v in given.items() if name not in NO_SETTINGS and not name.endswith("sha256")}


def _made_from(plan: dict[str, Any], page: str) -> tuple[Fact, ...]:
    """Tables and models, with the sums of what they held."""
    identity, config = plan["identity"], plan.get("config", {})
    found: list[Fact] = []
    for name, title in INPUTS.items():
        if config.get(name):
            found += origins(title, [path.strip() for path in config[name].split(",")], page)
    if not config:  # a VQGAN's: the files of each table
        found += origins("tables", [file[0] for group in identity["tables"] for file in group], page)
    sums = {name: value for name, value in identity.items() if name.endswith("sha256")}
    return (*found, *facts(sums))


def _metrics(run_dir: str) -> list[dict[str, float]]:
    fs, path = filesystem(join(run_dir, METRICS))
    if not fs.exists(path):
        return []
    # a kill may have cut the last line
    return [json.loads(line) for line in fs.cat_file(path).decode().splitlines() if line.endswith("}")]


def _json(run_dir: str, name: str) -> dict[str, Any]:
    fs, path = filesystem(join(run_dir, name))
    return read_json(fs, path) if fs.exists(path) else {}


def _tiles(metrics: list[dict[str, float]], summary: dict[str, Any]) -> tuple[Fact, ...]:
    """The numbers that are looked for first."""
    found = [Fact(name="steps done", value=f"{max((line['step'] for line in metrics), default=0):,}")]
    for name in LOSSES:
        values = [line[name] for line in metrics if name in line]
        if values:
            found.append(Fact(name=f"best {name.replace('_', ' ')}", value=f"{min(values):.4g}"))
            found.append(Fact(name=f"last {name.replace('_', ' ')}", value=f"{values[-1]:.4g}"))
    rates = [line[SPEED] for line in metrics if SPEED in line]
    if rates:
        found.append(Fact(name="samples/s, median", value=f"{np.median(rates):,.1f}"))
    if "seconds" in summary:
        found.append(Fact(name="last run took", value=str(timedelta(seconds=round(summary["seconds"])))))
    return tuple(found)


def _speed(metrics: list[dict[str, float]]) -> tuple[Fact, ...]:
    """Rates, and how many workers did what."""
    rates = [line[SPEED] for line in metrics if SPEED in line]
    if not rates:
        return ()
    low, middle, high = np.quantile(rates, (0.05, 0.5, 0.95))
    steps: dict[int, list[float]] = {}
    for line in metrics:
        if "num_workers" in line:
            steps.setdefault(int(line["num_workers"]), []).append(line["step"])
    told = "; ".join(f"{n}: steps {min(s):,.0f} to {max(s):,.0f}" for n, s in steps.items())
    return (
        Fact(name="samples/s", value=f"median {middle:,.1f}; 5 % below {low:,.1f}, 5 % above {high:,.1f}"),
        Fact(name="workers", value=told or "unknown"),
    )


def _previews(run_dir: str) -> tuple[Picture, ...]:
    """Sheets of steps, evenly spread, the first and the last among them."""
    fs, path = filesystem(join(run_dir, PREVIEWS))
    names = sorted(n for n in fs.ls(path, detail=False) if n.endswith(".png")) if fs.exists(path) else []
    if len(names) > MOST_SHEETS:
        names = [names[round(i * (len(names) - 1) / (MOST_SHEETS - 1))] for i in range(MOST_SHEETS)]
    return tuple(
        Picture(
            picture=embed(fs.cat_file(name)),
            caption=f"step {int(name.rpartition('-')[2].removesuffix('.png')):,}",
        )
        for name in names
    )
