"""Models that run in a process of their own, with a Python and libraries of their own.

`hyped_core.remote.host` starts ``python -m hyped_core.remote.worker`` and offers its model with the methods of the
contract; values go through files (`hyped_core.remote.exchange`), calls as JSON lines through pipes.
"""
