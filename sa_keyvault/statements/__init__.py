"""Writing: finds each row's symbols in the statement that writes it, and seals the row's values."""

from sa_keyvault.statements.hooks import StatementHooks
from sa_keyvault.statements.plans import EncryptedColumn, Plans, TablePlan
from sa_keyvault.statements.sealing import encode_column

__all__ = ["EncryptedColumn", "Plans", "StatementHooks", "TablePlan", "encode_column"]
