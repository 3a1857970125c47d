"""What a caption's text ids are as targets of the text head. Shapes: B rows, T text_len."""

from torch import Tensor

NO_TARGET = -100


def text_targets(text: Tensor, pad_id: int) -> Tensor:
    """What the text head is to write, int64 (B, T): ids without the codes' offset, and NO_TARGET behind the
    first [PAD], which ends a caption.

    Args:
        text: int (B, T), text ids.
        pad_id: the text id of [PAD].
    """
    is_pad = text == pad_id
    behind = (is_pad.cumsum(1) - is_pad.long()) > 0
    return (text.long() - pad_id).masked_fill(behind, NO_TARGET)
