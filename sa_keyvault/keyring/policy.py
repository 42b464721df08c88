"""What a ring makes and accepts: its provisioning, and whether FIPS is required."""

from dataclasses import dataclass
from typing import get_args

from sa_keyvault.errors import ConfigurationError
from sa_keyvault.records import MasterRecord, WorkingRecord
from sa_keyvault.suites import Fips, Provisioning, Suite, require_fips

__all__ = ["Policy"]


@dataclass(frozen=True)
class Policy:
    """What a ring makes and accepts.

    Attributes:
        provisioning: Algorithms of new keys, and the suites that are known.
        fips: `"require"` where nothing may be used that FIPS 140-3 does not approve.

    Raises:
        sa_keyvault.ConfigurationError: FIPS is required, and not active or not provisioned.
    """

    provisioning: Provisioning
    fips: Fips

    def __post_init__(self) -> None:
        if self.fips not in get_args(Fips):
            msg = f"fips={self.fips!r} is not offered; choose 'off' or 'require'"
            raise ConfigurationError(msg)
        if self.fips == "require":
            require_fips(self.provisioning)

    def suite_of(self, record: MasterRecord | WorkingRecord) -> Suite:
        """Return the suite of a key.

        Raises:
            sa_keyvault.ConfigurationError: There is no such suite, or FIPS is required and it is not approved.
        """
        return self.suite_named(record.suite, _name(record))

    def suite_named(self, name: str, holder: str) -> Suite:
        """Return the suite of *holder*, for the error.

        Raises:
            sa_keyvault.ConfigurationError: As for `suite_of`.
        """
        suite = self.provisioning.suite_named(name)
        if self.fips == "require" and not suite.is_fips_approved:
            msg = (
                f"FIPS is required, and {holder} is a key of {suite.name}, which is not approved; "
                "leave it with `sa-keyvault provision` and re-encrypt its values first"
            )
            raise ConfigurationError(msg)
        return suite


def _name(record: MasterRecord | WorkingRecord) -> str:
    if isinstance(record, MasterRecord):
        return f"master key {record.id}"
    return f"working key {record.number} of area {record.area!r}"
