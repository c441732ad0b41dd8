"""Does the server hold what its GET /openapi.json says? schemathesis makes requests from it, good and bad, with a fixed seed.

No answer may be a 5xx, but for 504 where a request's time is over, which a request can ask for; status, content type and body, or each event of a
stream, must be ones that the document names. Answers are short here: what is tried is the requests.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from checks import check, run
from server import Server

SETTINGS = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "4xx", "504"]
"""
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@check
def answers_are_the_ones_the_document_names():
    with Server("--max-tokens-out", "4", "--queue", "600") as server, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "schemathesis.toml").write_text(SETTINGS)
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", server.url + "/openapi.json", "--checks", CHECKS, "--seed", "1",
            "--max-examples", "20", "--phases", "examples,coverage,fuzzing", "--workers", "1", "--request-timeout", "120",
            "--exclude-path", "/shutdown", "--no-color", "--generation-database", "none",
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
        if done.returncode != 0:
            print(done.stdout[-12000:], done.stderr[-2000:])
        assert done.returncode == 0, f"schemathesis ended with {done.returncode}"
        assert server.health()[0] == 200
        return next((line.strip() for line in done.stdout.splitlines() if "generated" in line), "")


if __name__ == "__main__":
    run()
