#!/usr/bin/env python3
"""pip-audit over a file of pinned packages; says how many could be asked after, and fails where one has an advisory.

pip-audit itself passes where the index has no data about a package, which a mirror never has.
"""

import json
import subprocess
import sys


def main(program: str, file: str) -> int:
    """1 if a package has an advisory, or pip-audit said what is not its report."""
    command = [
        program,
        "--require-hashes",
        "--disable-pip",
        "--format",
        "json",
        "--progress-spinner",
        "off",
        "-r",
        file,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        if "Connection" in done.stderr or "timed out" in done.stderr:
            print(f"skipped: advisories of {file}, as the index cannot be reached")
            return 0
        print(done.stderr, file=sys.stderr)
        return 1
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    found = [(package, one) for package in packages for one in package.get("vulns", ())]
    for package, one in found:
        print(f"{package['name']} {package['version']}: {one['id']}, fixed in {', '.join(one['fix_versions']) or '-'}")
    if len(unknown) == len(packages):
        print(f"skipped: advisories of the {len(packages)} packages of {file}, as this index has none (a mirror?)")
    else:
        print(f"{file}: {len(packages) - len(unknown)} asked after, {len(found)} advisories, not known: {unknown}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
