"""semigpt plan"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from semigpt.cli.flags import Commands, add_command, add_json_flag
from semigpt.cli.output import write_json
from semigpt.language import N_, _

if TYPE_CHECKING:
    from semigpt.studies.plan import Plan, Quantity

HELP = N_(
    """\
Arithmetic, nothing is run: each number stands with its formula. Peaks,
bandwidths, the fraction of a peak that is reached and prices are assumptions,
listed below the table with their sources.
"""
)


def add(commands: Commands) -> None:
    sub = add_command(
        commands,
        "plan",
        run,
        _("what a training on many GPUs would take: time, memory, disk, network, cost"),
        _(HELP),
    )
    sub.add_argument(
        "--size", default="1b", help=_("as of `semigpt train`, 0.3b to 8b among them (default: 1b)")
    )
    sub.add_argument("--gpus", type=int, default=8, metavar="N", help=_("in all (default: 8)"))
    sub.add_argument(
        "--tokens", type=float, required=True, metavar="N", help=_("trained on, such as 20e9")
    )
    sub.add_argument("--gpu", default="h100", help=_("h100 (default), h200, a100 or b200"))
    sub.add_argument("--context", type=int, metavar="N", help=_("tokens (default: the size's own)"))
    sub.add_argument(
        "--vocab-size", type=int, metavar="N", help=_("tokens (default: 64,000 from 0.3b on)")
    )
    sub.add_argument(
        "--price",
        type=float,
        metavar="DOLLARS",
        help=_("of a GPU for an hour (default: a published one, where there is one)"),
    )
    add_json_flag(sub)


def run(options: argparse.Namespace) -> int:
    from semigpt.studies.plan import plan

    found = plan(
        options.size,
        options.gpus,
        options.tokens,
        gpu=options.gpu,
        context=options.context,
        vocabulary=options.vocab_size,
        price=options.price,
    )
    if options.json:
        write_json(found.as_dict())
    else:
        print_plan(options.size, found)
    return 0


def print_plan(size: str, found: Plan) -> None:
    """The table a person reads, the assumptions and the command, on standard output."""
    from rich.table import Table

    from semigpt.cli.console import output_console
    from semigpt.studies.plan import assumptions

    work, console = found.work, output_console()
    way = _("whole on each")
    if work.shards > 1:
        way = _("cut among all (FSDP)")
    if 1 < work.shards < work.gpus:
        way = _("cut among the {shards} of a machine (HSDP)").format(shards=work.shards)
    title = _("{size} on {gpus} x {name}, {tokens:,.0f} tokens, {way}").format(
        size=size, gpus=work.gpus, name=found.gpu.name, tokens=found.tokens, way=way
    )
    table = Table(title=title, title_justify="left")
    table.add_column(_("quantity"), no_wrap=True)
    table.add_column(_("value"), justify="right", no_wrap=True)
    table.add_column(_("formula"))
    for quantity in found.quantities:
        table.add_row(_(quantity.name), readable(quantity), quantity.formula)
    console.print(table)
    for remark in found.remarks:
        console.print(remark, highlight=False)
    console.print(_("assumed:"), style="bold")
    for name, given in assumptions().items():
        told = f"{name} {given['value']:g} {given['unit']} ({given['source']})"
        console.print(f"  {told}", highlight=False, markup=False)
    console.print(f"  {found.gpu.source}", highlight=False, markup=False)
    if found.price is not None and found.price == found.gpu.price:
        told = _("{price:g} $ for an hour: {source}").format(
            price=found.price, source=found.gpu.price_source
        )
        console.print(f"  {told}", highlight=False, markup=False)
    console.print(found.flags, style="cyan", soft_wrap=True, highlight=False)


def readable(quantity: Quantity) -> str:
    """A quantity for people."""
    from semigpt.cli.terminal import readable_time
    from semigpt.training.forecast import readable_bytes

    value = quantity.value
    match quantity.unit:
        case "bytes" if value >= 1e15:
            return f"{value / 1e15:,.1f} PB"
        case "bytes":
            return readable_bytes(value)
        case "s" if value >= 3 * 86_400:
            return f"{value / 86_400:,.1f} days"
        case "s" if value >= 600:
            return readable_time(value)
        case "s":
            return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"
        case unit:
            amount = f"{value:,.0f}" if value < 1e12 else f"{value:.3g}"
            return f"{amount} {unit}".rstrip()
