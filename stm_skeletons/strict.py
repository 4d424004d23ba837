"""Base classes of the pydantic models of our files, and their error messages."""

from functools import cached_property

from pydantic import BaseModel, ConfigDict, ValidationError

from stm_skeletons.errors import one_line


class Strict(BaseModel):
    """Immutable; rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))


class Exact(Strict):
    """Also rejects values of another type, such as text for a number or 1 for a boolean."""

    model_config = ConfigDict(strict=True)


def validation_message(error: ValidationError) -> str:
    """Describe the first error and its location on one line."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    what = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return one_line(f"{where}: {what}{more}" if where else f"{what}{more}")
