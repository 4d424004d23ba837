"""``stm-skeletons bench predict``: what a bundle's speed should be on a device that is not at hand."""

import json
from pathlib import Path
from typing import Annotated

import typer

from stm_skeletons.libraries import need


def predict(
    bundle: Annotated[str, typer.Argument(help="A bundle's folder, or a shipped model's name.")],
    device: Annotated[
        list[str],
        typer.Option(
            help="orin-nano-8gb, orin-nano-8gb-super, orin-nx-16gb, agx-orin, agx-xavier, jetson-thor, rtx-a2000 or "
            "rtx-a4000. May be given several times."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for predict.json and predict.md; none without.")] = None,
) -> None:
    """Predict a bundle's speed from its graphs and published peak rates. A prediction, not a measurement.

    What the host does besides is timed here, on one core, and carried over to the device's processor.
    """
    need("bench predict", "onnx")
    from benchmarks.predict.predict import predict as predict_bundle
    from benchmarks.predict.predict import tables
    from benchmarks.run.bench_files import check_folder
    from stm_skeletons.bundle import Bundle
    from stm_skeletons.files import atomic_write, make_folder
    from stm_skeletons.table import show

    if out is not None:
        check_folder(out)
    found = predict_bundle(Bundle.open(bundle), device)
    shown = tables(found)
    show(shown)
    if out is None:
        return
    make_folder(out)
    with atomic_write(out / "predict.json") as partial:
        partial.write_text(json.dumps([one.model_dump() for one in found], indent=1) + "\n", encoding="utf-8")
    with atomic_write(out / "predict.md") as partial:
        partial.write_text("\n\n".join(table.section() for table in shown) + "\n", encoding="utf-8")
    print(f"wrote {out}")
