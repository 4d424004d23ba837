"""The command ``stm-skeletons bench predict``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from stm_skeletons.libraries import need


def predict(
    bundle: Annotated[str, typer.Argument(help="Shipped model or folder of a bundle.")],
    device: Annotated[
        list[str],
        typer.Option(
            help="Device to predict for: orin-nano-8gb, orin-nano-8gb-super, orin-nx-16gb, agx-orin, agx-xavier, "
            "jetson-thor, rtx-a2000 or rtx-a4000. Repeat it for several devices."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder to write predict.json and predict.md to.")] = None,
) -> None:
    """Predict a bundle's speed on a device, from its graphs and published peak rates. This is not a measurement.

    The host's work is timed on one core of this machine and scaled to the device's processor.
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
    predictions = predict_bundle(Bundle.open(bundle), device)
    shown = tables(predictions)
    show(shown)
    if out is None:
        return
    make_folder(out)
    with atomic_write(out / "predict.json") as partial:
        partial.write_text(json.dumps([each.model_dump() for each in predictions], indent=1) + "\n", encoding="utf-8")
    with atomic_write(out / "predict.md") as partial:
        partial.write_text("\n\n".join(table.section() for table in shown) + "\n", encoding="utf-8")
    print(f"wrote {out}")
