"""A codes table as memory-mapped arrays on a node: text ids and codes, 2 bytes a code.

The cache (painter_core.files.cache) is named by the content of the table
and of the tokenizer, so that it is built once a node and never mistaken for another.
"""

import dataclasses
import json
import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from painter_core.files.arrays import create_array
from painter_core.files.cache import build_once
from painter_core.files.storage import join, redact, sha256, write_bytes
from painter_core.model_files.directory import ModelDirectory
from painter_core.model_files.open import open_model
from painter_core.stages.pins import check_pins
from painter_core.tables.inputs import find_files
from painter_core.tables.parquet import read_table
from painter_core.tables.records import read_manifest, read_part
from painter_core.tables.run_directory import RunDirectory, table_url
from painter_core.text.ids import TextIds, text_ids
from painter_core.text.prompt_style import PLAIN, PromptStyle
from painter_core.text.tokenizer import Tokenizer
from painter_core.training.samples import Samples

log = logging.getLogger(__name__)

CHECKED_BYTES = 2**30
READ_AHEAD = 16  # parts
COUNTED_PARTS = 32  # of a larger table: about 16,000 captions
MOST_UNKNOWN = 0.5  # of the tokens


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionCounts:
    """How well a vocabulary knows some captions."""

    captions: int = 0
    tokens: int = 0
    """Those that the model sees: the first text_len of each caption."""
    unknown: int = 0
    """Tokens that are [UNK]."""
    cut: int = 0
    """Captions with more than text_len tokens."""

    def plus(self, found: TextIds) -> "CaptionCounts":
        """With some more captions."""
        text_len = found.ids.shape[1]
        return CaptionCounts(
            captions=self.captions + len(found.ids),
            tokens=self.tokens + int(found.num_tokens.clip(max=text_len).sum()),
            unknown=self.unknown + int(found.num_unk.sum()),
            cut=self.cut + int((found.num_tokens > text_len).sum()),
        )

    @property
    def unknown_fraction(self) -> float:
        """Share of the tokens that are unknown."""
        return self.unknown / max(1, self.tokens)

    def __str__(self) -> str:
        cut = self.cut / max(1, self.captions)
        return (
            f"{self.captions:,} captions, {self.unknown_fraction:.1%} of their tokens unknown, "
            f"{cut:.1%} of them cut"
        )


def open_vqgan(table: str) -> ModelDirectory:
    """The VQGAN that made the codes of a finished table.

    Raises:
        ValueError: it is not the one of the manifest.
    """
    directory = join(table, "_run", "vqgan")
    model = open_model(directory)
    found, expected = model.vqgan_sha256(), read_manifest(table)["identity"]["vqgan_sha256"]
    if found != expected:
        raise ValueError(
            f"{redact(directory)}/vqgan.safetensors: sha256 {found[:16]}, but the codes were made by "
            f"{expected[:16]}; the file was changed or damaged, copy the table again"
        )
    return model


def keep_vqgan(model: ModelDirectory, directory: RunDirectory, identity: dict[str, Any]) -> None:
    """Copies the VQGAN into the table, _run/vqgan/: codes are of no use without it, and training needs it.

    Args:
        identity: of the run, which names the VQGAN by its content.
    """
    for name in ("config.json", "vqgan.safetensors"):
        fs, path = directory.path("_run", "vqgan", name)
        if not fs.exists(path):
            data = (model.path / name).read_bytes()
            if name == "vqgan.safetensors":
                check_pins(str(model.path), {"vqgan_sha256": sha256(data)}, identity)
            if name == "config.json":
                data = json.dumps(
                    {k: v for k, v in json.loads(data).items() if k in ("format", "vqgan")}
                ).encode()
            write_bytes(fs, path, data)


def check_parts(table: str) -> None:
    """Raises ValueError if a part is missing or has another size.

    Of a table up to 1 GiB its sha256 is compared too; in larger ones the workers do that.
    """
    files = find_files(table)
    if sum(file.size_bytes for file in files) <= CHECKED_BYTES:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda file: read_part(file.path, file.sha256), files))


def open_samples(
    table: str, tokenizer: Tokenizer, *, text_len: int, codebook_size: int, style: PromptStyle = PLAIN
) -> Samples:
    """The samples of a codes table; builds the node's cache if it is not there.

    Args:
        text_len: tokens of a caption.
        codebook_size: of the VQGAN.
        style: what is put around captions.

    Raises:
        ValueError: a part is missing or damaged, or a code is outside the codebook.
    """
    manifest = read_manifest(table)
    content = [manifest["fingerprint"], *(p["sha256"] for p in manifest["parts"])]
    made_of = (content, tokenizer.sha256, text_len, codebook_size, *style.identity().values())
    key = sha256(repr(made_of).encode())
    directory = build_once(
        f"samples-{key[:32]}",
        lambda new: _build(new, table, manifest, tokenizer, text_len, codebook_size, style),
    )
    counts = CaptionCounts(**json.loads((directory / "counts.json").read_text()))
    log.info("%s: %s at %d tokens", redact(table), counts, text_len)
    return Samples(
        text_ids=np.load(directory / "text_ids.npy", mmap_mode="r"),
        codes=np.load(directory / "codes.npy", mmap_mode="r"),
        views=np.load(directory / "views.npy", mmap_mode="r") if "variants" in manifest else None,
        pad_id=codebook_size,
    )


