"""BERT WordPiece for captions, from vocab.txt or tokenizer.json, and a built-in vocabulary.

No special token is added or parsed: `[PAD]` typed in a caption is plain text. Text is lower-cased, accents
are stripped and every Hanzi is a word, as in BertTokenizer.
"""

import hashlib
import json
import re
import string
from functools import cache, lru_cache
from pathlib import Path
from typing import NoReturn

from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers

from painter_core.text.joining import join_tokens

PAD, UNK = "[PAD]", "[UNK]"
SPECIAL = (PAD, UNK, "[CLS]", "[SEP]", "[MASK]")
UNUSED = re.compile(r"\[unused\d+\]")  # lines of BERT's vocabularies that stand for nothing


class Tokenizer:
    """Captions -> BERT ids.

    Args:
        backend: a tokenizer of the `tokenizers` library with a WordPiece model.
        file_name: `vocab.txt` or `tokenizer.json`, the name that the content is saved under.
        content: the file's bytes; their sha256 identifies the tokenizer.
        path: where it was read, for messages.
    """

    def __init__(self, backend: Backend, file_name: str, content: bytes, path: str = "") -> None:
        self._backend = backend
        self.file_name = file_name
        self.content = content
        pad, unk = backend.token_to_id(PAD), backend.token_to_id(UNK)
        if pad != 0 or unk is None:
            raise ValueError(
                f"{path or file_name}: expected {PAD} at id 0 and {UNK} anywhere, got ids {pad} and {unk}"
            )
        self.unk_id: int = unk
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=False)

    @property
    def sha256(self) -> str:
        """Hex sha256 of the file's content."""
        return hashlib.sha256(self.content).hexdigest()

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Ids of each caption, of any length; [] for a caption that leaves no token."""
        return [e.ids for e in self._backend.encode_batch(texts, add_special_tokens=False)]

    def id_of(self, token: str) -> int:
        """Id of a token.

        Raises:
            ValueError: the vocabulary lacks it.
        """
        found = self._backend.token_to_id(token)
        if found is None:
            raise ValueError(f"{self.file_name}: has no {token}")
        return found

    def decode(self, ids: list[int]) -> str:
        """What the model saw: special tokens left out, words joined without spaces, as EasyNLP's output."""
        tokens = [self._backend.id_to_token(i) or _unknown_id(i, self.vocab_size) for i in ids]
        return "".join(token.removeprefix("##") for token in tokens if token not in SPECIAL)

    def caption(self, ids: list[int]) -> str:
        """The text of ids that a model wrote, up to the first [PAD], as a reader expects it."""
        end = ids.index(0) if 0 in ids else len(ids)
        tokens = [self._backend.id_to_token(i) or _unknown_id(i, self.vocab_size) for i in ids[:end]]
        return join_tokens(tokens)

    def no_words(self) -> list[int]:
        """Ids that are no text: of special tokens but [PAD], which ends one, and of unused lines."""
        tokens = (self._backend.id_to_token(i) for i in range(1, self.vocab_size))
        return [i for i, t in enumerate(tokens, 1) if t in SPECIAL or UNUSED.fullmatch(t or "")]

    def save(self, directory: Path) -> None:
        """Writes the file under its own name."""
        (directory / self.file_name).write_bytes(self.content)


def _unknown_id(number: int, vocab_size: int) -> NoReturn:
    raise ValueError(f"id {number}: expected 0..{vocab_size - 1}")


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Reads vocab.txt, tokenizer.json, or a directory that holds one of them (tokenizer.json first)."""
    path = Path(path)
    if path.is_dir():
        found = [path / n for n in ("tokenizer.json", "vocab.txt") if (path / n).is_file()]
        if not found:
            raise ValueError(f"{path}: no tokenizer.json and no vocab.txt")
        path = found[0]
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected vocab.txt or tokenizer.json")
    content = path.read_bytes()
    return _from_json(path, content) if path.suffix == ".json" else from_vocab(content, str(path))


@lru_cache(maxsize=4)  # a job opens the same one for its plan, its operators and its report
def from_vocab(content: bytes, name: str = "vocab.txt") -> Tokenizer:
    """A tokenizer from the bytes of a vocab.txt: one token a line, whose number is the id."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not UTF-8 at byte {error.start}; convert the file to UTF-8") from None
    if text.startswith("\ufeff"):
        raise ValueError(f"{name}: starts with a byte order mark; save it without one")
    lines = text.removesuffix("\n").split("\n")
    tokens = [line.removesuffix("\r") for line in lines]
    first: dict[str, int] = {}
    for number, token in enumerate(tokens):
        if not token:  # white space may be meant: BERT's Chinese vocabulary has U+2028
            raise ValueError(f"{name} line {number + 1}: blank; ids of all later tokens would shift")
        if token in first:
            raise ValueError(f"{name} line {number + 1}: {token!r} stands on line {first[token] + 1} already")
        first[token] = number
    backend = Backend(models.WordPiece(first, unk_token=UNK, max_input_chars_per_word=100))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return Tokenizer(backend, "vocab.txt", content, name)


def _from_json(path: Path, content: bytes) -> Tokenizer:
    try:
        spec = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    model = spec.get("model") if isinstance(spec, dict) else None
    kind = model.get("type") if isinstance(model, dict) else None
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if kind != "WordPiece" or not isinstance(vocab, dict):
        raise ValueError(f"{path}: model.type is {kind!r}, expected 'WordPiece' with a vocab")
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise ValueError(f"{path}: ids are not 0..{len(vocab) - 1}, each once")
    # added tokens would be cut out of captions, the post-processor would add [CLS] and [SEP]
    spec.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
    return Tokenizer(Backend.from_str(json.dumps(spec)), "tokenizer.json", content, str(path))


@cache
def builtin_tokenizer() -> Tokenizer:
    """A vocabulary that needs no file.

    BERT's special tokens, ASCII, CJK punctuation, the Hanzi of GB 2312, word pieces of letters and digits.
    """
    ascii_chars = [c for c in string.printable if c.isprintable() and c != " " and not c.isupper()]
    punctuation = "、。〈〉《》「」『』【】〔〕!,:;?()·—…‘’“”~%¥°"
    pieces = ["##" + c for c in string.ascii_lowercase + string.digits]
    tokens = [*SPECIAL, *ascii_chars, *punctuation, *_gb2312_hanzi(), *pieces]
    return from_vocab(("\n".join(dict.fromkeys(tokens)) + "\n").encode())


def _gb2312_hanzi() -> list[str]:
    """The 6,763 Hanzi of GB 2312, rows 16..87, in the order of the standard."""
    chars = []
    for row in range(16, 88):
        for cell in range(1, 95):
            raw = bytes((0xA0 + row, 0xA0 + cell))
            try:
                chars.append(raw.decode("gb2312"))
            except UnicodeDecodeError:
                continue  # five cells at the end of row 55 are empty
    return chars
