"""benchmarks/few_pictures.py: its recipes are settings that exist, and a run trains, paints and scores."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.few_pictures import all_of, best_recipes
from benchmarks.few_recipes import BASE, RECIPES
from painter_core.stages.train.recipe import NEW_MODEL, NOISE, TRAINING, VIEWS
from tests.support.jobs import ROOT


def test_recipes_are_trainings() -> None:
    configs = {name: recipe.config(1) for name, recipe in RECIPES.items()}
    assert configs[BASE].regularisation == type(configs[BASE].regularisation)()
    assert {name for name, config in configs.items() if config.fine_tuning.lora_rank} <= set(all_of("style"))
    assert BASE in all_of("combinations")


def test_the_job_s_recipe_is_one_of_them() -> None:
    found = RECIPES["crops+pkeep"]
    assert (found.regular, found.variants) == (NOISE, VIEWS.variants)
    settings = found.config(1)
    for name, value in (NEW_MODEL | TRAINING).items():
        assert getattr(settings, name) == value


def test_later_seeds_are_spent_on_the_best() -> None:
    scores = {BASE: 0.5, "a": 0.7, "b": 0.9, "c": 0.8}
    lines = [
        {"recipe": r, "scores": {"last": {"single": s, "kind_and_style": -s}}} for r, s in scores.items()
    ]
    assert best_recipes(lines, "combinations", 2) == [BASE, "b", "c"]
    assert best_recipes(lines, "transfer", 1) == [BASE, "a"]
    assert best_recipes(lines[1:], "style", 1) == ["b"]


@pytest.mark.slow
def test_a_run_trains_paints_and_scores(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "benchmarks.few_pictures", "--recipes", f"{BASE},noise+ema", "--sizes", "20",
        "--seeds", "0", "--steps", "3", "--processes", "1", "--cache", str(tmp_path / "codes"),
        "--outputs", str(tmp_path / "few.json"),
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, timeout=400)
    lines = [json.loads(line) for line in (tmp_path / "few.json").read_text().splitlines()]
    assert [line["recipe"] for line in lines] == [BASE, "noise+ema"]
    for line in lines:
        assert 0 < line["scores"]["best k10 g2"]["single"] < 1
        assert line["curve"][-1][0] == line["steps"]
