"""Write book/results/<profile>/<chapter>.json: what the book reports.

Without arguments the records come from the executed book. ``results.py FILE.jsonl CHAPTER`` takes them from a script's
run with ``CALIPERS_RECORDS=FILE.jsonl``, which is how a full run on another machine comes home.
"""

import json
import sys
from pathlib import Path

from records import ROOT, executed_chapters


def write(chapter, records):
    """Write one chapter's results, and refuse what does not deserve to be reported."""
    provenance = records[-1]["provenance"]
    if provenance["profile"] == "smoke" or provenance["offline"]:
        sys.exit(f"{chapter} ran in the smoke profile or offline, which report nothing. Run `make results` in quick.")
    broken = [record["id"] for record in records if record["holds"] is False]
    if broken:
        sys.exit(f"{chapter}: the bounds of {', '.join(broken)} do not hold. Mend the chapter or its claims first.")
    path = ROOT / "book" / "results" / provenance["profile"] / f"{chapter}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [{key: value for key, value in record.items() if key != "provenance"} for record in records]
    content = {"chapter": chapter, "seconds": provenance["seconds"], "provenance": provenance, "records": kept}
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")
    print(f"Wrote {path.relative_to(ROOT)} ({len(records)} records)")


def main(arguments):
    if arguments:
        source, chapter = arguments
        write(chapter, [json.loads(line) for line in Path(source).read_text("utf-8").splitlines()])
        return
    for chapter, records in executed_chapters().items():
        write(chapter, records)


if __name__ == "__main__":
    main(sys.argv[1:])
