"""Quick, Draw! doodles to a trained, judged and comparable recogniser.

The package imports one way; the order stands in `pyproject.toml` under `tool.importlinter`.
Importing it does nothing: no folder is made, no logger set, no heavy library loaded.
"""

__version__ = "0.1.0"
