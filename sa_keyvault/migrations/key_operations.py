"""The operations on the key store itself, as objects: what each is told, and what undoes it."""

from typing import Any

from alembic.operations import MigrateOperation, Operations

__all__ = ["CreateKeyVaultOp", "DropKeyVaultOp", "RotateMasterKeyOp", "RotateWorkingKeyOp"]


@Operations.register_operation("create_keyvault")
class CreateKeyVaultOp(MigrateOperation):
    """Create the tables of the key store."""

    name = "create_keyvault"

    @classmethod
    def create_keyvault(cls, operations: Operations) -> None:
        """Create the tables of the key store, but for those that are there.

        The first keys are made when they are needed: by the first start, or by the first operation that encrypts.
        """
        operations.invoke(cls())

    def reverse(self) -> MigrateOperation:
        """Drop them."""
        return DropKeyVaultOp()

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the operation for `compare_metadata`."""
        return ("create_keyvault",)


@Operations.register_operation("drop_keyvault")
class DropKeyVaultOp(MigrateOperation):
    """Drop the tables of the key store."""

    name = "drop_keyvault"

    @classmethod
    def drop_keyvault(cls, operations: Operations) -> None:
        """Drop the tables of the key store, with all keys. Final; refused while a value needs one of them."""
        operations.invoke(cls())

    def reverse(self) -> MigrateOperation:
        """Create them; the keys are new ones then."""
        return CreateKeyVaultOp()

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the operation for `compare_metadata`."""
        return ("drop_keyvault",)


@Operations.register_operation("rotate_working_key")
class RotateWorkingKeyOp(MigrateOperation):
    """Retire the active working keys of an area."""

    name = "rotate_working_key"

    def __init__(self, area: str) -> None:
        self.area = area

    @classmethod
    def rotate_working_key(cls, operations: Operations, area: str) -> None:
        """Retire the active working keys of an area; the next value that is written makes a new one."""
        operations.invoke(cls(area))

    def reverse(self) -> MigrateOperation:
        """Rotate again: a retired key does not come back."""
        return self

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the operation for `compare_metadata`."""
        return ("rotate_working_key", self.area)


@Operations.register_operation("rotate_master_key")
class RotateMasterKeyOp(MigrateOperation):
    """Rewrap the working keys by a new master key."""

    name = "rotate_master_key"

    @classmethod
    def rotate_master_key(cls, operations: Operations) -> None:
        """Let a new master key of the same lineage follow the active one; no row is touched."""
        operations.invoke(cls())

    def reverse(self) -> MigrateOperation:
        """Rotate again: a retired key does not come back."""
        return self

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the operation for `compare_metadata`."""
        return ("rotate_master_key",)
