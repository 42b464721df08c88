"""The keys of one store in a running process: what is cached, reserved, created in passing, and refreshed."""

from sa_keyvault.keyring.anchor import advance_anchor, anchor_problem
from sa_keyvault.keyring.certificate import certificate_days
from sa_keyvault.keyring.identity import Identity
from sa_keyvault.keyring.joining import accept, admit, invite
from sa_keyvault.keyring.keys import KeySet, Master
from sa_keyvault.keyring.loading import find_store, load_keys, require_store
from sa_keyvault.keyring.operation import Operation, operation, require_reason
from sa_keyvault.keyring.policy import Policy
from sa_keyvault.keyring.private import PrivateConnection, private_connection
from sa_keyvault.keyring.ring import Ring
from sa_keyvault.keyring.rows import genuine, intact, require_rows
from sa_keyvault.keyring.settings import Settings, default_actor
from sa_keyvault.keyring.startup import DeclaredColumn, initialize, prepare
from sa_keyvault.keyring.transaction import TransactionState, drop_state, find_state, state_of
from sa_keyvault.keyring.wording import shown

__all__ = [
    "DeclaredColumn",
    "Identity",
    "KeySet",
    "Master",
    "Operation",
    "Policy",
    "PrivateConnection",
    "Ring",
    "Settings",
    "TransactionState",
    "accept",
    "admit",
    "advance_anchor",
    "anchor_problem",
    "certificate_days",
    "default_actor",
    "drop_state",
    "find_state",
    "find_store",
    "genuine",
    "initialize",
    "intact",
    "invite",
    "load_keys",
    "operation",
    "prepare",
    "private_connection",
    "require_reason",
    "require_rows",
    "require_store",
    "shown",
    "state_of",
]
