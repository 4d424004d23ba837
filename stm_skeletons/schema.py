"""The JSON schema of the JSON lines output; ``python -m stm_skeletons.schema`` writes it anew."""

import json
from pathlib import Path

from stm_skeletons.parts import PartsLine

FILE = Path(__file__).with_name("parts.schema.json")


def schema_text() -> str:
    """The schema as it is shipped."""
    return json.dumps(PartsLine.model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema_text(), encoding="utf-8")
