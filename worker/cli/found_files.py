"""The files that paths on the command line mean."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to index; ``problem`` says why it cannot even be opened."""

    path: Path
    name: str
    problem: str | None = None

    @property
    def key(self) -> str:
        """Where it lies, the same from whatever folder it was named: the document's key."""
        return str(self.path.parent.resolve() / self.path.name)


def found_files(paths: Sequence[Path]) -> Iterator[FoundFile]:
    """The files at the paths, each once; folders are walked in order, without what is hidden."""
    seen: set[str] = set()
    for path in paths:
        for found in _walked(path) if path.is_dir() else [_checked(path, path.name)]:
            if found.key not in seen:
                seen.add(found.key)
                yield found


def _walked(folder: Path) -> Iterator[FoundFile]:
    unlistable: list[OSError] = []
    for parent, folders, files in os.walk(folder, onerror=unlistable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                path = Path(parent, name)
                yield _checked(path, str(path.relative_to(folder)))
    for error in unlistable:
        path = Path(os.fsdecode(error.filename))
        yield FoundFile(path, f"{path.relative_to(folder)}/", error.strerror or str(error))


def _checked(path: Path, name: str) -> FoundFile:
    if not path.exists():
        problem = "a link to nothing" if path.is_symlink() else "no such file"
        return FoundFile(path, name, problem)
    # Reading a pipe or a socket would wait for ever.
    if not path.is_file():
        return FoundFile(path, name, "not a regular file")
    if not os.access(path, os.R_OK):
        return FoundFile(path, name, "no permission to read it")
    return FoundFile(path, name)
