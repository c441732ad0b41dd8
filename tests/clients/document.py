"""Does the server hold what its GET /openapi.json says? schemathesis makes requests from it, good and bad, with a fixed seed.

No answer may be a 5xx, and status, content type and body must be ones that the document names.
"""

import os
import subprocess
import sys
import tempfile

from checks import URL, check, run
from server import call

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@check
def answers_are_the_ones_the_document_names():
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", URL + "/openapi.json", "--checks", CHECKS, "--seed", "1",
            "--max-examples", os.environ.get("WORKER_ORCD_EXAMPLES", "25"), "--phases", "examples,coverage,fuzzing", "--workers", "4",
            "--exclude-path", "/shutdown", "--request-timeout", "60", "--no-color", "--generation-database", "none",
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, "\n" + done.stdout[-6000:]
    return next((line.strip() for line in done.stdout.splitlines() if "generated" in line), "")


@check
def the_server_is_still_well():
    assert call("GET", URL + "/health")[0] == 200


if __name__ == "__main__":
    run()
