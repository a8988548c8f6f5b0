"""The one error a user sees."""


class NorthstarError(Exception):
    """One line for the user: what is wrong, where, and what to do about it.

    The command line prints it without a traceback (``--debug`` shows the chain); Airflow fails the task with it.
    """
