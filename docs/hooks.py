"""Puts README, CONTRIBUTING and CHANGELOG, which lie beside docs/, into the site."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_ONLY_IN_THE_SOURCES = re.compile(r"\[([^\]]+)\]\((?:LICENSE|NOTICE)\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages, with links that lead from the site's root."""
    root = Path(config.config_file_path or ".").parent
    for source, page in _PAGES.items():
        text = (root / source).read_text(encoding="utf-8").replace("](docs/", "](")
        for other, its_page in _PAGES.items():
            text = text.replace(f"]({other}", f"]({its_page}")
        files.append(File.generated(config, page, content=_ONLY_IN_THE_SOURCES.sub(r"\1", text)))
    return files
