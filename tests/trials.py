"""Trials made by hand, for tests of what is done with them."""

from llama_o1.measure.trial import Found, Point, Trial, Work


def trial(problem="p", method="m", verdict="correct", **given):
    """A trial with everything that is not given at a plain value."""
    answer = given.get("answer", "7" if verdict == "correct" else "8" if verdict == "wrong" else None)
    plain = {
        "set": "s",
        "question": "00000000",
        "budget": 100,
        "seed": 0,
        "answer": answer,
        "confidence": 1.0,
        "tokens": 50,
        "sampled": 30,
        "forced": 20,
        "failed": 0,
        "prefilled": 9,
        "cached": 1,
        "seconds": 2.0,
        "nodes": 3,
        "events": 0,
        "thinking": 20,
        "answer_tokens": 5,
        "ended": True,
        "stopped": None,
        "curve": (Point(50, answer, verdict),),
        "found": (Found(answer, 1, verdict),),
        "work": Work(
            seconds=0.5, sampled=30, forced=20, prefilled=9, cached=1, steps=10, slot_steps=20, slots=4
        ),
    }
    return Trial(problem=problem, method=method, verdict=verdict, **{**plain, **given})


def by_key(trials):
    """As a ledger holds them."""
    return {one.key: one for one in trials}
