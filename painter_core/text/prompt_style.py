"""What is put around every caption before a model sees it: the name of a style, mostly.

Tables keep their captions as they are. A model that was trained with a prefix or suffix wants it when it
paints too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from painter_core.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class PromptStyle:
    """A prefix and a suffix; by default nothing."""

    prompt_prefix: str = ""
    """Put before every caption for the model, for instance "水彩画," for a style; columns of text stay as
    they are."""
    prompt_suffix: str = ""
    """Put after every caption for the model; the first to be cut where a caption is long."""

    def __bool__(self) -> bool:
        return bool(self.prompt_prefix or self.prompt_suffix)

    def of(self, caption: str) -> str:
        """The caption as the model is to see it."""
        return f"{self.prompt_prefix}{caption}{self.prompt_suffix}"

    def identity(self) -> dict[str, Any]:
        """What a run says of it; nothing if there is nothing."""
        return {"prompt": {"prefix": self.prompt_prefix, "suffix": self.prompt_suffix}} if self else {}

    @classmethod
    def of_identity(cls, identity: Mapping[str, Any]) -> Self:
        """What identity() said."""
        found = identity.get("prompt", {})
        return cls(prompt_prefix=found.get("prefix", ""), prompt_suffix=found.get("suffix", ""))

    def check_room(self, tokenizer: Tokenizer, text_len: int) -> None:
        """Raises ValueError unless a model that sees text_len tokens sees something of the captions."""
        taken = len(tokenizer.encode([self.of("")])[0]) if self else 0
        if taken >= text_len:
            raise ValueError(
                f"--prompt-prefix and --prompt-suffix: {taken} tokens, and the model sees {text_len}: there "
                "is no room for captions; shorten them"
            )


PLAIN = PromptStyle()  # captions as they are
