"""A folder of migrations as `alembic init` makes it, and what a user does with it."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import Script
from sqlalchemy import URL, MetaData

from sa_keyvault import Encrypted
from support.command import KeyFiles

__all__ = ["Migrations", "plain_copy"]

_TARGET = "target_metadata = None"


class Migrations:
    """The migrations of one database, run as the `alembic` command runs them.

    Args:
        folder: Where the scripts are to be.
        url: The database.
        keys: Files of the installation key, which the environment names.
    """

    def __init__(self, folder: Path, url: URL, keys: KeyFiles) -> None:
        self.folder = folder
        self.output = io.StringIO()
        self.config = Config(str(folder / "alembic.ini"), stdout=io.StringIO(), output_buffer=self.output)
        command.init(self.config, str(folder / "migrations"))
        self.config = Config(str(folder / "alembic.ini"), stdout=io.StringIO(), output_buffer=self.output)
        self.config.set_main_option("sqlalchemy.url", url.render_as_string(hide_password=False).replace("%", "%%"))
        environment = folder / "migrations" / "env.py"
        text = environment.read_text("utf-8")
        assert text.count(_TARGET) == 1
        text = text.replace(_TARGET, 'target_metadata = config.attributes["metadata"]')
        # the logging of the tests is not the command's
        environment.write_text(text.replace("fileConfig(config", "(lambda name: None)(config"), "utf-8")
        self.variables = {
            "SA_KEYVAULT_INSTALLATION_KEY": str(keys.key),
            "SA_KEYVAULT_PASSPHRASE_FILE": str(keys.passphrase),
        }

    def revise(self, metadata: MetaData) -> str:
        """Let autogenerate write a revision; return its body, the two functions."""
        self.config.attributes["metadata"] = metadata
        with self._in_environment():
            made = command.revision(self.config, "change", autogenerate=True)
        assert isinstance(made, Script)
        text = Path(made.path).read_text("utf-8")
        return text[text.index("def upgrade()") :]

    def write(self, upgrade: str, downgrade: str = "pass", imports: str = "") -> None:
        """Write a revision by hand."""
        made = command.revision(self.config, "change")
        assert isinstance(made, Script)
        path = Path(made.path)
        head = path.read_text("utf-8").split("def upgrade()")[0]
        body = f"def upgrade():\n    {upgrade}\n\n\ndef downgrade():\n    {downgrade}\n"
        path.write_text(f"{head}{imports}\n\n\n{body}", "utf-8")

    def upgrade(self, to: str = "head", **options: Any) -> str:
        """Run the migrations forward; return what was written out."""
        return self._run(command.upgrade, to, **options)

    def downgrade(self, to: str = "base", **options: Any) -> str:
        """Run the migrations backward; return what was written out."""
        return self._run(command.downgrade, to, **options)

    def differences(self, metadata: MetaData) -> list[str]:
        """Return the lines that autogenerate would write; none where model and database agree."""
        body = self.revise(metadata)
        newest = max((self.folder / "migrations" / "versions").glob("*.py"), key=lambda path: path.stat().st_mtime_ns)
        newest.unlink()
        lines = [line.strip() for line in body.split("def downgrade()")[0].splitlines()[2:]]
        return [line for line in lines if line and not line.startswith("#") and line != "pass"]

    def _run(self, run: Any, to: str, **options: Any) -> str:
        self.output.seek(0)
        self.output.truncate()
        self.config.attributes.setdefault("metadata", None)
        with self._in_environment():
            run(self.config, to, **options)
        return self.output.getvalue()

    @contextmanager
    def _in_environment(self) -> Iterator[None]:
        before = {name: os.environ.get(name) for name in self.variables}
        os.environ.update(self.variables)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def plain_copy(metadata: MetaData) -> MetaData:
    """Return the same tables with what is encrypted in them as plain columns."""
    copied = MetaData()
    for table in metadata.sorted_tables:
        for column in table.to_metadata(copied).columns:
            if isinstance(column.type, Encrypted):
                column.type = column.type.inner
    return copied
