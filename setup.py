"""Packages that ship; everything else about the project stands in pyproject.toml.

`configs/` lives at the top so that users find it, and ships as `sciml.configs`. setuptools cannot
discover packages and map one folder in pyproject.toml at once, hence these lines.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["sciml", "sciml.*"]), "sciml.configs"],
    package_dir={"sciml.configs": "configs"},
    package_data={
        "sciml": ["py.typed", "**/*.pyi"],
        "sciml.configs": ["*.yaml", "**/*.yaml"],
        "sciml.pretrained": ["**/*.json", "**/*.safetensors", "**/*.md"],
    },
)
