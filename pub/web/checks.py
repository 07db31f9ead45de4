"""What is so and what is not: a check, and many of them for machines and for people."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so for the pub to be ready; ``reason`` says why it is not."""

    name: str
    reason: str | None = None

    @property
    def passed(self) -> bool:
        """Is it so?"""
        return self.reason is None


def as_json(checks: Sequence[Check]) -> dict[str, object]:
    """``{"ready": true, "checks": [{"name", "passed", "reason"}]}``"""
    return {
        "ready": all(check.passed for check in checks),
        "checks": [{"name": each.name, "passed": each.passed, "reason": each.reason} for each in checks],
    }


def as_text(checks: Sequence[Check]) -> str:
    """A line for each check, then one for all of them."""
    lines = [f"[+]{each.name} ok" if each.passed else f"[-]{each.name} failed: {each.reason}" for each in checks]
    verdict = "passed" if all(check.passed for check in checks) else "failed"
    return "\n".join([*lines, f"readyz check {verdict}", ""])
