"""Classes are addressed by room, not by file, and every name that a room offers is there."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import sciml
from sciml.cli import paths
from sciml.pretrained.classes import class_table
from sciml.pretrained.files.folder import SHIPPED

PACKAGE = Path(sciml.__file__).parent
FACES = sorted(
    ".".join(("sciml", *stub.relative_to(PACKAGE).parent.parts))
    for stub in PACKAGE.rglob("__init__.pyi")
)
LISTED = [place for names in class_table.CLASSES.values() for place in names.values()]


def configured():
    for file in sorted(paths.config_dir().rglob("*.yaml")):
        for target in re.findall(r"_target_: *(sciml\.[\w.]+)", file.read_text("utf-8")):
            yield file, target


@pytest.mark.parametrize("room", FACES)
def test_a_room_offers_what_it_lists(room):
    module = importlib.import_module(room)
    stub = ast.parse(Path(module.__file__).with_suffix(".pyi").read_text("utf-8"))
    imported = [a.name for n in stub.body if isinstance(n, ast.ImportFrom) for a in n.names]
    assert sorted(imported) == sorted(set(imported)) == sorted(module.__all__)
    assert all(getattr(module, name) is not None for name in module.__all__)


@pytest.mark.parametrize("room", FACES)
def test_no_file_hides_what_its_room_offers(room):
    # once imported, a file of the same name would stand where the function should
    stub = Path(importlib.import_module(room).__file__).with_suffix(".pyi")
    for node in ast.parse(stub.read_text("utf-8")).body:
        for name in node.names if isinstance(node, ast.ImportFrom) else ():
            assert node.module == name.name or not (stub.parent / f"{name.name}.py").exists()


def test_configurations_name_rooms_and_no_files():
    for file, target in configured():
        room, _, name = target.rpartition(".")
        module = importlib.import_module(room)
        assert Path(module.__file__).name == "__init__.py", f"{file}: {target}"
        assert name in module.__all__, f"{file}: {target}"


def test_the_table_of_published_classes_names_rooms_and_no_files():
    for place in LISTED:
        room, _, name = place.partition(":")
        assert name in importlib.import_module(room).__all__, place


@pytest.mark.parametrize(
    ("kind", "target", "name"),
    [
        ("problem", "sciml.physics.HJBLQG", "HJBLQG"),
        ("problem", "sciml.physics.hjb.HJBLQG", "HJBLQG"),  # where it stood in version 0.1
        ("family", "sciml.physics.walks.families.StarPoisson", "StarPoisson"),
        ("part", "sciml.physics.evolution.heat.Heat", "Heat"),
        ("part", "sciml.physics.low_dim_time.Heat", None),  # another one
        ("problem", "elsewhere.HJBLQG", None),
        ("problem", "sciml.physicsx.HJBLQG", None),
    ],
)
def test_addresses_of_older_folders_are_read(kind, target, name):
    assert class_table.name_of(kind, target) == name


def test_shipped_folders_name_classes_that_the_table_knows():
    for folder in SHIPPED.iterdir():
        spec = folder / "model.json"
        if spec.exists():
            name = re.search(r'"class": "(\w+)"', spec.read_text("utf-8"))[1]
            assert any(name in names for names in class_table.CLASSES.values()), folder.name
