"""Builds the wheel with the page in it; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithPage(build_py):
    """The page lives beside the package in a checkout, and within it once installed."""

    def run(self) -> None:
        """Copy `web/` into the built package. An editable install finds it where it is."""
        super().run()
        if not self.editable_mode:
            page = Path(self.build_lib, "textpro_stream", "web")
            shutil.copytree("web", page, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithPage})
