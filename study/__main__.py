"""``python -m study COMMAND``: the commands that make runs."""

from study.commands.command_line import main

if __name__ == "__main__":
    main()
