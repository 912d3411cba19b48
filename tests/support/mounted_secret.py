"""The files of a Kubernetes Secret in a pod."""

from pathlib import Path


class Secret:
    """A Secret in a pod: a directory of links to files, in a directory that is swapped."""

    def __init__(self, directory: Path, **content: str) -> None:
        self._directory = directory
        self._generation = 0
        directory.mkdir()
        self.swap(**content)
        for name in content:
            self.path(name).symlink_to(Path("..data") / name)

    def path(self, name: str) -> Path:
        return self._directory / name

    def swap(self, **content: str) -> None:
        """Replace all files at once, as a kubelet does."""
        self._generation += 1
        new = self._directory / f"..{self._generation}"
        new.mkdir()
        for name, text in content.items():
            (new / name).write_text(text)
        link = self._directory / "..data_tmp"
        link.symlink_to(new.name)
        link.rename(self._directory / "..data")
