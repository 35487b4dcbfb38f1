"""A given solution written exactly as a line of plain text would have been: thinking, its end, the answer.

The segment's own program decides where control tokens stand, and prompt and answer's beginning come from the
functions that inference uses, so that what is taught is what `--search.method line` asks for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from llama_o1.engine.protocol import Draw, Force
from llama_o1.errors import ConfigError
from llama_o1.format.budget import BudgetPlan
from llama_o1.format.encode import Codec
from llama_o1.format.line import LineSettings, answer_ids, prompt_ids
from llama_o1.play.program import Calculator
from llama_o1.play.script import LONGEST, Script
from llama_o1.play.segment import Ending, SegmentProgram
from llama_o1.tasks.traces import Traced


class LineScripts:
    """Writes solutions as lines of plain text, for one tokenizer and one pair of delimiters."""

    def __init__(self, codec: Codec, settings: LineSettings, calculator: Calculator | None = None) -> None:
        self._codec = codec
        self._calculator = calculator
        self._settings = settings
        self._end = codec.encode_template(settings.end)
        self._ending = Ending(codec, settings.end)
        self._answer = answer_ids(settings, codec)
        self._answer_end = codec.encode_template(settings.answer_end)
        self._end_in_answer = next(
            k
            for k in range(1, len(self._answer) + 1)
            if codec.decode(self._answer[:k]).startswith(settings.end)
        )

    def __call__(self, line: Sequence[Traced], plan: BudgetPlan) -> Script:
        """The tokens of a line that thinks these thoughts, one a text line, and answers as the last one says.

        Learned are the thinking, but for what is not to be imitated, its end, and the answer with its end.
        Thinking tokens count the end that the model draws: a budget must hold it, or it would be forced.
        ConfigError where the end stands inside a thought.
        """
        (question, *_), thoughts, (conclusion, *_) = line[0], line[1:-1], line[-1]
        thinking, learned = self._think(thoughts, plan)
        kept = self._ending.begins(thinking)
        answer = [*self._codec.encode(_boxed(conclusion.text)), *self._answer_end]
        prompt = prompt_ids(question.text, self._settings, plan, self._codec)
        forced = len(self._answer) - self._end_in_answer
        return Script(
            [*prompt, *thinking[:kept], *self._answer, *answer],
            [False] * len(prompt)
            + learned[:kept]
            + [True] * self._end_in_answer
            + [False] * forced
            + [True] * len(answer),
            len(thinking),
            len(prompt),
        )

    def _think(self, thoughts: Sequence[Traced], plan: BudgetPlan) -> tuple[list[int], list[bool]]:
        """The thinking with its end as a model draws it; control tokens and results are forced."""
        wanted = deque(
            (token, imitate)
            for thought, imitate, _ in thoughts
            for token in self._codec.encode(f"{thought.text}\n")
        )
        wanted.extend((token, True) for token in self._end)
        program = SegmentProgram((), LONGEST, self._ending, plan, 0, self._calculator)
        ids: list[int] = []
        learned: list[bool] = []
        while wanted:
            step = program(ids)
            if isinstance(step, Force):
                for token in step.ids:
                    if token == wanted[0][0]:
                        wanted.popleft()
                ids += step.ids
                learned += [False] * len(step.ids)
                continue
            if not isinstance(step, Draw):
                raise ConfigError(
                    f"line.end is {self._settings.end!r}, which also stands in a solution or is its line's "
                    "end; choose a delimiter that ends the thinking only"
                )
            token, imitate = wanted.popleft()
            ids.append(token)
            learned.append(imitate)
        return ids, learned


def _boxed(text: str) -> str:
    r"""The answer of a conclusion, which `\boxed{}` or nothing stands around."""
    return text.removeprefix("\\boxed{").removesuffix("}") if text.startswith("\\boxed{") else text
