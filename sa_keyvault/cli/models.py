"""The application's models, which an option names."""

import importlib
import sys
from pathlib import Path

from sqlalchemy import MetaData

from sa_keyvault.errors import ConfigurationError

__all__ = ["read_metadata"]


def read_metadata(source: str) -> MetaData:
    """Return the metadata that `package.module:Base` names, or `package.module:metadata`.

    Raises:
        sa_keyvault.ConfigurationError: It is not there, or is neither.
    """
    module, _, name = source.partition(":")
    # as `python -m` would find it
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"--metadata {source} is not found ({type(error).__name__}); write package.module:Base"
        raise ConfigurationError(msg) from None
    finally:
        sys.path.pop(0)
    metadata = found if isinstance(found, MetaData) else getattr(found, "metadata", None)
    if isinstance(metadata, MetaData):
        return metadata
    msg = f"--metadata {source} is neither metadata nor a declarative base; write package.module:Base"
    raise ConfigurationError(msg)
