"""python -m benchmarks.few_pictures: which settings learn most from few pictures; without Ray.

Draws some pictures of the sample, encodes them by the bundled VQGAN, trains quickstart's model on them with a
recipe, paints captions that it never saw, and has the judge score them: a line of JSON a run. All recipes of
the first seed come first, then the other seeds of `base` and of the best ones, until the minutes are over.

Every run is given as many steps as its recipe takes in the time in which `base` does --steps of them.
"""

import argparse
import dataclasses
import functools
import json
import multiprocessing as mp
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.few_recipes import BASE, RECIPES, Recipe
from benchmarks.few_scores import STYLES_OF, scored, vqgan_on
from painter_core.compute.devices import resolve_training_precision
from painter_core.images.augment import augmented
from painter_core.images.pixels import sent_pixels
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.sample.pictures import sample_row
from painter_core.text.ids import text_ids
from painter_core.text.tokenizer import builtin_tokenizer
from painter_core.training.data_order import epoch_order, steps_per_epoch
from painter_core.training.gpt import start_from_codebook, train_step, validate
from painter_core.training.optimizers import learning_rate, make_optimizers, set_learning_rate
from painter_core.training.regularisation import draws_of
from painter_core.training.samples import Samples
from painter_core.training.weight_average import WeightAverage
from painter_core.training.worker import Worker

VALID_ROWS, CHUNK, VALIDATIONS = 100, 250, 10
TEXT_LEN = {"combinations": 24, "transfer": 32}


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


def samples_of(task: Task, split: str, count: int, variants: int, gpt: GPTConfig) -> list[Samples]:
    """The first rows of a split, a table a variant."""
    starts = range(0, count, CHUNK) if split == "train" else range(1)
    files = [np.load(file_of(task.cache, task.form, split, task.seed, s, variants)) for s in starts]
    texts = np.concatenate([file["texts"] for file in files])[:count].tolist()
    codes = np.concatenate([file["codes"] for file in files])[:count]
    ids = text_ids(builtin_tokenizer(), texts, text_len=gpt.text_len, codebook_size=gpt.codebook_size).ids
    return [
        Samples(text_ids=ids.astype(np.int32), codes=codes[:, v], pad_id=gpt.codebook_size)
        for v in range(variants)
    ]


def new_gpt(task: Task, recipe: Recipe) -> GPT:
    """Quickstart's model, at its start."""
    vqgan, config = open_model("bundled"), recipe.config(task.seed)
    assert vqgan.vqgan is not None
    torch.manual_seed(task.seed)
    config = dataclasses.replace(config, text_len=TEXT_LEN[task.form])
    gpt = GPT(
        config.new_gpt(
            text_vocab_size=builtin_tokenizer().vocab_size,
            codebook_size=vqgan.vqgan.codebook_size,
            image_len=vqgan.vqgan.image_len,
        )
    )
    start_from_codebook(gpt, vqgan.load_vqgan().quantize.embedding.weight)
    gpt.dropout = config.regularisation.dropout
    return gpt.to(task.device)


def epochs(task: Task, recipe: Recipe, tables: list[Samples]) -> Iterator[tuple[Samples, np.ndarray, Any]]:
    """Table, rows and draws of each step, without end."""
    config = recipe.config(task.seed)
    flags, share = config.regularisation, config.caption_dropout
    for epoch in range(10**9):
        order = epoch_order(task.seed, epoch, task.size)
        draws = draws_of(flags, seed=task.seed, epoch=epoch, num_samples=task.size, caption_dropout=share)
        picks = np.random.default_rng((task.seed, epoch)).integers(len(tables), size=task.size)
        codes = np.stack([table.codes for table in tables], 1)[np.arange(task.size), picks]
        table = dataclasses.replace(tables[0], codes=codes)
        for step in range(steps_per_epoch(task.size, config.micro_batch_size)):
            yield table, order[step * config.micro_batch_size :][: config.micro_batch_size], draws


def run(task: Task) -> dict[str, Any]:
    """Trains, paints and scores."""
    recipe = RECIPES[task.recipe]
    config, device = recipe.config(task.seed), torch.device(task.device)
    worker = Worker(rank=0, world_size=1, device=device, precision=resolve_training_precision("auto", device))
    gpt = new_gpt(task, recipe)
    train = samples_of(task, "train", task.size, recipe.variants, gpt.config)
    valid = samples_of(task, "valid", VALID_ROWS, 1, gpt.config)[0]
    optimizers, decay = make_optimizers(gpt, config), config.regularisation.ema_decay
    average = WeightAverage(gpt, decay) if decay else None
    saved, num_steps = average.gpt if average else gpt, max(1, round(task.steps * recipe.share / recipe.cost))
    every, losses, curve, best, seconds = max(1, num_steps // VALIDATIONS), [], [], (9e9, 0, {}), 0.0
    data = epochs(task, recipe, train)
    for step in range(num_steps):
        set_learning_rate(optimizers, learning_rate(config, step, num_steps))
        began = time.perf_counter()
        table, rows, draws = next(data)
        losses.append(train_step(gpt, optimizers, table, rows, config, worker, draws)[0])
        if average:
            average.follow(gpt, step + 1)
        seconds += time.perf_counter() - began
        if (step + 1) % every == 0 or step + 1 == num_steps:
            loss = validate(saved, valid, worker, VALID_ROWS)
            curve.append([step + 1, round(float(np.mean(losses)), 4), round(loss, 4)])
            losses = []
            if loss < best[0]:
                best = (loss, step + 1, {k: v.clone() for k, v in saved.state_dict().items()})
    scores = {f"last {name}": found for name, found in scored(task.form, task.seed, saved, worker).items()}
    if best[1] < num_steps:
        saved.load_state_dict(best[2])
        scores |= {
            f"best {name}": found for name, found in scored(task.form, task.seed, saved, worker).items()
        }
    else:
        scores |= {name.replace("last", "best"): found for name, found in scores.items()}
    line = dataclasses.asdict(task) | {
        "steps": num_steps,
        "ms_per_step": round(1000 * seconds / num_steps, 2),
    }
    line |= {"precision": worker.precision, "curve": curve, "best_step": best[1], "scores": scores}
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
    """`base`, and those with the best mean score over the sizes."""
    name = "kind_and_style" if form == "transfer" else "single"
    means = {
        recipe: np.mean(
            [max(s[name] for s in line["scores"].values()) for line in lines if line["recipe"] == recipe]
        )
        for recipe in {line["recipe"] for line in lines}
    }
    ranked = sorted(means, key=lambda recipe: -means[recipe])
    return [BASE, *[recipe for recipe in ranked if recipe != BASE][:count]]


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
    recipes = list(RECIPES) if args.recipes == "all" else args.recipes.split(",")
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
            pool.map(encode, encodings(args, seed, recipes), chunksize=1)
            for line in pool.imap_unordered(
                functools.partial(run_until, deadline), tasks_of(args, seed, recipes)
            ):
                if line is not None:
                    lines.append(line)
                    out.write(json.dumps(line) + "\n")
                    out.flush()


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
