"""Run the checks of one client and print the results as JSON: name → what failed."""

from __future__ import annotations

import argparse
import importlib
import json
import sys

from tests.service.api.clients.check_list import Target, run_checks

MODULES = {
    "openai": "openai_checks",
    "openai for Node": "node_checks",
    "LangChain": "langchain_checks",
    "LiteLLM": "litellm_checks",
    "lm-eval": "lm_eval_checks",
    "llm": "llm_checks",
    "curl": "curl_checks",
}


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=MODULES)
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--model", default="minigpt")
    parser.add_argument("--key", default="mg-none")
    args = parser.parse_args(argv)
    importlib.import_module(f"tests.service.api.clients.{MODULES[args.client]}")
    results = run_checks(args.client, Target(args.url, args.model, args.key))
    print(json.dumps(results))
    n_failed = sum(bool(problem) for problem in results.values())
    print(f"{len(results) - n_failed} of {len(results)}", file=sys.stderr)
    return int(n_failed > 0)


if __name__ == "__main__":
    sys.exit(main())
