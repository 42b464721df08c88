"""Migrations with Alembic: operations on keys and encrypted columns, and what autogenerate makes of a model.

Alembic finds it by the entry point `alembic.autogenerate.keyvault`; nothing is to be imported.
"""

from typing import TYPE_CHECKING

from sa_keyvault.migrations.decorated import Decorated

if TYPE_CHECKING:
    from alembic.runtime.plugins import Plugin

__all__ = ["Decorated", "setup"]

_OWN = "keyvault"


def setup(plugin: "Plugin") -> None:
    """Register operations, renderers and comparators; Alembic calls it while it is loaded itself."""
    from alembic.util import DispatchPriority  # noqa: PLC0415

    # the operations are there as soon as they are defined, and done as soon as their implementations are
    from sa_keyvault.migrations import comparing, implementations, rendering  # noqa: F401, PLC0415

    rendering.register()
    plugin.add_autogenerate_comparator(comparing.begin, "schema", _OWN, priority=DispatchPriority.FIRST)
    plugin.add_autogenerate_comparator(comparing.keep_type, "column", "types", priority=DispatchPriority.MEDIUM)
    plugin.add_autogenerate_comparator(comparing.compare_column, "column", _OWN, priority=DispatchPriority.MEDIUM)
    plugin.add_autogenerate_comparator(comparing.add_findings, "schema", _OWN, priority=DispatchPriority.LAST)


# here, not above: whoever imports a module of this package first has Alembic load this one, and call `setup`
import alembic  # noqa: E402, F401
