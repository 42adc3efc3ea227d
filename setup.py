"""What setup.cfg cannot say: the README as a package index shows it."""

import pathlib
import re

import setuptools

# A package index knows nothing of the files beside the README.
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?://)[^)]*\)")
_README = pathlib.Path(__file__).with_name("README.md")

setuptools.setup(
    long_description=_LINK.sub(r"\1", _README.read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
