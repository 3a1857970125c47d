"""--expect: the sizes that a model must have."""

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every job reads this file, also those that need no model
    from painter_core.models.gpt import GPTConfig
    from painter_core.models.vqgan import VQGANConfig


def check_expected(expect: str, *, vqgan: "VQGANConfig | None", gpt: "GPTConfig | None") -> None:
    """Compares `image_size=256,text_len=32,...` with a model.

    Args:
        expect: what --expect says; names are fields of the two configs.
        vqgan, gpt: geometry of the model's parts; None for a part that the job does not have.

    Raises:
        ValueError: sizes differ, all of which are listed, or a name is unknown.
    """
    found = {
        f.name: getattr(config, f.name)
        for config in (vqgan, gpt)
        if config
        for f in dataclasses.fields(config)
    }
    if vqgan:
        found["image_len"] = vqgan.image_len
    differing = []
    for entry in filter(None, expect.split(",")):
        name, _, value = entry.strip().partition("=")
        if not isinstance(found.get(name), int):
            known = ", ".join(sorted(k for k, v in found.items() if isinstance(v, int)))
            raise ValueError(f"--expect {entry}: known here are {known}")
        if not value.strip().isdecimal():
            raise ValueError(f"--expect {entry}: expected a whole number, got {value!r}")
        if found[name] != int(value):
            differing.append(f"{name} is {found[name]}, not {value}")
    if differing:
        raise ValueError(f"--expect {expect}: of this model {'; '.join(differing)}")
