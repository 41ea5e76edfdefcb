"""The gallery: runs every study at one preset, and writes ``docs/gallery.md`` with thumbnails of what they found.

``python docs/gallery.py`` from the top of the repository, with Chromium on the path, which draws the charts. Run folders are
kept in ``runs/gallery``; what is finished there is not run again, so an interrupted gallery goes on where it was.
"""

from __future__ import annotations

import argparse
import html
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

DOCS = Path(__file__).resolve().parent
TOP = DOCS.parent
PICTURES, PAGE = DOCS / "gallery", DOCS / "gallery.md"
SHOWN = 2  # figures of each study
WIDTH, HEIGHT = 560, 420  # of a thumbnail, at most, in pixels
# What people run needs more words than a study's name.
WORDS = {
    "main/explain": "explain --model assets/unet-a --data fashion-mnist",
    "main/audit": "audit --model assets/unet-10-a --data fashion-mnist",
    "main/attribute": "attribute --model assets/unet-1000-a --data fashion-mnist --seed 3",
    "main/train": "train --data fashion-mnist --arch unet --size 1000",
    "main/transition": "demo",
}
HEADINGS = {
    "main": "What people run",
    "niedoba2025": "Locality (Niedoba et al. 2025)",
    "kadkhodaie2024": "Adaptive shrinkage (Kadkhodaie et al. 2024)",
    "vastola2025": "Variance (Vastola 2025)",
}
THEORIES = {"niedoba2025": "locality", "kadkhodaie2024": "shrinkage", "vastola2025": "variance"}
WORD = {"holds": "hold", "fails": "fail", "not tested": "not tested at this size"}


def names() -> list[str]:
    """All studies, papers in the order of the page."""
    from scorescope.foundation.catalogue import listed

    papers = list(HEADINGS)
    return sorted(
        listed("studies"),
        key=lambda name: papers.index(name.split("/")[0]) if name.split("/")[0] in papers else len(papers),
    )


def command(name: str, preset: str) -> str:
    """The command line that makes the figures of a study."""
    return f"scorescope {WORDS.get(name, f'reproduce {name}')} --preset {preset}"


def run(name: str, preset: str, folder: Path) -> None:
    """Run a study, or go on with it; nothing if it is finished.

    Raises:
        SystemExit: the command failed.
    """
    from scorescope.app.checks import check_run_folder
    from scorescope.foundation import UserError

    try:
        check_run_folder(folder)
    except UserError:
        return
    words = [sys.executable, "-m", *command(name, preset).split(), "--out", str(folder)]
    done = subprocess.run(words, cwd=TOP, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr.strip().splitlines()[-1]}")


