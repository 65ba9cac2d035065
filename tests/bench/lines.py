"""Measurements as they are printed and kept: one line each, with what would be expected."""

from contextlib import contextmanager


class Report:
    """Lines as they are printed."""

    def __init__(self):
        self.lines = []

    def say(self, part, what, value, unit, expected="", ok=None, wrong=True):
        """One measurement; ``ok``: as expected; ``wrong``: it is an error where it is not."""
        self.lines.append(
            {
                "part": part,
                "what": what,
                "value": value,
                "unit": unit,
                "expected": expected,
                "ok": ok,
                "wrong": ok is False and wrong,
            }
        )
        mark = {True: "ok", False: "LOOK", None: ""}[ok]
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        print(
            f"{mark:4s} {part:13s} {what:44s} {shown:>10s} {unit:22s}" + (f" expected: {expected}" if expected else ""),
            flush=True,
        )

    @contextmanager
    def tried(self, part, what):
        """Go on where the block fails: that is a line, and wrong."""
        try:
            yield
        except Exception as error:  # whatever a driver or a compiler may raise
            why = (str(error).strip().splitlines() or [""])[0][:100]
            self.say(part, what, "failed", "", f"no {type(error).__name__} ({why})", False)