def _build(
    directory: Path,
    table: str,
    manifest: dict,
    tokenizer: Tokenizer,
    text_len: int,
    codebook_size: int,
    style: PromptStyle,
) -> None:
    rows, image_len = sum(p["rows"] for p in manifest["parts"]), manifest["image_len"]
    texts = create_array(directory / "text_ids.npy", np.int32, (rows, text_len))
    codes = create_array(directory / "codes.npy", np.uint16, (rows, image_len))
    arrays = {"codes": codes}
    if variants := manifest.get("variants"):
        arrays["views"] = create_array(directory / "views.npy", np.uint16, (rows, variants - 1, image_len))
    start, counts = 0, CaptionCounts()
    for path, content in _contents(table, manifest["parts"]):
        stop = start + len(content)
        captions = [style.of(text) for text in content.column("text").to_pylist()]
        found = text_ids(tokenizer, captions, text_len=text_len, codebook_size=codebook_size)
        texts[start:stop] = found.ids
        for name, array in arrays.items():
            flat = content.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)
            array[start:stop] = _checked(flat, codebook_size, len(content), path).reshape(
                -1, *array.shape[1:]
            )
        counts = counts.plus(found)
        start = stop
    texts.flush()
    for array in arrays.values():
        array.flush()
    (directory / "counts.json").write_text(json.dumps(dataclasses.asdict(counts)))


def _checked(codes: np.ndarray, codebook_size: int, rows: int, path: str) -> np.ndarray:
    """Codes of a part's rows, all of the codebook; ValueError names the row of one that is not."""
    if len(codes) and codes.max() >= codebook_size:
        row = int(codes.argmax()) // (len(codes) // rows)
        raise ValueError(
            f"{redact(path)} row {row + 1}: code {codes.max()} is outside the codebook of {codebook_size}"
        )
    return codes


def _contents(table: str, parts: list[dict[str, Any]]) -> Iterator[tuple[str, pa.Table]]:
    """Path and content of each part, in order; some are read ahead, since a store answers slowly."""

    def read(part: dict[str, Any]) -> tuple[str, pa.Table]:
        path = join(table, part["name"])
        return path, read_table(read_part(path, part["sha256"]), path)

    with ThreadPoolExecutor(READ_AHEAD) as pool:
        waiting: deque[Future[tuple[str, pa.Table]]] = deque()
        try:
            for part in parts:
                waiting.append(pool.submit(read, part))
                if len(waiting) > READ_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def check_captions(table: str, tokenizer: Tokenizer, *, text_len: int, style: PromptStyle = PLAIN) -> None:
    """Says how well a vocabulary knows the captions of a codes table, in a large one those of some parts.

    Raises:
        ValueError: more than half of the tokens are unknown, so that most captions would look the same.
    """
    parts, counts, cut = read_manifest(table)["parts"], CaptionCounts(), 0
    for number in np.unique(np.linspace(0, len(parts) - 1, min(COUNTED_PARTS, len(parts))).astype(int)):
        path = join(table, parts[number]["name"])
        captions = read_table(read_part(path, parts[number]["sha256"]), path).column("text").to_pylist()
        counts = counts.plus(text_ids(tokenizer, captions, text_len=text_len, codebook_size=0))
        if style:
            whole = text_ids(tokenizer, list(map(style.of, captions)), text_len=text_len, codebook_size=0)
            cut += int((whole.num_tokens > text_len).sum())
    if counts.unknown_fraction > MOST_UNKNOWN:
        raise ValueError(
            f"--tables {redact(table)}: the vocabulary ({tokenizer.vocab_size:,} words) does not know these "
            f"captions: {counts} at {text_len} tokens. Give --vocab FILE (vocab.txt or tokenizer.json) or "
            "--pretrained-model-name-or-path DIR of a model for this language; "
            f"jobs/inspect_table.py --tables {redact(table)} --vocab FILE counts them"
        )
    log.info("%s: looked at %s at %d tokens", redact(table), counts, text_len)
    if cut > counts.cut:
        log.warning(
            "%s: with --prompt-prefix and --prompt-suffix %d of %d captions have more than %d tokens (%d "
            "without them): their end, and with it the suffix, is cut off",
            redact(table),
            cut,
            counts.captions,
            text_len,
            counts.cut,
        )


def codes_manifest(table: str) -> dict[str, Any]:
    """The manifest of a finished table with codes; ValueError if it has none, or a part is damaged."""
    manifest = read_manifest(table)
    if "image_len" not in manifest:
        hint = " (jobs/generate.py writes them with --codes-column)" * (manifest.get("table") == "outputs")
        raise ValueError(
            f"--tables {redact(table)}: a table of {manifest.get('table')}, expected codes{hint}"
        )
    check_parts(table)
    return manifest


def has_codes(table: str) -> bool:
    """Whether --tables names a finished table of ours with codes; other tables are read as pictures."""
    if "," in table:
        return False
    directory = RunDirectory(table_url(table))
    manifest = directory.read_json("manifest.json") if directory.read_json("_run", "plan.json") else None
    return manifest is not None and "image_len" in manifest


def check_made_by(table: str, checkpoint_dir: str) -> None:
    """Raises ValueError unless a table's codes are those that a model's own VQGAN makes."""
    model, manifest = open_model(checkpoint_dir), read_manifest(table)
    made_by = manifest["identity"]["vqgan_sha256"]
    kept = open_model(join(table, "_run", "vqgan"))
    if made_by != model.vqgan_sha256() and kept.codes_sha256() != model.codes_sha256():
        raise ValueError(
            f"--tables {redact(table)}: its codes were made by another VQGAN (sha256 {made_by[:16]}) than "
            f"that of --checkpoint-dir {checkpoint_dir}, to which they mean other pictures"
        )
    if model.gpt_config is not None and manifest["image_len"] != model.gpt_config.image_len:
        raise ValueError(
            f"--tables {redact(table)}: {manifest['image_len']} codes a picture, but --checkpoint-dir "
            f"{checkpoint_dir} paints {model.gpt_config.image_len}; make the codes for its picture size"
        )
