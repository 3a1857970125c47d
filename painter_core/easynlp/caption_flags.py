"""What is particular about EasyNLP's command lines of image2text_generation.

There --first_sequence is the picture and --second_sequence the caption; ids are drawn among the 100
likeliest; some parameters have names of their own.
"""

APP = "image2text_generation"
TOP_K = "100"
ADVICE = "; jobs/caption.py captions, and jobs/train.py learns it with --image-to-text 1"
_SEQUENCES = {"first_sequence": "second-sequence", "second_sequence": "first-sequence"}
_FIXED = {"enable_vqgan": "true", "random_crop": "false"}


def swapped(tokens: list[str]) -> list[str]:
    """A command line with the two sequences by our names."""
    found = []
    for token in tokens:
        name, sign, value = token.removeprefix("--").partition("=")
        ours = _SEQUENCES.get(name.replace("-", "_")) if token.startswith("--") else None
        found.append(token if ours is None else f"--{ours}{sign}{value}")
    return found


def own_parameters(parameters: dict[str, str]) -> dict[str, str]:
    """user_defined_parameters under the names of text2image_generation.

    Raises:
        ValueError: one says something that is not there.
    """
    found = {}
    for key, value in parameters.items():
        source = f"--user_defined_parameters {key}={value}"
        if key == "enable_vit" and value.lower() == "true":
            raise ValueError(
                f"{source}: the form with a CLIP encoder is not supported; only enable_vqgan=True"
            )
        if key in _FIXED:
            if value.lower() != _FIXED[key]:
                raise ValueError(f"{source}: only {_FIXED[key]} is there")
        elif key != "enable_vit":
            found["size" if key == "img_size" else key] = value
    return found
