"""Does a guess change a byte? Requests of all kinds, with guesses and without, alone and among 15 others: the answers must be equal.

    speculation.py [--requests N] [--speculate HOW] [--draft-model FILE]

Each request is greedy or at temperature 0.8, with penalties, a schema, stop strings or log probabilities, and a prompt that repeats itself, so that there
is something to guess. Choices are compared as they came over the wire: text, finish reason, log probabilities with all their digits.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor

from checks import MODEL, check, run
from server import Server, call

SCHEMA = {
    "type": "object", "additionalProperties": False, "required": ["name", "city", "tags"],
    "properties": {
        "name": {"type": "string", "maxLength": 12}, "city": {"enum": ["London", "Warsaw", "Vienna"]},
        "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 3},
    },
}
KINDS = [
    {"temperature": 0},
    {"temperature": 0.8},
    {"temperature": 0.8, "presence_penalty": 0.7, "frequency_penalty": 0.3},
    {"temperature": 0, "response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}},
    {"temperature": 0.8, "stop": ["\n\n", "7"]},
    {"temperature": 0, "logprobs": 3},
    {"temperature": 0.8, "logprobs": 2, "n": 2},
]


def request(k, speculate):
    lines = "\n".join(f"{i}. the {word} of house {i + k}" for i, word in enumerate(["door", "roof", "wall", "gate"] * 3))
    return {
        "model": MODEL, "prompt": f"List {k}:\n{lines}\n\nThe same list again:\n{lines[:40]}", "max_tokens": 24 + k % 9, "seed": k,
        "speculate": speculate, **KINDS[k % len(KINDS)],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=42)
    parser.add_argument("--draft-model", help="guesses tokens, beside those that stood in prompt and answer before")
    parser.add_argument("--speculate", default="auto", help="lookup guesses more, and more that is wrong")
    given = parser.parse_args()
    n, drafted = given.requests, []
    draft = ["--draft-model", given.draft_model] if given.draft_model else []
    with Server("--speculate", given.speculate, "--slots", "16", "--queue", "600", *draft) as server:

        def ask(k, speculate):
            status, answer = call("POST", server.url + "/v1/completions", request(k, speculate))
            assert status == 200, (status, answer)
            timings = answer.get("timings", {})
            drafted.append((speculate, timings.get("draft_n", 0), timings.get("draft_n_accepted", 0)))
            return json.dumps(answer["choices"])

        def answers(speculate, at_once):
            with ThreadPoolExecutor(at_once) as pool:
                return list(pool.map(lambda k: ask(k, speculate), range(n)))

        base = []

        def equal(speculate, at_once):
            found = answers(speculate, at_once)
            others = [k for k in range(n) if found[k] != base[k]]
            assert not others, (others, base[others[0]], found[others[0]])
            return f"{n} answers"

        @check
        def answers_without_guesses_are_there():
            base.extend(answers(False, 1))
            return f"{n} answers"

        @check
        def guesses_change_no_answer():
            return equal(True, 1)

        @check
        def guesses_among_15_others_change_no_answer():
            return equal(True, 16)

        @check
        def fifteen_others_change_no_answer():
            return equal(False, 16)

        @check
        def tokens_were_guessed_but_where_the_request_says_no():
            guessed, accepted = (sum(one[i] for one in drafted if one[0]) for i in (1, 2))
            assert 0 < accepted <= guessed, (guessed, accepted)
            assert not any(one[1] for one in drafted if not one[0])
            return f"{guessed} guessed, {accepted} right"

        run()


main()
