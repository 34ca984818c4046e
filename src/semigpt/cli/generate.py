"""semigpt generate"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semigpt.cli.flags import Commands, Parser, add_command
from semigpt.cli.output import note, standard_input, write_exact, write_json, write_styled
from semigpt.errors import SettingsError
from semigpt.language import _

if TYPE_CHECKING:
    from semigpt.generation.engine import Engine
    from semigpt.generation.sampling import SamplingSettings
    from semigpt.generation.stream import Chunk


def add(commands: Commands) -> None:
    sub = add_command(commands, "generate", run, _("continue a text with a trained model"))
    sub.add_argument(
        "model",
        type=Path,
        metavar="RUN",
        help=_("a run folder, a Hugging Face folder, or hf:USER/NAME on the Hub"),
    )
    sub.add_argument(
        "prompt",
        nargs="?",
        default="",
        help=_("what the text begins with; any text works, nothing too"),
    )
    sub.add_argument(
        "--max-new-tokens", type=int, default=300, help=_("how long at most (default: 300)")
    )
    sub.add_argument(
        "--temperature",
        type=float,
        default=0.8,
        help=_("0 takes the likeliest each time (default: 0.8)"),
    )
    sub.add_argument("--seed", type=int, help=_("the same seed gives the same text"))
    sub.add_argument("--num-samples", type=int, default=1, help=_("how many texts (default: 1)"))
    sub.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help=_("end before this text; may be given again"),
    )
    sub.add_argument(
        "--interactive",
        action="store_true",
        help=_("write one text in turn with the model: a line of yours, then its own; /? for help"),
    )
    sub._optionals.title = _("often")
    _add_sampling_flags(sub)
    _add_constraint_flags(sub)
    _add_output_flags(sub)
    machine = sub.add_argument_group(_("machine"))
    machine.add_argument("--device", help=_("auto (default), cpu, cuda or mps"))
    machine.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "int8"),
        default="float32",
        help=_("of the weights: float32 (default), bfloat16 or int8"),
    )
    machine.add_argument(
        "--no-native", action="store_true", help=_("PyTorch alone, without the compiled CPU loop")
    )


def _add_sampling_flags(parser: Parser) -> None:
    group = parser.add_argument_group(_("how the next token is drawn"))
    group.add_argument("--top-k", type=int, help=_("draw from the k likeliest"))
    group.add_argument(
        "--top-p", type=float, help=_("draw from the likeliest that together reach p")
    )
    group.add_argument(
        "--min-p", type=float, help=_("draw from those at least p times as likely as the likeliest")
    )
    group.add_argument(
        "--repetition-penalty",
        type=float,
        default=1.0,
        help=_("more than 1: less of what is there already"),
    )
    group.add_argument(
        "--frequency-penalty",
        type=float,
        default=0.0,
        help=_("taken off a token's logit for each time it was written"),
    )
    group.add_argument(
        "--presence-penalty",
        type=float,
        default=0.0,
        help=_("taken off a token's logit if it was written"),
    )
    group.add_argument(
        "--no-repeat-ngram-size",
        type=int,
        default=0,
        metavar="N",
        help=_("no run of N tokens comes twice"),
    )
    group.add_argument(
        "--logit-bias",
        action="append",
        default=[],
        metavar="ID=BIAS",
        help=_("added to a token's logit"),
    )
    group.add_argument(
        "--num-beams",
        type=int,
        default=1,
        metavar="N",
        help=_("the best text N parallel ones find; nothing is drawn"),
    )


def _add_constraint_flags(parser: Parser) -> None:
    group = parser.add_argument_group(_("what may be written after the prompt"))
    group.add_argument(
        "--ban",
        action="append",
        default=[],
        metavar="TEXT",
        help=_("never write this; may be given again"),
    )
    group.add_argument(
        "--pattern",
        metavar="REGEX",
        help=_("continue the prompt only with what Python's re.fullmatch takes"),
    )
    group.add_argument(
        "--choice",
        action="append",
        default=[],
        metavar="TEXT",
        help=_("continue the prompt with one of these; give it again"),
    )


def _add_output_flags(parser: Parser) -> None:
    group = parser.add_argument_group(_("input and output"))
    group.add_argument(
        "--prompt-file",
        type=Path,
        metavar="FILE",
        help=_("read the prompt there; - is standard input"),
    )
    group.add_argument(
        "--no-echo", action="store_true", help=_("print the continuation without the prompt")
    )
    group.add_argument(
        "--show",
        action="store_true",
        help=_("each character's surprise, and what else was likely"),
    )
    group.add_argument(
        "--logprobs",
        type=int,
        metavar="K",
        help=_("with --json: each token's log-probability beside the K likeliest"),
    )
    group.add_argument(
        "--json",
        action="store_true",
        help=_("print one JSON object, the prompt apart from the texts"),
    )


def run(options: argparse.Namespace) -> int:
    sampling = _sampling(options)
    if options.prompt_file is not None and options.prompt:
        raise SettingsError(_("give the prompt or --prompt-file, not both"))
    alone = not (options.json or options.num_samples > 1 or options.prompt_file is not None)
    if options.interactive and not alone:
        raise SettingsError(
            _("--interactive writes one text at a time and reads its lines from standard input")
        )
    prompt = options.prompt if options.prompt_file is None else read_prompt(options.prompt_file)
    engine = _engine(options)
    settings: dict[str, Any] = {
        "max_new_tokens": options.max_new_tokens,
        "sampling": sampling,
        "seed": options.seed,
        "num_samples": options.num_samples,
        "stop": options.stop,
        "banned": options.ban,
        "pattern": options.pattern,
        "choices": options.choice,
        "logprobs": 5 if options.logprobs is None and options.show else options.logprobs,
        "echo": not options.no_echo and not options.json,
    }
    if options.interactive:
        from semigpt.cli.interactive import converse

        converse(engine, prompt, settings, show=options.show)
        return 0
    chunks = engine.stream(prompt, **settings)
    if options.json:
        scored = settings["logprobs"] is not None
        samples = _collected(chunks, options.num_samples, scored=scored)
        answer = {"prompt": engine.normalized(prompt), "seed": options.seed, "samples": samples}
        if options.choice:
            answer["choices"] = choice_shares(engine, prompt, options.choice)
        write_json(answer)
    elif options.num_samples == 1:
        write_chunks(chunks, show=options.show)
    else:
        texts: list[list[Chunk]] = [[] for _sample in range(options.num_samples)]
        for chunk in chunks:
            texts[chunk.sample].append(chunk)
        for number, text in enumerate(texts):
            write_exact("\n---\n\n" if number else "")
            write_chunks(iter(text), show=options.show)
    if options.choice and not options.json:
        for choice, share in choice_shares(engine, prompt, options.choice).items():
            note(f"{share:6.1%}  {choice}")
    return 0


def choice_shares(engine: Engine, prompt: str, choices: Sequence[str]) -> dict[str, float]:
    """How the model's own probability is shared by the choices, the likeliest first.

    Of each whole text, prompt and choice, so that it does not matter which tokens spell the border.
    """
    from math import exp

    texts = list(dict.fromkeys(choices))
    scores = [0.0] * len(texts)
    asked = [prompt + text for text in texts]
    for chunk in engine.stream(asked, max_new_tokens=0, echo=True, logprobs=0):
        scores[chunk.sample] += sum(score.log_probability for score in chunk.scores)
    most = max(scores)
    weights = [exp(score - most) for score in scores]
    shares = ((text, weight / sum(weights)) for text, weight in zip(texts, weights, strict=True))
    return dict(sorted(shares, key=lambda share: -share[1]))


def _sampling(options: argparse.Namespace) -> SamplingSettings:
    from semigpt.generation.sampling import SamplingSettings

    names = {field.name for field in dataclasses.fields(SamplingSettings)} - {"logit_bias"}
    given = {name: value for name, value in vars(options).items() if name in names}
    return SamplingSettings(**given, logit_bias=dict(map(token_and_bias, options.logit_bias)))


def token_and_bias(text: str) -> tuple[int, float]:
    """`ID=BIAS` of --logit-bias."""
    token, _sign, bias = text.partition("=")
    try:
        return int(token), float(bias)
    except ValueError:
        raise SettingsError(
            _("--logit-bias takes ID=NUMBER, such as 17=-5, not {text!r}").format(text=text)
        ) from None


def read_prompt(path: Path) -> str:
    """The text of --prompt-file. Raises SettingsError for bytes that are no UTF-8."""
    data = standard_input().read() if str(path) == "-" else path.read_bytes()
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise SettingsError(
            _("{path} is not UTF-8 at byte {start}; save the prompt as UTF-8").format(
                path=path, start=error.start
            )
        ) from None


def _engine(options: argparse.Namespace) -> Engine:
    """The model on the device asked for, in the precision asked for, and its tokenizer."""
    from semigpt.device import pick_device
    from semigpt.generation.engine import Engine
    from semigpt.huggingface.open import open_run

    _run, model, tokenizer = open_run(options.model)
    model = model.to(pick_device(options.device or "auto"))
    native = False if options.no_native else None
    return Engine(model, tokenizer, precision=options.precision, native=native)


def _collected(chunks: Iterator[Chunk], count: int, *, scored: bool) -> list[dict[str, Any]]:
    """The samples as --json gives them."""
    samples: list[dict[str, Any]] = [
        {"text": "", "finish_reason": None} for _sample in range(count)
    ]
    for sample in samples if scored else ():
        sample["tokens"] = []
    for chunk in chunks:
        sample = samples[chunk.sample]
        sample["text"] += chunk.text
        sample["finish_reason"] = chunk.finish_reason
        if scored:
            sample["tokens"] += map(dataclasses.asdict, chunk.scores)
    return samples


def write_chunks(chunks: Iterator[Chunk], *, show: bool) -> None:
    """A text as it comes, painted by its surprise or plain."""
    if show:
        from semigpt.cli.paint import painted

        write_text = write_styled if sys.stdout.isatty() else write_exact
        for text in painted(chunks):
            write_text(text)
        return
    for chunk in chunks:
        write_exact(chunk.text)
    write_exact("\n")
