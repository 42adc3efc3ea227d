"""What the command line runs: one function a command.

Each takes the parsed flags and the words without a flag, and returns the exit
status. Heavy libraries are imported when the settings have been checked.
"""
