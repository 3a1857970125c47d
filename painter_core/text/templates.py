"""Templates of pages, which lie beside the modules that fill them."""

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


@cache  # templates are compiled once in a process
def templates_of(*packages: str) -> Environment:
    """The templates of these packages, the first one's first; what is filled in is escaped, and must be
    there."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(package, ".") for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
