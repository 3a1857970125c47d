"""A codes table as memory-mapped arrays on a node: text ids and codes, 2 bytes a code.

The cache (painter_core.files.cache) is named by the content of the table
and of the tokenizer, so that it is built once a node and never mistaken for another.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from painter_core.files.cache import build_once
from painter_core.files.storage import join, redact, sha256
from painter_core.model_files.directory import ModelDirectory
from painter_core.model_files.open import open_model
from painter_core.tables.inputs import find_files
from painter_core.tables.parquet import read_table
from painter_core.tables.records import read_manifest, read_part
from painter_core.text.ids import text_ids
from painter_core.text.tokenizer import Tokenizer
from painter_core.training.samples import Samples

log = logging.getLogger(__name__)

CHECKED_BYTES = 2**30


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


def check_parts(table: str) -> None:
    """Raises ValueError if a part is missing or has another size.

    Of a table up to 1 GiB its sha256 is compared too; in larger ones the workers do that.
    """
    files = find_files(table)
    if sum(file.size_bytes for file in files) <= CHECKED_BYTES:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda file: read_part(file.path, file.sha256), files))


def open_samples(table: str, tokenizer: Tokenizer, *, text_len: int, codebook_size: int) -> Samples:
    """The samples of a codes table; builds the node's cache if it is not there.

    Raises:
        ValueError: a part is missing or damaged, or a code is outside the codebook.
    """
    manifest = read_manifest(table)
    content = [manifest["fingerprint"], *(p["sha256"] for p in manifest["parts"])]
    key = sha256(repr((content, tokenizer.sha256, text_len, codebook_size)).encode())
    directory = build_once(
        f"codes-{key[:32]}", lambda new: _build(new, table, manifest, tokenizer, text_len, codebook_size)
    )
    return Samples(
        text_ids=np.load(directory / "text_ids.npy", mmap_mode="r"),
        codes=np.load(directory / "codes.npy", mmap_mode="r"),
        pad_id=codebook_size,
    )


def _build(
    directory: Path, table: str, manifest: dict, tokenizer: Tokenizer, text_len: int, codebook_size: int
) -> None:
    rows, image_len = sum(p["rows"] for p in manifest["parts"]), manifest["image_len"]
    texts = np.lib.format.open_memmap(directory / "text_ids.npy", "w+", np.int32, (rows, text_len))
    codes = np.lib.format.open_memmap(directory / "codes.npy", "w+", np.uint16, (rows, image_len))
    start = unknown = cut = 0
    for part in manifest["parts"]:
        path = join(table, part["name"])
        content = read_table(read_part(path, part["sha256"]), path)
        flat = content.column("codes").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        if len(flat) and flat.max() >= codebook_size:
            row = int(flat.argmax()) // image_len
            raise ValueError(
                f"{redact(path)} row {row + 1}: code {flat.max()} is outside the codebook of {codebook_size}"
            )
        stop = start + part["rows"]
        found = text_ids(
            tokenizer, content.column("text").to_pylist(), text_len=text_len, codebook_size=codebook_size
        )
        texts[start:stop] = found.ids
        codes[start:stop] = flat.reshape(-1, image_len)
        unknown += int(found.num_unk.sum())
        cut += int((found.num_tokens > text_len).sum())
        start = stop
    texts.flush()
    codes.flush()
    log.info(
        "%s: %s samples, %d captions cut at %d tokens, %d unknown tokens",
        redact(table),
        f"{rows:,}",
        cut,
        text_len,
        unknown,
    )


def codes_manifest(table: str) -> dict[str, Any]:
    """The manifest of a finished codes table; ValueError if it is something else, or a part is damaged."""
    manifest = read_manifest(table)
    if manifest.get("table") != "codes":
        raise ValueError(f"--tables {redact(table)}: a table of {manifest.get('table')}, expected codes")
    check_parts(table)
    return manifest
