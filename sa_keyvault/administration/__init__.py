"""What an administrator does with keys; each operation runs on a connection, as part of its transaction."""

from sa_keyvault.administration.audit import AuditReport, verify_events
from sa_keyvault.administration.counting import ValueCount, count_values, hidden_columns
from sa_keyvault.administration.doctor import Finding, examine, examine_values
from sa_keyvault.administration.installations import (
    add_installation,
    bind_certificate,
    invite_installation,
    join_installation,
    remove_installation,
)
from sa_keyvault.administration.masters import (
    MasterFollowed,
    disable_master,
    enable_master,
    replace_master,
    retire_master,
    rotate_master,
)
from sa_keyvault.administration.provision import Provisioned, provision
from sa_keyvault.administration.provisioned import (
    provisioning_of,
    provisioning_of_invitation,
    sealing_provisioning_of,
)
from sa_keyvault.administration.removal import remove_master, remove_working
from sa_keyvault.administration.status import MasterStatus, Status, WorkingStatus, status
from sa_keyvault.administration.working import disable_working, enable_working, retire_working, rotate_area

__all__ = [
    "AuditReport",
    "Finding",
    "MasterFollowed",
    "MasterStatus",
    "Provisioned",
    "Status",
    "ValueCount",
    "WorkingStatus",
    "add_installation",
    "bind_certificate",
    "count_values",
    "disable_master",
    "disable_working",
    "enable_master",
    "enable_working",
    "examine",
    "examine_values",
    "hidden_columns",
    "invite_installation",
    "join_installation",
    "provision",
    "provisioning_of",
    "provisioning_of_invitation",
    "remove_installation",
    "remove_master",
    "remove_working",
    "replace_master",
    "retire_master",
    "retire_working",
    "rotate_area",
    "rotate_master",
    "sealing_provisioning_of",
    "status",
    "verify_events",
]
