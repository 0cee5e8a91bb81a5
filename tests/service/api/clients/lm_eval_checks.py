"""EleutherAI's harness: its models that speak to a server."""

from __future__ import annotations

from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

from tests.service.api.clients.check_list import Target, check

CLIENT = "lm-eval"


def generate(model: Any, prompts: list[Any], settings: dict[str, Any]) -> list[str]:
    requests = [Instance("generate_until", {}, (prompt, settings), index) for index, prompt in enumerate(prompts)]
    return model.generate_until(requests, disable_tqdm=True)


@check(CLIENT, "chat")
def chat_model(target: Target) -> None:
    model = LocalChatCompletion(
        base_url=f"{target.url}/chat/completions", model=target.model, tokenizer_backend=None, max_retries=1
    )
    prompts = [model.apply_chat_template([{"role": "user", "content": text}]) for text in ("Hello", "What is 2 + 2?")]
    answers = generate(model, prompts, {"max_gen_toks": 12, "until": ["\n\n"]})
    assert len(answers) == 2
    assert all(answers)


@check(CLIENT, "sampling")
def stop_strings(target: Target) -> None:
    model = LocalChatCompletion(
        base_url=f"{target.url}/chat/completions", model=target.model, tokenizer_backend=None, max_retries=1
    )
    prompt = model.apply_chat_template([{"role": "user", "content": "Hello there"}])
    settings = {"max_gen_toks": 30, "until": ["e", "i"], "temperature": 0.7, "do_sample": True}
    [answer] = generate(model, [prompt], settings)
    assert not {"e", "i"} & set(answer)


@check(CLIENT, "completions")
def completions_model(target: Target) -> None:
    model = LocalCompletionsAPI(
        base_url=f"{target.url}/completions",
        model=target.model,
        tokenizer_backend=None,
        tokenized_requests=False,
        max_retries=1,
    )
    answers = generate(model, ["The list of", "A matrix is"], {"max_gen_toks": 8, "until": ["\n\n"]})
    assert all(answers)
