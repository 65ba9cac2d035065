"""``python -m megu`` is the command ``megu``."""

from megu.cli.main import main

if __name__ == "__main__":
    main()
