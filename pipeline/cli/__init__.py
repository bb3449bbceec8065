"""The command line: options, what each command does, and how it is printed."""
