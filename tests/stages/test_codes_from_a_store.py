"""A codes table in an object store: read in parallel, and once a node however many workers want it."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from painter_core.stages.codes_table import open_samples
from painter_core.text.tokenizer import builtin_tokenizer
from tests.support.codes_table import make_codes
from tests.support.fake_store import FakeStore

TABLE = "s3://bucket/codes"
AT_ONCE = 8

pytestmark = pytest.mark.usefixtures("store", "cache")


@pytest.fixture
def parts(store: type[FakeStore], pairs: Path, tiny_vqgan: Path) -> set[str]:
    make_codes(pairs, tiny_vqgan, TABLE)  # type: ignore[arg-type]
    return {name for name in store.store if "/part-" in name and "/rejects/" not in name}


def read() -> int:
    """Opens the table, as a training worker does; its rows."""
    return len(open_samples(TABLE, builtin_tokenizer(), text_len=8, codebook_size=64))


def test_parts_are_asked_for_side_by_side(parts: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the first requests waits until there are AT_ONCE of them."""
    together, asked = threading.Barrier(AT_ONCE), Counter[str]()
    before = FakeStore.cat_file

    def cat_file(self: FakeStore, path: str, *args: object, **options: object) -> bytes:
        if path in parts:
            asked[path] += 1
            if asked.total() <= AT_ONCE:
                together.wait(timeout=10)
        return before(self, path, *args, **options)

    monkeypatch.setattr(FakeStore, "cat_file", cat_file)
    assert len(parts) > AT_ONCE
    assert read() == 160
    assert asked == dict.fromkeys(parts, 1)


def test_workers_of_a_node_fetch_the_table_once(parts: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked, before = Counter[str](), FakeStore.cat_file

    def cat_file(self: FakeStore, path: str, *args: object, **options: object) -> bytes:
        asked[path] += 1
        return before(self, path, *args, **options)

    monkeypatch.setattr(FakeStore, "cat_file", cat_file)
    with ThreadPoolExecutor(4) as workers:
        assert [found.result() for found in [workers.submit(read) for _ in range(4)]] == [160] * 4
    assert {path: asked[path] for path in parts} == dict.fromkeys(parts, 1)
