"""python -m benchmarks.few_pictures: which settings learn most from few pictures; without Ray.

Draws some pictures of the sample, in styles for the form `transfer`, encodes them by the bundled VQGAN,
trains quickstart's model on them with a recipe, paints captions that it never saw, and has the judge score
them: a line of JSON a run. All recipes of the first seed come first, then the other seeds of `base` and of
the best ones, until the minutes are over. The form `style` goes on with a model that was trained on 5,000
plain pictures, with pictures of one style.

Every run is given as many steps as its recipe takes in the time in which `base` does --steps of them.
"""

import argparse
import dataclasses
import functools
import json
import multiprocessing as mp
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.few_recipes import BASE, RECIPES, Recipe
from benchmarks.few_scores import STYLES_OF, scored, vqgan_on
from benchmarks.few_training import fit, started, usable
from painter_core.compute.devices import resolve_training_precision
from painter_core.images.augment import augmented
from painter_core.images.pixels import sent_pixels
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.sample.pictures import sample_row
from painter_core.text.ids import text_ids
from painter_core.text.tokenizer import builtin_tokenizer
from painter_core.training.gpt import start_from_codebook
from painter_core.training.samples import Samples
from painter_core.training.worker import Worker

VALID_ROWS, CHUNK, BASE_ROWS = 100, 250, 5000
TEXT_LEN = {"combinations": 24, "transfer": 32, "base": 32, "style": 32}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A run: a recipe on `size` pictures of a seed."""

    recipe: str
    size: int
    seed: int
    steps: int
    form: str
    device: str
    cache: str


def file_of(cache: str, form: str, split: str, seed: int, start: int, variants: int) -> Path:
    return Path(cache) / f"{form}-{split}-{seed}-{start}-{variants}.npz"


@torch.inference_mode()
def encode(job: tuple[str, str, str, int, int, int, str]) -> None:
    """Draws rows of a split, and writes their captions and codes (n, variants, image_len)."""
    cache, form, split, seed, start, variants, device = job
    rows = [
        sample_row(seed, start + i, split=split, styles=STYLES_OF[form])  # type: ignore[arg-type]
        for i in range(CHUNK if split == "train" else VALID_ROWS)
    ]
    views = [
        augmented(np.asarray(row.image), ("crop",), seed=seed, idx=row.idx, variant=variant)
        for row in rows
        for variant in range(variants)
    ]
    pixels = np.stack(views)
    vqgan = vqgan_on(device)
    codes = torch.cat(
        [
            vqgan.encode(sent_pixels(pixels[i : i + 64], torch.device(device)))
            for i in range(0, len(pixels), 64)
        ]
    )
    texts = np.array([row.text for row in rows])
    shaped = codes.cpu().numpy().astype(np.uint16).reshape(len(rows), variants, -1)
    np.savez(file_of(cache, form, split, seed, start, variants), texts=texts, codes=shaped)


def samples_of(task: Task, split: str, count: int, variants: int, gpt: GPTConfig) -> Samples:
    """The first rows of a split."""
    starts = range(0, count, CHUNK) if split == "train" else range(1)
    files = [np.load(file_of(task.cache, task.form, split, task.seed, s, variants)) for s in starts]
    texts = np.concatenate([file["texts"] for file in files])[:count].tolist()
    codes = np.concatenate([file["codes"] for file in files])[:count]  # (n, variants, image_len)
    ids = text_ids(builtin_tokenizer(), texts, text_len=gpt.text_len, codebook_size=gpt.codebook_size).ids
    return Samples(
        text_ids=ids.astype(np.int32),
        codes=codes[:, 0],
        views=codes[:, 1:] if variants > 1 else None,
        pad_id=gpt.codebook_size,
    )


def new_gpt(task: Task, recipe: Recipe) -> GPT:
    """Quickstart's model, at its start or as it was trained on 5,000 plain pictures."""
    bundled = open_model("bundled")
    vqgan = bundled.require_vqgan()
    torch.manual_seed(task.seed)
    config = dataclasses.replace(RECIPES[BASE].config(task.seed), text_len=TEXT_LEN[task.form])
    gpt = GPT(
        config.new_gpt(
            text_vocab_size=builtin_tokenizer().vocab_size,
            codebook_size=vqgan.codebook_size,
            image_len=vqgan.image_len,
        )
    )
    if recipe.tunes:
        return started(f"{task.cache}/base-{task.seed}.pt", gpt)
    start_from_codebook(gpt, bundled.load_vqgan().quantize.embedding.weight)
    return gpt


