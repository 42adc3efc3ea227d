"""The table of formats: each writes a model that answers as the live one."""

import pytest

from tlkeras.export import formats


@pytest.mark.parametrize("name", formats.NAMES)
def test_every_format_is_checked_on_photographs(trained, tmp_path, name):
    verified = formats.export(trained.directory, tmp_path / "a", name)
    assert verified.images == 2
    assert any((tmp_path / "a").iterdir())
