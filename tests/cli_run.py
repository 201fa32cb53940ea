"""The command line as tests call it, with a bundle and a store of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from personaplug_edge import HistoryStore, cli


class Run:
    """Runs one command a call; its exit code, stdout and stderr."""

    def __init__(self, bundle: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.store, self.capsys = store, capsys
        self.shared = ["--bundle", str(bundle), "--store", str(store), "--threads", "1"]

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = cli.main([*self.shared, *arguments])
        output = self.capsys.readouterr()
        return code, output.out, output.err

    def with_empty_store(self) -> Run:
        """Itself, after making the store."""
        HistoryStore(self.store).close()
        return self

    def fails(self, *arguments: str) -> str:
        """The one line of an error."""
        code, out, err = self(*arguments)
        assert (code, out) == (1, "") and err.count("\n") == 1 and err.startswith("personaplug: error: "), err
        assert "unexpected" not in err
        return err
