"""Measure the latency of the tuned model.

In: the model. Out: clock readings as timings (var/timings/evaluate.json), which are no metrics, because the same weights must give
the same bytes: tokens per second of one reply, seconds to the first token after a short prompt and after one that fills half of the
window. Medians of several runs after one to warm up. Its size is a metric of the stage itself.
"""

from __future__ import annotations

from model.tokenizer.chat import Message, encode_prompt
from pipeline.evaluate import measure
from pipeline.evaluate.task import Context, Measured, Task
from pipeline.frame.timings import report_timings

QUESTION = "What does numpy.linalg.norm do?"


def measure_latency(context: Context) -> Measured:
    """Report the timings; they are no metrics."""
    model, tokenizer = context.tuned
    prompt = encode_prompt([Message.of("user", QUESTION)], tokenizer)
    speed = measure.measure_speed(model, prompt)
    long = (prompt * (model.config.seq_len // len(prompt) + 1))[: model.config.seq_len // 2]
    report_timings(
        **speed._asdict(), long_prompt_first_token_seconds=measure.measure_speed(model, long).first_token_seconds
    )
    return Measured()


SPEED = Task("speed", measure_latency)
