"""The verdicts of a gate: one for every limit, and all of them as JSON, Markdown and JUnit XML."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal
from xml.etree import ElementTree

from edgeprune.report import markdown_table

Verdict = Literal["pass", "fail", "unsure", "unreliable"]


@dataclass(frozen=True)
class Check:
    """One limit and its verdict.

    Attributes:
        name: What is limited, such as ``latency``, ``accuracy drop`` or ``latency regression``.
        value: The figure, with its unit.
        limit: The limit, with its unit.
        verdict: ``pass``; ``fail``; ``unsure``, which passes: beyond the limit, but perhaps by noise; or
            ``unreliable``: beyond the limit on a disturbed machine, or no baseline to compare with.
        detail: How sure the verdict is, as a sentence.
    """

    name: str
    value: str
    limit: str
    verdict: Verdict
    detail: str

    def __str__(self) -> str:
        """One line of a log."""
        return f"{self.verdict:10} {self.name} {self.value}, limit {self.limit}: {self.detail}"


@dataclass(frozen=True)
class Gate:
    """All checks of one report.

    Attributes:
        checks: One for every limit.
        notes: Sentences on the result for people; they change no verdict.
    """

    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no check failed; an unreliable one did not fail."""
        return all(check.verdict != "fail" for check in self.checks)

    @property
    def verdict(self) -> Literal["passed", "failed", "unreliable"]:
        """The verdict on the whole report."""
        if not self.passed:
            return "failed"
        return "unreliable" if any(check.verdict == "unreliable" for check in self.checks) else "passed"

    def to_json(self) -> dict[str, object]:
        """What ``--json`` prints."""
        return {"verdict": self.verdict, "checks": [asdict(check) for check in self.checks], "notes": list(self.notes)}

    def to_markdown(self) -> str:
        """A table for a pull request or a CI job's summary."""
        rows = [(c.name, c.value, c.limit, c.verdict, c.detail) for c in self.checks]
        table = markdown_table(("check", "value", "limit", "verdict", "detail"), rows)
        notes = [*(f"- {text}" for text in self.notes), ""] if self.notes else []
        return "\n".join([f"### edgeprune gate: {self.verdict}", "", *table, *notes])

    def to_junit(self) -> str:
        """JUnit XML, one test case for each check."""
        verdicts = [check.verdict for check in self.checks]
        suite = ElementTree.Element(
            "testsuite",
            name="edgeprune gate",
            tests=str(len(verdicts)),
            failures=str(verdicts.count("fail")),
            errors="0",
            skipped=str(verdicts.count("unreliable")),
        )
        for check in self.checks:
            case = ElementTree.SubElement(suite, "testcase", classname="edgeprune.gate", name=check.name)
            summary = f"{check.value}, limit {check.limit}: {check.detail}"
            if check.verdict == "fail":
                ElementTree.SubElement(case, "failure", message=summary)
            if check.verdict == "unreliable":
                ElementTree.SubElement(case, "skipped", message=summary)
            ElementTree.SubElement(case, "system-out").text = summary
        ElementTree.indent(suite)
        return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
