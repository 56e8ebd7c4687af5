"""Lists the skipped tests of a junit file, and fails if a browser test is among them or none ran at all."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree


def main(junit: Path) -> int:
    """Exit status: 0 when every browser test ran, 1 when one was skipped or none was found, 2 without a junit file."""
    if not junit.is_file():
        print(f"{junit}: pytest wrote no results, so nothing ran")
        return 2
    cases = list(ElementTree.parse(junit).iter("testcase"))
    named = {case: ".".join(filter(None, (case.get("classname"), case.get("name")))) for case in cases}
    browser = [case for case in cases if named[case].startswith("tests.browser.")]
    skipped = [(c, why) for c in cases if (why := c.find("skipped")) is not None and why.get("type") != "pytest.xfail"]
    for case, why in skipped:
        print(f"{named[case]}: {why.get('message')}")
    missing = [case for case, _ in skipped if case in browser]
    print(f"{len(cases)} tests, {len(skipped)} skipped; {len(browser)} browser tests, {len(missing)} skipped")
    if not browser:
        print("no browser test was collected: tests/browser/ is empty or was not run")
    if missing:
        print("a browser test was skipped: its reason is above, and here chromium must be there")
    return 1 if missing or not browser else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
