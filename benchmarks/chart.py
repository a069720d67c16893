"""The ratios of a run as a chart, readable on a white page and on a black one."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import OURS, Figure, number

_TEXT, _OURS, _MISSED, _LINE = "#24292f", "#2f81f7", "#db6d28", "#8b949e"
#: The same file on a dark page: only the browser knows which one it is on.
_DARK = (
    "<style>@media (prefers-color-scheme: dark) {"
    f'[style*="fill: {_TEXT}"] {{ fill: #e6edf3 !important }} '
    f'[style*="stroke: {_TEXT}"] {{ stroke: #e6edf3 !important }}'
    "}</style>"
)


def draw(figures: Sequence[Figure], path: Path) -> None:
    """Write a bar for each of our ratios, and its target, as SVG or PNG by the file's name.

    Nothing is written when no figure has a ratio.
    """
    # Here: a chart is the only thing that needs it, and it takes a second to import.
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "rag-worker"  # the same figures give the same file
    from matplotlib import pyplot as plt

    shown = [one for one in figures if one.contender.startswith(OURS) and one.ratio is not None]
    if not shown:
        return
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(shown) + 1.1))
    for place, one in enumerate(reversed(shown)):
        ratio = one.ratio or 0.0
        axes.barh(place, ratio, height=0.6, color=_MISSED if one.is_missed else _OURS)
        axes.annotate(
            f" {number(ratio)}", (max(ratio, 1.0), place), va="center", fontsize=9, color=_TEXT
        )
        if one.target is not None:
            axes.plot([one.target] * 2, [place - 0.38, place + 0.38], color=_TEXT, linewidth=2)
    axes.axvline(1.0, color=_LINE, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(shown)), [_label(one) for one in reversed(shown)], fontsize=8)
    axes.set_xscale("log")
    ratios = [one.ratio or 1.0 for one in shown]
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if tick <= max(ratios) * 2]
    least = min([0.5, *(ratio * 0.8 for ratio in ratios)])
    axes.set_xticks([tick for tick in ticks if tick >= least], minor=False)
    axes.set_xlim(least, max([2.0, *ratios]) * 1.6)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.minorticks_off()
    axes.set_xlabel("times as good as the other (dashed: equal; bold mark: the target)", fontsize=9)
    axes.tick_params(colors=_TEXT, length=0)
    axes.xaxis.label.set_color(_TEXT)
    axes.set_frame_on(False)
    figure.savefig(path, transparent=True, bbox_inches="tight", metadata=_metadata(path))
    plt.close(figure)
    if path.suffix == ".svg":
        _adapt(path)


def _label(one: Figure) -> str:
    variant = one.contender.removeprefix(OURS).strip(" ,")
    return f"{one.work}{f' ({variant})' if variant else ''}\nagainst {one.against}"


def _metadata(path: Path) -> dict[str, None]:
    return {"Date": None} if path.suffix == ".svg" else {}


def _adapt(path: Path) -> None:
    head, end, rest = path.read_text("utf-8").partition("<defs>")
    path.write_text(f"{head}{_DARK}{end}{rest}", "utf-8")
