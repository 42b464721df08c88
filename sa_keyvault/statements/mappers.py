"""What the ORM must know before a flush: declarations that cannot be honoured, and values made at an UPDATE."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, Connection, Table, event
from sqlalchemy.orm import Mapper, attributes

from sa_keyvault.errors import ConfigurationError
from sa_keyvault.statements.defaults import DefaultContext, evaluate, has_client_onupdate
from sa_keyvault.statements.tracebacks import frames_of_others
from sa_keyvault.types import Declaration, Encrypted, encrypted_columns

__all__ = ["listen_to_mappers"]

_LABELS = "sa_keyvault_labels"


def listen_to_mappers() -> None:
    """Look at every mapper when it is configured; mappers without encrypted columns are left alone."""
    if not event.contains(Mapper, "mapper_configured", _on_configured):
        event.listen(Mapper, "mapper_configured", _on_configured)


def _on_configured(mapper: Mapper[Any], class_: type[Any]) -> None:
    declarations = [
        declaration for table in mapper.tables if isinstance(table, Table) for declaration in encrypted_columns(table)
    ]
    if not declarations:
        return
    _refuse_roles(mapper)
    for declaration in declarations:
        _claim_label(mapper, declaration)
    _listen_to_onupdate(mapper, declarations)


def _refuse_roles(mapper: Mapper[Any]) -> None:
    roles = {"polymorphic_on": mapper.polymorphic_on, "version_id_col": mapper.version_id_col}
    for role, column in roles.items():
        if column is not None and isinstance(column.type, Encrypted):
            msg = f"{column} is encrypted, so it cannot be {role} of {mapper.class_.__name__}; use a plain column"
            raise ConfigurationError(msg)


def _claim_label(mapper: Mapper[Any], declaration: Declaration) -> None:
    """Refuse two columns under one label, but for tables of one hierarchy, which meet in a union."""
    column, label = declaration.column, declaration.binding.label
    claims: dict[bytes, tuple[str, type[Any]]] = column.table.metadata.info.setdefault(_LABELS, {})
    name, owner = str(column), mapper.base_mapper.class_
    claimed, claimant = claims.setdefault(bytes(label), (name, owner))
    if claimed != name and claimant is not owner:
        msg = (
            f"{name} and {claimed} have the same label {str(label)!r}, so that their values could be exchanged unseen; "
            'give each a context="…" of its own'
        )
        raise ConfigurationError(msg, label=str(label))


def _listen_to_onupdate(mapper: Mapper[Any], declarations: list[Declaration]) -> None:
    """Let each object make its own value: after an UPDATE of many, SQLAlchemy would copy the first row's into all."""
    encrypted = [declaration.column for declaration in declarations]
    updated = _mapped(mapper, [column for column in encrypted if has_client_onupdate(column)])
    if updated:
        event.listen(mapper, "before_update", _on_update(updated))


def _mapped(mapper: Mapper[Any], columns: list[Column[Any]]) -> list[tuple[str, Column[Any]]]:
    return [
        (mapper.get_property_by_column(column).key, column) for column in columns if column in mapper.columns.values()
    ]


def _on_update(columns: list[tuple[str, Column[Any]]]) -> Callable[[Mapper[Any], Connection, Any], None]:
    def set_unchanged(mapper: Mapper[Any], connection: Connection, target: Any) -> None:
        state = attributes.instance_state(target)
        if not any(state.attrs[key].history.has_changes() for key in [*mapper.column_attrs.keys()]):
            return
        for key, column in columns:
            if not state.attrs[key].history.has_changes():
                attributes.set_attribute(target, key, _made(column, connection, _current(mapper, state.dict)))

    return set_unchanged


def _made(column: Column[Any], connection: Connection, row: dict[str, Any]) -> Any:
    options = connection.get_execution_options()
    context = DefaultContext(connection, options, column, row, isinsert=False, executemany=False)
    try:
        return evaluate(context)
    except Exception as error:  # noqa: BLE001 - it is raised again
        # this frame, and what it passed, would keep the object's values in its traceback
        failure = error.with_traceback(frames_of_others(error))
    del row, context
    raise failure


def _current(mapper: Mapper[Any], state: dict[str, Any]) -> dict[str, Any]:
    return {prop.columns[0].key: state[prop.key] for prop in mapper.column_attrs if prop.key in state}
