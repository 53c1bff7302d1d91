"""The gallery of the docs: every model, with the picture that its command made."""

import importlib.util
import json
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
place = ROOT / "docs" / "make_gallery.py"
spec = importlib.util.spec_from_file_location("make_gallery", place)
gallery = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gallery)
ROWS = json.loads((gallery.PICTURES / "rows.json").read_text())


def test_every_model_has_its_place():
    placed = [name for names in gallery.GROUPS.values() for name in names.split()]
    assert len(placed) == len(set(placed))
    assert set(placed) == {path.stem for path in (ROOT / "configs" / "model").glob("*.yaml")}
    assert set(gallery.WITHOUT) < set(placed)


def test_the_page_is_what_the_rows_say():
    assert (ROOT / "docs" / "gallery.md").read_text() == gallery.page(ROWS)


def test_pictures_are_small_and_belong_to_rows():
    found = {path.stem: path for path in gallery.PICTURES.glob("*.png")}
    assert found.keys() == ROWS.keys()
    for name, path in found.items():
        assert path.stat().st_size < 80_000, name
        assert Image.open(path).width <= gallery.WIDTH, name


def test_a_small_picture_keeps_its_colours(tmp_path):
    """A few pixels of the ends of a scale have no colour of other pixels."""
    from matplotlib import colormaps

    values = np.linspace(0, 1, 300) ** 4  # most of it dark, the bright end rare
    colours = np.full((200, 600, 3), 255, np.uint8)
    colours[20:150, :300] = 255 * colormaps["viridis"](values)[:, :3]
    colours[20:150, 300:] = 255 * colormaps["RdBu_r"](values)[:, :3]
    Image.fromarray(colours).save(tmp_path / "large.png")
    gallery.shrink(tmp_path / "large.png", tmp_path / "small.png")
    small = np.asarray(Image.open(tmp_path / "small.png").convert("RGB"), int)
    assert np.abs(small - colours).max() < 40