def run(task: Task) -> dict[str, Any]:
    """Trains, paints and scores."""
    recipe, device = RECIPES[task.recipe], torch.device(task.device)
    worker = Worker(rank=0, world_size=1, device=device, precision=resolve_training_precision("auto", device))
    gpt = new_gpt(task, recipe)
    train = samples_of(task, "train", task.size, recipe.variants, gpt.config)
    valid = samples_of(task, "valid", VALID_ROWS, 1, gpt.config)
    steps = max(1, round(task.steps * recipe.share / recipe.cost))
    found = fit(gpt, recipe.config(task.seed), train, valid, worker, steps)
    if task.form == "base":
        torch.save(found.last.cpu().state_dict(), f"{task.cache}/base-{task.seed}.pt")
        return {}
    scores = {"last": scored(task.form, task.seed, found.last, worker)}
    best = usable(found.best, found.last)
    scores["best"] = scored(task.form, task.seed, best, worker) if found.best_step < steps else scores["last"]
    flat = {f"{which} {name}": score for which, each in scores.items() for name, score in each.items()}
    line = dataclasses.asdict(task) | {"steps": steps, "scores": flat, "precision": worker.precision}
    facts = ("ms_per_step", "curve", "best_step", "trained")
    line |= {name: getattr(found, name) for name in facts}
    return {name: value for name, value in line.items() if name != "cache"}


def tasks_of(args: argparse.Namespace, seed: int, recipes: list[str]) -> list[Task]:
    """The runs of a seed."""
    return [
        Task(
            recipe=recipe, size=size, seed=seed, steps=args.steps, form=args.form, device=args.device,
            cache=args.cache,
        )
        for size in args.sizes
        for recipe in recipes
    ]  # fmt: skip


def best_recipes(lines: list[dict[str, Any]], form: str, count: int) -> list[str]:
    """`base` if it was there, and those with the best mean score over the sizes."""
    name = "kind_and_style" if form == "transfer" else "single"
    means = {
        recipe: np.mean(
            [max(s[name] for s in line["scores"].values()) for line in lines if line["recipe"] == recipe]
        )
        for recipe in {line["recipe"] for line in lines}
    }
    ranked = sorted(means, key=lambda recipe: -means[recipe])
    first = [BASE] if BASE in ranked else []
    return [*first, *[recipe for recipe in ranked if recipe != BASE][:count]]


def all_of(form: str) -> list[str]:
    """The recipes for a form."""
    return [name for name, recipe in RECIPES.items() if recipe.tunes == (form == "style")]


def start_process(threads: int) -> None:
    """Settings of a process."""
    torch.set_num_threads(threads)


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_pictures", description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--recipes", default="all", help="names with commas between; see few_recipes.py")
    parser.add_argument("--sizes", default="1000,300,3000", help="pictures, the most important size first")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--form", default="combinations", choices=tuple(STYLES_OF))
    parser.add_argument("--steps", type=int, default=1250, help="of `base`")
    parser.add_argument("--best", type=int, default=3, help="recipes that later seeds are spent on")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of a process")
    parser.add_argument("--minutes", type=float, default=10.0, help="after which no run begins")
    parser.add_argument("--cache", default="few-codes", help="directory for codes")
    parser.add_argument("--outputs", default="few.json", help="lines of JSON, appended")
    args = parser.parse_args()
    args.sizes, seeds = [[int(n) for n in text.split(",")] for text in (args.sizes, args.seeds)]
    recipes = all_of(args.form) if args.recipes == "all" else args.recipes.split(",")
    deadline, lines = time.monotonic() + 60 * args.minutes, []
    Path(args.cache).mkdir(parents=True, exist_ok=True)
    context = mp.get_context("spawn")
    with (
        context.Pool(args.processes, start_process, (args.threads,)) as pool,
        Path(args.outputs).open("a") as out,
    ):
        for number, seed in enumerate(seeds):
            if number == 1:
                recipes = best_recipes(lines, args.form, args.best)
            if time.monotonic() > deadline:
                break
            if args.form == "style":
                make_bases(args, seeds, pool)
            pool.map(encode, encodings(args, seed, recipes), chunksize=1)
            for line in pool.imap_unordered(
                functools.partial(run_until, deadline), tasks_of(args, seed, recipes)
            ):
                if line is not None:
                    lines.append(line)
                    out.write(json.dumps(line) + "\n")
                    out.flush()


def make_bases(args: argparse.Namespace, seeds: list[int], pool: Any) -> None:
    """Quickstart's models of all seeds, for recipes that go on with them."""
    missing = [seed for seed in seeds if not Path(f"{args.cache}/base-{seed}.pt").exists()]
    plain = argparse.Namespace(**vars(args) | {"form": "base", "sizes": [BASE_ROWS], "steps": 1250})
    pool.map(encode, [job for seed in missing for job in encodings(plain, seed, [BASE])], chunksize=1)
    pool.map(run, [task for seed in missing for task in tasks_of(plain, seed, [BASE])], chunksize=1)


def run_until(deadline: float, task: Task) -> dict[str, Any] | None:
    """The run, if it is not too late to begin."""
    return run(task) if time.monotonic() < deadline else None


def encodings(args: argparse.Namespace, seed: int, recipes: list[str]) -> list[Any]:
    """What is to be encoded, and is not yet."""
    wanted = [("valid", 0, 1)]
    for variants in sorted({RECIPES[recipe].variants for recipe in recipes}):
        wanted += [("train", start, variants) for start in range(0, max(args.sizes), CHUNK)]
    jobs = [(args.cache, args.form, split, seed, start, n, args.device) for split, start, n in wanted]
    return [job for job in jobs if not file_of(*job[:6]).exists()]


if __name__ == "__main__":
    main()