def drawn(files: Sequence[Path]) -> Iterator[Image.Image]:
    """Charts and pictures at the size of a thumbnail."""
    browser = next(
        (found for word in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(word))), None
    )
    if browser is None:
        sys.exit("docs/gallery.py draws charts with Chromium, which is not on the path")
    with tempfile.TemporaryDirectory() as scratch:
        page, shot = Path(scratch) / "page.html", Path(scratch) / "shot.png"
        tiles = "".join(f'<div><img src="{file.resolve().as_uri()}"></div>' for file in files)
        style = f"body{{margin:0}} div{{width:{WIDTH}px;height:{HEIGHT}px}} img{{width:100%;height:100%;object-fit:contain}}"
        page.write_text(f"<!doctype html><style>{style} img{{object-position:0 0}}</style>{tiles}", encoding="utf-8")
        words = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={scratch}/profile",
        ]
        words += [f"--screenshot={shot}", f"--window-size={WIDTH},{HEIGHT * len(files)}", page.as_uri()]
        subprocess.run(words, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        with Image.open(shot) as sheet:
            for number in range(len(files)):
                yield trimmed(sheet.convert("RGB").crop((0, HEIGHT * number, WIDTH, HEIGHT * (number + 1))))


def trimmed(picture: Image.Image) -> Image.Image:
    """Without the white to the right and below."""
    box = picture.convert("L").point(lambda level: 255 if level < 250 else 0).getbbox()
    return picture.crop((0, 0, box[2], box[3])) if box else picture


def shown(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a study found, and the figures that stand for it: its first ones."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    figures = sorted(results["figures"], key=lambda figure: figure["folded"])
    return results, figures[:SHOWN]


def verdict(results: dict[str, Any]) -> str:
    """What became of the claims, in one line that opens to all of them."""
    ruled = [f"{one['label']}: {one['state']}" for one in results["verdicts"]]
    kinds = Counter(
        "not tested" if one["verdict"].startswith("not tested") else one["verdict"] for one in results["claims"]
    )
    counted = [f"{kinds[kind]} {WORD[kind]}" for kind in WORD if kinds[kind]]
    summary = "; ".join(
        filter(None, [", ".join(ruled), f"of {len(results['claims'])} claims {', '.join(counted)}" if counted else ""])
    )
    items = "".join(
        f"<li><b>{html.escape(one['verdict'])}</b>: {html.escape(one['sentence'])}</li>" for one in results["claims"]
    )
    if not items:
        return f"<p><b>{html.escape(summary)}</b></p>" if summary else ""
    return f"<details><summary><b>{html.escape(summary)}</b></summary><ul>{items}</ul></details>"


def entry(name: str, preset: str, folder: Path) -> str:
    """The part of the page that shows a study; its thumbnails are written."""
    results, figures = shown(folder)
    key = name.replace("/", "-")
    files = [folder / "figures" / f"{one['key']}{one['suffix']}" for one in figures]
    lines = [f"### {name}\n", f"*{results['question']}*\n"]
    pictures = []
    for figure, thumbnail in zip(figures, drawn(files), strict=True):
        target = PICTURES / f"{key}-{figure['key']}.webp"
        data = io.BytesIO()
        thumbnail.save(data, "webp", quality=72, method=6)
        target.write_bytes(data.getvalue())
        alt = html.escape(figure["title"].replace("\n", " "), quote=True)
        pictures.append(f'<img src="gallery/{target.name}" alt="{alt}" width="{thumbnail.width}" loading="lazy">')
    lines.append(f'<p class="thumbnails">{"".join(pictures)}</p>\n')
    lines.append(f"{html.escape(' '.join(results['headline'].split()), quote=False)}\n")
    lines += [f"{verdict(results)}\n", f"`{command(name, preset)}`\n"]
    return "\n".join(lines)


def write(found: dict[str, str], preset: str) -> None:
    """The page."""
    lines = [
        "# Gallery\n",
        f"Every study at preset `{preset}`, made by `python docs/gallery.py`: networks that are trained for seconds on a few"
        " small images, so that all of it can be made again in minutes. It shows the first figures of each page; the verdicts"
        " are those of these small runs, and most claims say that this size is too small to test them. What the networks that"
        " come along give at preset `small` stands in [what it finds](findings.md).\n",
    ]
    for paper, heading in HEADINGS.items():
        lines.append(f"## {heading}\n")
        if paper in THEORIES:
            lines.append(f"The theory: [{THEORIES[paper]}](theory/{THEORIES[paper]}.md).\n")
        lines += [text for name, text in found.items() if name.startswith(f"{paper}/")]
    rest = [text for name, text in found.items() if name.split("/")[0] not in HEADINGS]
    lines += (
        [
            "## Beyond the papers\n",
            "What is measured there: [protocols](protocols.md), [newer measurements](newer.md).\n",
            *rest,
        ]
        if rest
        else []
    )
    PAGE.write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Run, draw and write."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--preset", default="tiny")
    words.add_argument("--runs", type=Path, default=TOP / "runs" / "gallery")
    asked = words.parse_args()
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir()
    found = {}
    for name in names():
        folder = asked.runs / name.replace("/", "-")
        print(name, flush=True)
        run(name, asked.preset, folder)
        found[name] = entry(name, asked.preset, folder)
    write(found, asked.preset)


if __name__ == "__main__":
    main()
