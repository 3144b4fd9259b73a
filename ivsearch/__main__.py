"""``python -m ivsearch``: the same as the command ``ivsearch``."""

from ivsearch.commands.main import main

if __name__ == "__main__":
    main()
