"""The one error of replay/: a user's mistake, or a file that cannot be trusted."""


class ReplayError(Exception):
    """A replay buffer cannot do what was asked; the message says what was found and what to change."""
