"""The present state of a project: what readers see, and how those who change it replace it."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from tip_adapter.serve.rows import Rows
    from tip_adapter.serve.state import State


class CurrentState:
    """The present state of one project: one frozen record, replaced as a whole.

    Parameters
    ----------
    rows : Rows, of the project
    state : State
    """

    def __init__(self, rows: Rows, state: State) -> None:
        self.rows, self.state = rows, state
        #: Held during every change of the project.
        self.writing = threading.RLock()

    def publish(self, state: State, further: Callable[[Connection], None] | None = None) -> None:
        """Let readers see a state, with the present rows, as a new version; `further` is written in the version's transaction.

        Raises Problem if the project was deleted.
        """
        with self.writing:
            state = replace(state, version=self.state.version + 1)
            with self.rows.new_version(state.version) as connection:
                if further:
                    further(connection)
            self.state = state
